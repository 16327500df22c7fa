"""Norm-based attention: how long the vector is that each token sends, followed through the layers.

Kobayashi et al. 2020 weigh attention by what is attended to, N_ts = ||sum_h a_hts f_h(s)||; with the residual stream,
which joins at s = t, this is the part of GlobEnc (Modarressi et al. 2022) that a network with norms in front of its
branches has. Rows are made to add up to 1 and multiplied over the layers as in rollout. The scale of the next norm is
the same for all tokens of a row and cancels. Left out: that norm's gain vector, the MLP, the bias of the projection.
"""

from __future__ import annotations

from typing import Annotated

from jaxtyping import Float64, Int
from torch import Tensor

from workbench.attribution.adapter import Adapter
from workbench.attribution.heads import AttentionLayer, watch_attention
from workbench.attribution.mixing import ALL_LAYERS, CAUTION, Mixing
from workbench.attribution.result import Attribution
from workbench.attribution.targets import Target
from workbench.attribution.value_paths import ValuePaths, read_paths, refuse_rewritten
from workbench.registry import Range, attribution

NAME = "norm_attention"


@attribution.register(
    NAME,
    summary="How much each token sends to the last position, by the length of what is sent; the same for every target.",
    reference="Kobayashi et al. 2020, arXiv:2004.10102; Modarressi et al. 2022, arXiv:2205.03286",
    cost="f + 2 run + layers tok^2 heads^2, eager attention",
    note="For decoders with norms in front; the papers' layer norm behind a branch has no counterpart here. Layer -1"
    " means all layers; layers count from 0.",
    uses_target=False,
    reads_attention=True,
)
def norm_attention(
    adapter: Adapter,
    ids: Int[Tensor, "1 tok"],
    target: Target,
    *,
    residual: bool = True,
    layer: Annotated[int, Range(ALL_LAYERS, 999)] = ALL_LAYERS,
) -> Attribution:
    """Scores [tok] in [0, 1] that add up to 1.

    Args:
        adapter: the model.
        ids: the prompt.
        target: F, for its value alone.
        residual: let the residual stream join on the diagonal.
        layer: the layer, or -1 for the product of all.

    Raises:
        WorkbenchError: no such layer; attention that cannot be read, or that a norm changes before it is added.
    """
    mixing = Mixing(NAME, adapter, ids, layer)

    def follow(seen: AttentionLayer) -> None:
        mixing.add(seen.index, sent(read_paths(NAME, seen), seen.hidden[0] if residual else None))

    watch, logits = watch_attention(adapter, ids, follow)
    refuse_rewritten(NAME, watch)
    return Attribution(mixing.scores, float(target.value(logits)), notes=(*target.notes, CAUTION))


def sent(paths: ValuePaths, hidden: Float64[Tensor, "tok hid"] | Tensor | None) -> Float64[Tensor, "tok tok"]:
    """The lengths N of what tokens (columns) send to positions (rows), `hidden` joining on the diagonal."""
    lengths = paths.squared_norms().sqrt()
    if hidden is not None:
        lengths.diagonal().copy_((paths.own() + hidden.double()).norm(dim=-1))
    return lengths
