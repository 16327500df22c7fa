"""A prompt some of whose tokens are replaced by the baseline's: the value of many such prompts, in bounded batches.

What is kept or replaced together is a *player*: one token, or one span of tokens. Control tokens belong to no player,
they always keep their embedding. Left out: deleting tokens (positions would move) and hiding them from attention.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Float64, Int, Int64
from torch import Tensor

from workbench.attribution.adapter import Adapter
from workbench.attribution.baselines import Baseline, BaselineName, make_baseline
from workbench.attribution.path import held_note
from workbench.attribution.prefix import ROWS, Prefix, keep_prefix
from workbench.attribution.result import Attribution, relative_gap
from workbench.attribution.sampling import rows_at_once
from workbench.attribution.spans import Scale, label_spans
from workbench.attribution.targets import Target


@dataclass(frozen=True, slots=True)
class Masking:
    """A prompt, what replaces its tokens, and which of them go together.

    Attributes:
        adapter: the model.
        embeds: the prompt x.
        start: the baseline x'.
        target: F.
        members: which tokens each player stands for.
        batch: prompts in one forward pass, at most.
    """

    adapter: Adapter
    embeds: Float[Tensor, "1 tok hid"]
    start: Baseline
    target: Target
    members: Bool[Tensor, "player tok"]
    batch: int

    @property
    def players(self) -> int:
        """How many players there are; 0 for a prompt of control tokens."""
        return self.members.shape[0]

    @property
    def held_fixed(self) -> tuple[bool, ...]:
        """Which tokens always keep their embedding."""
        return tuple(self.start.held_fixed.tolist())

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know of the target and of the tokens that are held fixed."""
        return self.target.notes + held_note(self.start.held_fixed)

    def values(self, keep: Float64[Tensor, "row player"]) -> Float64[Tensor, " row"]:
        """F with each player kept (1), replaced (0) or in between, on the CPU; no graph."""
        starts = self._starts(keep)
        prefix = keep_prefix(self.adapter, self.embeds, starts)
        if prefix is not None:
            return self._values_behind(prefix, keep, starts)
        rows = self._split(keep)
        found = [self.adapter.values(self.mix(part), self.target.value) for part in rows]
        return torch.cat(found).double().cpu() if found else keep.new_zeros(0)

    def slopes(
        self, keep: Float64[Tensor, "row player"]
    ) -> tuple[Float64[Tensor, " row"], Float64[Tensor, "row player"]]:
        """F and its derivative by each player's share, on the CPU: dF/dm = sum over its tokens of dF/de . (x - x')."""
        step = (self.embeds - self.start.embeds).double()
        values, slopes = [], []
        for part in self._split(keep, backward=True):
            value, slope = self.adapter.gradients(self.mix(part), self.target.value)
            values.append(value.double().cpu())
            slopes.append((slope.double() * step).sum(-1).cpu() @ self.members.double().T)
        return torch.cat(values), torch.cat(slopes)

    def ends(self) -> tuple[float, float]:
        """F(x) and F(x')."""
        whole, none = self.values(torch.tensor([[1.0], [0.0]], dtype=torch.float64).expand(2, self.players)).tolist()
        return whole, none

    def mix(self, keep: Float64[Tensor, "row player"]) -> Float[Tensor, "row tok hid"]:
        """The embeddings of these prompts; bit for bit x where all is kept and x' where nothing is."""
        weight = (keep @ self.members.double()).to(self.embeds)
        return torch.lerp(self.start.embeds, self.embeds, weight[..., None])

    def answer(self, scores: Float64[Tensor, " player"], ends: tuple[float, float], *notes: str) -> Attribution:
        """The scores of players given to each of their tokens, 0 at control tokens, beside F(x) and F(x')."""
        return self._beside(ends, scores @ self.members.double(), notes)

    def shared_answer(self, scores: Float64[Tensor, " player"], ends: tuple[float, float], *notes: str) -> Attribution:
        """Likewise, of scores that add up to F(x) - F(x'): divided equally over tokens, with the gap that is left."""
        found = self._beside(ends, (scores / self.members.sum(1)) @ self.members.double(), notes)
        change = ends[0] - ends[1]
        gap = change - float(found.scores.sum())
        return replace(found, completeness_gap=gap, relative_gap=relative_gap(gap, change))

    def _beside(
        self, ends: tuple[float, float], scores: Float64[Tensor, " tok"], notes: tuple[str, ...]
    ) -> Attribution:
        return Attribution(
            scores,
            value=ends[0],
            baseline_value=ends[1],
            baseline=self.start.name,
            held_fixed=self.held_fixed,
            notes=self.notes + notes,
        )

    def _values_behind(
        self, prefix: Prefix, keep: Float64[Tensor, "row player"], starts: Int64[Tensor, " row"]
    ) -> Float64[Tensor, " row"]:
        """`values` of rows that begin as the prompt does, those that leave it at about the same token together."""
        found = torch.empty(len(keep), dtype=torch.float64)
        together = min(ROWS, rows_at_once(self.adapter.model, self.embeds.shape[1], self.batch))
        with self.adapter.steady(), torch.no_grad():
            for rows in starts.argsort().split(together):
                answers = prefix.values(self.mix(keep[rows]), int(starts[rows[0]]), self.target.value)
                found[rows] = answers.double().cpu()
        return found

    def _starts(self, keep: Float64[Tensor, "row player"]) -> Int64[Tensor, " row"]:
        """The first token of each row that is not the prompt's own; the last one where all are."""
        changed = ((1 - keep) @ self.members.double()) != 0
        changed[:, -1] = True
        return changed.int().argmax(1)

    def _split(self, keep: Float64[Tensor, "row player"], *, backward: bool = False) -> tuple[Tensor, ...]:
        """The rows, as many at a time as may be in memory."""
        rows = rows_at_once(self.adapter.model, self.embeds.shape[1], self.batch, backward=backward)
        return keep.split(rows) if len(keep) else ()


def mask_prompt(
    adapter: Adapter,
    ids: Int[Tensor, "1 tok"],
    target: Target,
    baseline: BaselineName,
    batch: int,
    scale: Scale = "token",
) -> Masking:
    """The prompt with the tokens, words, clauses or sentences of its content as players.

    Raises:
        WorkbenchError: a baseline that this model does not have.
    """
    embeds = adapter.embed(ids)
    start = make_baseline(adapter, ids, embeds, baseline)
    return Masking(adapter, embeds, start, target, members(label_spans(adapter, ids, scale)), batch)


def members(labels: Int64[Tensor, " tok"]) -> Bool[Tensor, "span tok"]:
    """Which tokens belong to each span; `labels` number the spans from 0 on, -1 is none."""
    return labels == torch.arange(int(labels.max()) + 1)[:, None]
