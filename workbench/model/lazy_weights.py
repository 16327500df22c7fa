"""Dense weights that are made when they are asked for, and not kept: all of a large model would not fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from torch import Tensor


class LazyWeights(Mapping[str, Tensor]):
    """Matrix name -> weight `[out, in]`.

    Args:
        shapes: matrix name -> (out, in).
        make: makes the weight of a matrix; called whenever one is asked for.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, int]], make: Callable[[str], Tensor]) -> None:
        self.shapes = dict(shapes)
        self._make = make

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.shapes:
            raise KeyError(name)
        return self._make(name)

    def __contains__(self, name: object) -> bool:
        return name in self.shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def shapes_of(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shapes of weights, none of them made for that."""
    if isinstance(weights, LazyWeights):
        return dict(weights.shapes)
    return {name: tuple(weight.shape) for name, weight in weights.items()}
