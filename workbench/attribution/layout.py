"""What a sequence of tokens is made of beside the prompt: what is held fixed, where logits are read, two continuations.

A continuation stands behind the prompt and is read at the positions that predict its tokens. Two of them share one
sequence: the second one's tokens take the positions that follow the prompt again and do not see the first one, so that
whatever is read is what two separate sequences would give, in one forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Layout:
    """The order is: prompt, first continuation, second continuation.

    Attributes:
        fixed: which tokens are held fixed beside control tokens; empty when none are.
        prompt: tokens of the prompt where continuations follow it, else 0.
        lengths: tokens of each continuation, none, one or two of them.
    """

    fixed: tuple[bool, ...] = ()
    prompt: int = 0
    lengths: tuple[int, ...] = ()

    @property
    def reads(self) -> tuple[int, ...]:
        """The positions whose logits predict the tokens of the continuations, in order; empty where the last is read.

        A continuation's first token is predicted by the end of the prompt, whichever it is.
        """
        found: list[int] = []
        start = self.prompt
        for length in self.lengths:
            found += [self.prompt - 1, *range(start, start + length - 1)]
            start += length
        return tuple(found)

    def kept(self, length: int) -> int:
        """How many positions at the end of `length` hold all that are read."""
        return length - self.reads[0] if self.lengths else 1

    def first(self, length: int) -> int:
        """Where those positions begin, which is where a head computed for them alone stands."""
        return length - self.kept(length)

    @property
    def rows(self) -> tuple[int, ...]:
        """The positions that look at the tokens on behalf of the target: those that are read, else the last."""
        return self.reads or (-1,)

    def section(self, place: int) -> int:
        """0 for a token of the prompt, else the number of its continuation, from 1 on."""
        ends = accumulate(self.lengths, initial=self.prompt)
        return sum(place >= end for end in ends) if self.lengths else 0

    def positions(self, length: int) -> Int64[Tensor, " tok"]:
        """The position that each of `length` tokens takes."""
        places = torch.arange(length)
        if len(self.lengths) > 1:
            places[self.prompt + self.lengths[0] :] -= self.lengths[0]
        return places

    def sight(self, length: int) -> Bool[Tensor, "tok tok"] | None:
        """Which tokens (columns) each one (rows) sees; None where it is all before it."""
        if len(self.lengths) < 2:
            return None
        seen = torch.ones(length, length, dtype=torch.bool).tril()
        second = self.prompt + self.lengths[0]
        seen[second:, self.prompt : second] = False
        return seen


def additive(seen: Bool[Tensor, "tok tok"], like: Float[Tensor, "batch tok hid"]) -> Float[Tensor, "batch 1 tok tok"]:
    """A mask as attention adds it to its scores: 0 where a token is seen, the lowest number where it is not."""
    mask = torch.zeros(seen.shape, dtype=like.dtype, device=like.device)
    mask = mask.masked_fill(~seen.to(like.device), torch.finfo(like.dtype).min)
    return mask.expand(like.shape[0], 1, *seen.shape)


def behind(prompt: Sequence[bool], *continuations: Sequence[int]) -> Layout:
    """The layout of a prompt, whose own fixed tokens are given, with continuations behind it."""
    lengths = tuple(len(one) for one in continuations)
    return Layout((*prompt, *[True] * sum(lengths)), len(prompt), lengths)
