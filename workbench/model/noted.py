"""What the modules of a model did in one forward, and which of them need not run again when one matrix is changed.

A change reaches a module only through what the module is called with, so three rules tell what stays as it was:

- a module that had ended when the matrix's own module began returns what it returned;
- so does one that began later and is called with the very tensor that it was called with: the keys beside a changed
  query, a parallel feed-forward beside a changed attention, an expert beside a changed one;
- a module that hands on the output of the matrix's own one as it is (an attention ending in its output projection)
  returns what that makes of what it was given, so that nothing in front of the matrix runs.

Nothing is known of a module but its calls, so that they hold for any family. They trust a module to return the same for
the same and to leave no other trace than its output; whether its tensors were written into afterwards is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from workbench.model.blocks import Block

Forward = Callable[..., Any]


@dataclass(eq=False)
class Ran:
    """How a module ran: when it began and ended, how often, with which single tensor, and what it returned."""

    begun: int
    ended: int = -1
    times: int = 0
    given: Tensor | None = None
    given_version: int = 0
    output: Any = None
    version: int = 0

    @property
    def can_replay(self) -> bool:
        """Whether what it returned is still what it would return."""
        return self.times == 1 and self.ended >= 0 and self.version == _version(self.output)

    def is_given(self, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> bool:
        """Whether a call hands it the very tensor that it had, and nobody wrote into that."""
        same = self.given is not None and not keywords and len(arguments) == 1 and arguments[0] is self.given
        return same and _version(self.given) == self.given_version


class Notes:
    """The notes of one forward.

    Args:
        modules: those to look at, by path.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self._modules = modules
        self._ran: dict[str, Ran] = {}
        self._hands_on: dict[str, tuple[str, tuple[Any, ...] | None]] = {}

    @contextmanager
    def taking(self) -> Iterator[None]:
        """Take notes in a `with` block."""
        clock, handles = iter(range(1 << 62)), []
        for path, module in self._modules.items():
            begin, end = self._hooks(path, clock)
            handles.append(module.register_forward_pre_hook(begin, with_kwargs=True))
            handles.append(module.register_forward_hook(end))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hooks(self, path: str, clock: Iterator[int]) -> tuple[Callable[..., None], Callable[..., None]]:
        def begin(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            one = self._ran.setdefault(path, Ran(next(clock)))
            one.times += 1
            if not keywords and len(arguments) == 1 and isinstance(arguments[0], Tensor):
                one.given, one.given_version = arguments[0], _version(arguments[0])

        def end(module: nn.Module, arguments: Any, output: Any) -> None:
            one = self._ran[path]
            one.ended, one.output, one.version = next(clock), output, _version(output)

        return begin, end

    def of(self, path: str) -> Ran | None:
        """How a module ran, if it did."""
        return self._ran.get(path)

    def keep(self, block: Block) -> None:
        """Keep what a change of the block's matrices needs, and drop the rest."""
        own = {matrix.module for matrix in block.matrices if matrix.module in self._ran}
        last = max((self._ran[path].begun for path in own), default=-1)
        before = [one for one in self._ran.values() if one.ended < last and one.can_replay]
        shared = {id(one.output) for one in before}
        self._hands_on = {path: found for path in own if (found := self._above(path)) is not None}
        for path, one in self._ran.items():
            again = one.given is not None and id(one.given) in shared and _is_within(path, block.path)
            if not again and path not in self._hands_on:
                one.given = None
            if not again and not one.ended < last:
                one.output = None

    def _above(self, path: str) -> tuple[str, tuple[Any, ...] | None] | None:
        """The outermost module that hands on another one's output, and what else it returns; None for a bare tensor."""
        one, found = self._ran[path], None
        if one.times != 1 or one.given is None or not isinstance(one.output, Tensor):
            return None
        while "." in path:
            path = path.rpartition(".")[0]
            outer = self._ran.get(path)
            if outer is None or not outer.can_replay or _version(one.output) != one.version:
                continue
            if outer.output is one.output:
                found = path, None
            elif isinstance(outer.output, tuple) and outer.output and _is_headed(outer.output, one.output):
                found = path, outer.output[1:]
        return found

    def stand_ins(self, path: str) -> dict[str, Forward]:
        """What stands for the forwards of other modules when a matrix of this one is changed, by their paths."""
        own = self._ran.get(path)
        if own is None:
            return {}  # an expert that these tokens do not reach
        found: dict[str, Forward] = {}
        for other, one in self._ran.items():
            if one.output is None or not one.can_replay or _is_within(path, other) or _is_within(other, path):
                continue
            if one.ended < own.begun:
                found[other] = giver(one.output)
            elif one.begun > own.begun and one.given is not None:
                found[other] = _asker(one, self._modules[other].forward)
        if path in self._hands_on and own.given is not None and _version(own.given) == own.given_version:
            outer, rest = self._hands_on[path]
            found[outer] = _caller(self._modules[path], own.given, rest)
        return {one: forward for one, forward in found.items() if not any(outer in found for outer in _outside(one))}


def giver(output: Any) -> Forward:
    """A forward that returns what it is told to."""
    return lambda *arguments, **keywords: output


def _asker(one: Ran, forward: Forward) -> Forward:
    def ask(*arguments: Any, **keywords: Any) -> Any:
        known = one.is_given(arguments, keywords) and one.can_replay
        return one.output if known else forward(*arguments, **keywords)

    return ask


def _caller(module: nn.Module, given: Tensor, rest: tuple[Any, ...] | None) -> Forward:
    def call(*arguments: Any, **keywords: Any) -> Any:
        output = module(given)
        return output if rest is None else (output, *rest)

    return call


def _is_headed(output: tuple[Any, ...], head: Tensor) -> bool:
    """Whether a tuple is led by a tensor and nothing else in it can depend on it."""
    return output[0] is head and type(output) is tuple and all(one is None for one in output[1:])


def _is_within(path: str, other: str) -> bool:
    return path == other or path.startswith(f"{other}.")


def _outside(path: str) -> Iterator[str]:
    while "." in path:
        path = path.rpartition(".")[0]
        yield path


def _version(output: Any) -> int:
    """Changes whenever somebody writes into it."""
    tensors = [output] if isinstance(output, Tensor) else output if isinstance(output, tuple) else []
    return sum(one._version for one in tensors if isinstance(one, Tensor))
