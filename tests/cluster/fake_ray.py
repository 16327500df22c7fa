"""Ray's words without Ray: actors are objects of this process, and everything that would be sent is pickled.

An actor can be told to die before it answers its n-th call of `make`.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any


class RayError(Exception):
    pass


class RayTaskError(RayError):
    pass


@dataclass(eq=False)
class Ref:
    handle: Handle
    call: Callable[[], Any]
    name: str


@dataclass(eq=False)
class Handle:
    ray: FakeRay
    held: Any
    number: int
    dead: bool = False

    def __getattr__(self, name: str) -> Any:
        def remote(*arguments: Any) -> Ref:
            sent = pickle.loads(pickle.dumps(arguments))
            return Ref(self, lambda: getattr(self.held, name)(*sent), name)

        return SimpleNamespace(remote=remote)


@dataclass
class FakeRay:
    """`dies` names, by number of the actor from 0, the call of `make` before which it dies; -1 for all of them."""

    dies: dict[int, int] = field(default_factory=dict)
    cpus: float = 2
    handles: list[Handle] = field(default_factory=list)
    made: dict[int, int] = field(default_factory=dict)
    waits: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    exceptions: Any = field(default_factory=lambda: SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError))

    def is_initialized(self) -> bool:
        return True

    def put(self, value: Any) -> Any:
        return value

    def remote(self, cls: type) -> Any:
        def hire(*arguments: Any) -> Handle:
            self.handles.append(Handle(self, cls(*arguments), len(self.handles)))
            return self.handles[-1]

        def options(**given: Any) -> Any:
            self.options = given
            return SimpleNamespace(remote=hire)

        return SimpleNamespace(options=options)

    def kill(self, handle: Handle, no_restart: bool = True) -> None:
        handle.dead = True

    def wait(self, refs: list[Ref], num_returns: int, timeout: float) -> tuple[list[Ref], list[Ref]]:
        self.waits += 1
        first = list({ref.handle.number: ref for ref in reversed(refs)}.values())  # an actor answers in order
        return [first[self.waits % len(first)]], []  # workers take turns, so that all of them make something

    def get(self, ref: Ref) -> Any:
        number = ref.handle.number
        if ref.name == "make":
            self.made[number] = self.made.get(number, 0) + 1
            if self.dies.get(number) in (self.made[number], -1):
                ref.handle.dead = True
        if ref.handle.dead:
            raise RayError("The actor died unexpectedly before finishing this task.\nmore lines")
        return pickle.loads(pickle.dumps(ref.call()))

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": self.cpus}}]

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": self.cpus}
