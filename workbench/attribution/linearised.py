"""Linearised gradient x input: the exact share of each token in F, once everything that gates or scales is frozen.

The network is made linear at the prompt (`frozen`), and x_i . dF/dx_i of the linear one is the score: the sum of all is
F itself where the network adds no constants. Where it does (biases, position embeddings), their part is given by
position beside the scores: the full-gradient view of Srinivas and Fleuret 2019, complete here because the frozen
network is affine. What is explained is F, not a difference from a baseline. Left out: why a gate is open or a position
is attended to, which is what freezing gives up.
"""

from __future__ import annotations

from typing import Literal

from jaxtyping import Int
from torch import Tensor

from workbench.attribution.adapter import Adapter
from workbench.attribution.frozen import Frozen
from workbench.attribution.patches import ruled
from workbench.attribution.result import Attribution, relative_gap
from workbench.attribution.rules import rounding_note
from workbench.attribution.targets import Target
from workbench.registry import attribution


@attribution.register(
    "linearised",
    summary="Each token's exact share in the target, with norms, attention and gates frozen at this prompt.",
    reference="Ali et al. 2022, arXiv:2202.07304; Srinivas, Fleuret 2019, arXiv:1905.00780 (biases)",
    signed=True,
    cost="f + b + run",
    note="Complete for logits and contrasts of logits; a ranking for other targets. Without the papers' epsilon.",
)
def linearised(
    adapter: Adapter, ids: Int[Tensor, "1 tok"], target: Target, *, gate: Literal["detach", "split"] = "detach"
) -> Attribution:
    """Signed scores [tok] with F = sum(scores) + sum(biases), but for rounding, where F is linear in the logits.

    Args:
        adapter: the model.
        ids: the prompt.
        target: F.
        gate: of a gated product, freeze the activated factor, or give each factor half.

    Raises:
        WorkbenchError: an operation without a rule.
    """
    layout, frozen = adapter.layout, Frozen("linearised", split=gate == "split")
    leaf = adapter.embed(ids)
    with adapter.recording(ids.shape[1]):
        leaf = leaf.detach().clone().requires_grad_()
        with ruled(adapter.model, frozen):
            logits = adapter.read_logits(leaf)
        explained = target.value(logits).sum()
        slope, biases = frozen.biases(explained, leaf, layout.kept(ids.shape[1]), layout.first(ids.shape[1]))
    value = float(explained.detach())
    scores = (leaf.detach()[0].double() * slope[0].double()).sum(-1).cpu()
    if not target.linear:
        note = (
            f"the target is no sum of logits ({target.kind}), so the scores do not add up to it: take them as a ranking"
        )
        return Attribution(scores, value, notes=(*target.notes, note))
    rest = float(biases.sum())
    gap = value - float(scores.sum()) - rest
    relative = relative_gap(gap, value)
    return Attribution(
        scores,
        value,
        completeness_gap=gap,
        relative_gap=relative,
        notes=(*target.notes, *_about_biases(value, rest, bool(biases.any())), *rounding_note(relative)),
        biases=biases if bool(biases.any()) else None,
    )


def _about_biases(value: float, rest: float, any_bias: bool) -> tuple[str, ...]:
    if not any_bias:
        return ()
    return (
        f"of the target of {value:.4g}, {rest:.4g} comes from biases and position embeddings and belongs to no token;"
        " the scores add up to the rest",
    )
