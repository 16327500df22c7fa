"""A worker as the driver sees it: hired, greeted, given the model, at work, lost."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from workbench.cluster.actor import Actor
from workbench.cluster.wish import Wish
from workbench.errors import WorkbenchError, shown
from workbench.studies.parts import Part, Work

RESTARTS = 3
"""How often the place of a worker that ended is filled again, and how many workers a part may end."""

State = Literal["starting", "loading", "ready", "ended"]


@dataclass(frozen=True)
class Errand:
    """What a worker was asked for: `greet`, `load`, or `make` with its parts."""

    kind: str
    parts: tuple[Part, ...] = ()


@dataclass(eq=False)
class Seat:
    """One worker's place.

    Attributes:
        number: from 1.
        handle: Ray's handle of the actor.
        state: where it is; `ended` is not filled again.
        errands: what it was asked for and has not answered, oldest first.
        greeting: where it runs and which versions; empty before it has said so.
        since: when it was hired, monotonic.
        parts: parts that it has made.
        cells: cells that these left.
        note: what it does now.
        restarts: how often the place was filled again.
        sent: numbers of the works that it has been given.
    """

    number: int
    handle: Any = None
    state: State = "starting"
    errands: dict[Any, Errand] = field(default_factory=dict)
    greeting: Mapping[str, Any] = field(default_factory=dict)
    since: float = 0.0
    parts: int = 0
    cells: int = 0
    note: str = ""
    restarts: int = 0
    sent: set[int] = field(default_factory=set)

    @property
    def name(self) -> str:
        """What it is called in sentences."""
        where = f" ({self.greeting['host']}, process {self.greeting['pid']})" if self.greeting else ""
        return f"worker {self.number}{where}"

    def row(self) -> dict[str, Any]:
        """What the Jobs page shows of it."""
        return {
            "worker": self.number,
            "host": self.greeting.get("host"),
            "pid": self.greeting.get("pid"),
            "state": "working" if self.state == "ready" and self.errands else self.state,
            "parts": self.parts,
            "cells": self.cells,
            "restarts": self.restarts,
            "note": self.note,
        }

    def hire(self, ray: Any, wish: Wish, seed: int) -> None:
        """Ask Ray for a process, and it for its versions; it comes when there is room."""
        options = ray.remote(Actor).options(num_cpus=1, num_gpus=wish.gpus, max_restarts=0, max_task_retries=0)
        self.handle = options.remote(wish.threads or 1, seed)
        self.state, self.since, self.greeting = "starting", time.monotonic(), {}
        self.errands = {self.handle.greet.remote(): Errand("greet")}
        self.note, self.sent = "waits for a place", set()

    def ask(self, number: int, work: Work, parts: tuple[Part, ...], known: Mapping[str, Any]) -> None:
        """Give it parts; the work travels with the first of them."""
        sent = None if number in self.sent else work
        self.sent.add(number)
        asks = [part.ask for part in parts]
        self.errands[self.handle.make.remote(number, sent, asks, known)] = Errand("make", parts)

    def dismiss(self, ray: Any) -> list[Errand]:
        """End the process at once; returns what it had not answered, oldest first."""
        left, self.errands = list(self.errands.values()), {}
        if self.handle is not None:
            ray.kill(self.handle, no_restart=True)
            self.handle = None
        return left


def check_greeting(seat: Seat) -> None:
    """Refuse a worker of other versions: its cells would not be those that this program makes.

    Raises:
        WorkbenchError: it has another version of the project, or another one of its studies.
    """
    from workbench import __version__
    from workbench.vocabulary import STUDY_VERSION

    told = seat.greeting
    for what, theirs, ours in (
        ("version", told["version"], __version__),
        ("study version", told["study_version"], STUDY_VERSION),
    ):
        if theirs != ours:
            raise WorkbenchError(
                f"{seat.name} has {what} {theirs} of the workbench and this program has {ours}; install the same one on"
                " every machine"
            )


def check_model(seat: Seat, answer: Mapping[str, Any], name: str, digest: str) -> None:
    """Refuse a worker without the model, or with another one under its name.

    Raises:
        WorkbenchError: one of the two.
    """
    if "refused" in answer:
        raise WorkbenchError(f"{seat.name} cannot open the model: {answer['refused']}")
    if answer["digest"] != digest:
        raise WorkbenchError(
            f"{seat.name} has another model under the name {shown(name)}: its digest is {answer['digest']}, here it is"
            f" {digest}; copy or share the same files on every machine"
        )
