"""Options that go together: what Typer reads, and what the command is given."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated

import typer

from workbench.cli import app
from workbench.cli.grouping import grouped

Size = Annotated[int, typer.Option("--size")]


@dataclass(frozen=True)
class Box:
    """Two options."""

    name: Annotated[str, typer.Argument()]
    size: Size = 3


@dataclass(frozen=True)
class Lid(Box):
    """One more."""

    closed: Annotated[bool, typer.Option("--closed")] = False


def test_a_group_stands_for_its_fields() -> None:
    given: list[tuple[Lid, int]] = []

    @grouped
    def pack(lid: Lid, times: Annotated[int, typer.Option("--times")] = 1) -> None:
        """Put it in."""
        given.append((lid, times))

    program = typer.Typer(add_completion=False)
    program.command()(pack)
    program(args=["a", "--size", "7", "--closed", "--times", "2"], standalone_mode=False)
    program(args=["b"], standalone_mode=False)
    assert given == [(Lid("a", 7, True), 2), (Lid("b"), 1)]
    assert list(inspect.signature(pack).parameters) == ["name", "size", "closed", "times"]
    assert pack.__doc__ == "Put it in."


def test_a_word_means_the_same_wherever_it_stands() -> None:
    """An option of one name has one help text in all commands that read a text, a model or a budget of memory."""
    shared = ("model", "calibration", "text", "tokens", "window", "plan", "seed", "threads", "memory_limit")
    found: dict[str, set[str]] = {name: set() for name in shared}
    for one in app.registered_commands:
        assert one.callback is not None
        for name, parameter in inspect.signature(one.callback).parameters.items():
            if name in shared and one.callback.__name__ != "export":  # whose plan is what it is about
                found[name].add(str(parameter.annotation) + str(parameter.default))
    assert {name: len(texts) for name, texts in found.items()} == dict.fromkeys(shared, 1)
