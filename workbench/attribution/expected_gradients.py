"""Expected gradients: integrated gradients averaged over baselines of random tokens.

Erion, Janizek, Sturmfels, Lundberg and Lee 2021 draw baselines from the data and one point on each path. Here a
baseline is the prompt with random tokens of the vocabulary in the place of its content, and each path is integrated
until it adds up, so that the spread that is left comes from the baselines alone. Left out: baselines out of texts.
"""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Int, Int64
from torch import Tensor

from workbench.attribution.adapter import Adapter
from workbench.attribution.path import Effort, follow, gap_note, held_note
from workbench.attribution.result import Attribution, relative_gap
from workbench.attribution.sampling import error_note, standard_error
from workbench.attribution.targets import Target
from workbench.errors import WorkbenchError
from workbench.registry import Range, attribution


@attribution.register(
    "expected_gradients",
    summary="Each token's share in the change of the target from prompts of random tokens, with its sign.",
    reference="Erion, Janizek, Sturmfels, Lundberg, Lee 2021, arXiv:1906.10670",
    signed=True,
    cost="baselines (2 f + doubling(nodes, max_nodes) (f + b)), nodes at a time",
    note="Baselines are random tokens, not texts. Every path is integrated, where the paper draws one point of each."
    " Control tokens are held fixed.",
)
def expected_gradients(
    adapter: Adapter,
    ids: Int[Tensor, "1 tok"],
    target: Target,
    *,
    baselines: Annotated[int, Range(1, 256)] = 8,
    nodes: Annotated[int, Range(2, 512)] = 8,
    max_nodes: Annotated[int, Range(2, 1024)] = 128,
    tolerance: Annotated[float, Range(0, 1)] = 1e-2,
    seed: Annotated[int, Range(0, 2**31 - 1)] = 0,
    batch: Annotated[int, Range(1, 256)] = 16,
) -> Attribution:
    """Signed scores [tok] that add up to F(x) - mean of F(x') but for the completeness gap.

    Args:
        adapter: the model.
        ids: the prompt.
        target: F.
        baselines: random prompts, k.
        nodes: points on each path at first.
        max_nodes: where doubling ends, converged or not.
        tolerance: relative gap of a single path that is small enough.
        seed: of the random tokens.
        batch: points in one forward pass.

    Raises:
        WorkbenchError: the vocabulary has no token of content to draw.
    """
    embeds = adapter.embed(ids)
    held = adapter.held(ids)
    effort = Effort(nodes, max_nodes, tolerance, batch)
    total = torch.zeros(ids.shape[1], dtype=torch.float64)
    squares, base, most, value = total.clone(), 0.0, 0, 0.0
    for drawn in random_prompts(adapter, ids, held.tolist(), baselines, seed):
        path = follow(adapter, adapter.embed(drawn), embeds, target, effort)
        total, squares = total + path.scores, squares + path.scores**2
        base, most, value = base + path.base / baselines, max(most, path.nodes), path.value
    scores = total / baselines
    gap = value - base - float(scores.sum())
    relative = relative_gap(gap, value - base)
    sure = error_note(standard_error(squares, scores, baselines), scores, baselines, "random baseline")
    return Attribution(
        scores,
        value,
        baseline_value=base,
        completeness_gap=gap,
        relative_gap=relative,
        nodes=most,
        baseline=f"mean of {baselines} prompts of random tokens",
        held_fixed=tuple(held.tolist()),
        notes=(*target.notes, *held_note(held), sure, *gap_note(relative, tolerance, most)),
    )


def random_prompts(
    adapter: Adapter, ids: Int[Tensor, "1 tok"], held: list[bool], count: int, seed: int
) -> list[Int64[Tensor, "1 tok"]]:
    """The prompt with random tokens of content in the place of its own, `count` times.

    Raises:
        WorkbenchError: there is no such token.
    """
    special = adapter.vocabulary.special_ids
    known = min(adapter.rows, len(adapter.tokenizer))
    pool = torch.tensor([index for index in range(known) if index not in special], dtype=torch.int64)
    if not len(pool):
        raise WorkbenchError(
            f"all {known} tokens of this vocabulary are control tokens; there is none to draw at random"
        )
    draws = torch.Generator().manual_seed(seed)
    fixed = torch.tensor(held)
    prompts = []
    for _ in range(count):
        drawn = pool[torch.randint(len(pool), (ids.shape[1],), generator=draws)]
        prompts.append(torch.where(fixed, ids[0].cpu(), drawn)[None])
    return prompts
