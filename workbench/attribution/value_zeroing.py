"""Value zeroing: how far each position turns when the values of one token are taken away, followed through the layers.

After Mohebbi, Zuidema, Chrupala and Alishahi 2023: the cosine distance between a position's state with and without the
value vectors of a token. Here the state is the residual stream behind attention, y_t = h_t + sum_s c_ts, where taking
token s away leaves y_t - c_ts exactly, so that no further forward pass is made. A position's distances say nothing of
what it keeps by the residual stream, and in a decoder a product of them can only move back towards the first token;
each factor therefore keeps a residual part (0 leaves it out). Left out: the MLP, through which the paper runs each
layer again for every token.
"""

from __future__ import annotations

from typing import Annotated

from jaxtyping import Float, Float64, Int
from torch import Tensor

from workbench.attribution.adapter import Adapter
from workbench.attribution.heads import AttentionLayer, watch_attention
from workbench.attribution.mixing import ALL_LAYERS, CAUTION, Mixing
from workbench.attribution.result import Attribution
from workbench.attribution.targets import Target
from workbench.attribution.value_paths import ValuePaths, read_paths, refuse_rewritten
from workbench.registry import Range, attribution

NAME = "value_zeroing"
ROUNDING = 1e-12
"""A cosine distance below this is none."""


@attribution.register(
    NAME,
    summary="How far the last position turns when a token's values are zeroed; the same for every target.",
    reference="Mohebbi, Zuidema, Chrupala, Alishahi 2023, arXiv:2301.12971",
    cost="f + 2 run + layers tok^2 heads hidden, eager attention",
    note="Measured behind attention, in closed form; the paper measures behind the MLP, by a run of each layer per"
    " token. Layer -1 means all layers; layers count from 0.",
    uses_target=False,
    reads_attention=True,
)
def value_zeroing(
    adapter: Adapter,
    ids: Int[Tensor, "1 tok"],
    target: Target,
    *,
    residual: Annotated[float, Range(0, 1)] = 0.5,
    layer: Annotated[int, Range(ALL_LAYERS, 999)] = ALL_LAYERS,
) -> Attribution:
    """Scores [tok] in [0, 1] that add up to 1.

    Args:
        adapter: the model.
        ids: the prompt.
        target: F, for its value alone.
        residual: part of each factor of the product over layers that stays where it is, as in attention rollout.
        layer: the layer, without a residual part, or -1 for the product of all.

    Raises:
        WorkbenchError: no such layer; attention that cannot be read, or that a norm changes before it is added.
    """
    mixing = Mixing(NAME, adapter, ids, layer, residual)

    def follow(seen: AttentionLayer) -> None:
        mixing.add(seen.index, turned(read_paths(NAME, seen), seen.hidden[0]))

    watch, logits = watch_attention(adapter, ids, follow)
    refuse_rewritten(NAME, watch)
    return Attribution(mixing.scores, float(target.value(logits)), notes=(*target.notes, CAUTION))


def turned(paths: ValuePaths, hidden: Float[Tensor, "tok hid"]) -> Float64[Tensor, "tok tok"]:
    """1 - cos(y_t, y_t - c_ts) of positions t (rows) and tokens s (columns)."""
    states = hidden.double() + paths.output()
    squares = states.square().sum(-1, keepdim=True)
    along = paths.products(states)
    rest = (squares - 2 * along + paths.squared_norms()).clamp_min(0)
    distances = 1 - (squares - along) / (squares * rest).sqrt().clamp_min(ROUNDING)
    return distances.where(distances > ROUNDING, 0.0).tril()
