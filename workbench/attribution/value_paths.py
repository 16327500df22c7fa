"""What each head carries from each token to each position: attention's output, taken apart into its summands.

Head h adds a_hts f_h(s) to position t, with f_h(s) = W_o,h v_hs, its part of the output projection times the value of
token s; summed over heads and tokens that is attention's output, but for the projection's bias, which comes from no
token. The vectors of all pairs (t, s) are never made: their norms and inner products follow from those of the f_h(s).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from workbench.attribution.heads import AttentionLayer, MatrixCall, Watch
from workbench.errors import WorkbenchError
from workbench.model.streaming import parameter_of

TOKENS_AT_ONCE = 64
MISREAD = 0.05
"""Values that reproduce the input of the output projection worse than this, as a share of it, were misread."""


@dataclass(frozen=True, slots=True, eq=False)
class ValuePaths:
    """The summands of one layer's attention.

    Attributes:
        weights: attention probabilities a.
        values: v of every query head (those that share a value hold it each), with its bias.
        projection: the output projection by head.
    """

    weights: Float[Tensor, "head tok tok"]
    values: Float[Tensor, "head tok dim"]
    projection: Float[Tensor, "head hid dim"]

    def vectors(self, tokens: slice) -> Float64[Tensor, "part head hid"]:
        """f_h(s) of some tokens."""
        return torch.einsum("hsd,hod->sho", self.values[:, tokens].double(), self.projection.double())

    def output(self) -> Float64[Tensor, "tok hid"]:
        """Attention's output without the bias of its projection."""
        mixed = self.weights.double() @ self.values.double()
        return torch.einsum("htd,hod->to", mixed, self.projection.double())

    def own(self) -> Float64[Tensor, "tok hid"]:
        """What each position carries from itself, sum_h a_htt f_h(t)."""
        mixed = self.weights.diagonal(dim1=1, dim2=2)[..., None].double() * self.values.double()
        return torch.einsum("htd,hod->to", mixed, self.projection.double())

    def squared_norms(self) -> Float64[Tensor, "tok tok"]:
        """|sum_h a_hts f_h(s)|^2, by the Gram matrix of the heads' vectors at each token s."""
        columns = []
        for vectors, shares in self._parts():
            gram = vectors @ vectors.mT
            columns.append(((shares @ gram) * shares).sum(-1))
        return torch.cat(columns).T.clamp_min(0)

    def products(self, others: Float64[Tensor, "tok hid"]) -> Float64[Tensor, "tok tok"]:
        """sum_h a_hts f_h(s) . y_t, with a vector y_t for every position."""
        columns = [(shares * (vectors @ others.T).mT).sum(-1) for vectors, shares in self._parts()]
        return torch.cat(columns).T

    def _parts(self) -> Iterator[tuple[Float64[Tensor, "part head hid"], Float64[Tensor, "part tok head"]]]:
        for start in range(0, self.values.shape[1], TOKENS_AT_ONCE):
            tokens = slice(start, start + TOKENS_AT_ONCE)
            yield self.vectors(tokens), self.weights[:, :, tokens].permute(2, 1, 0).double()


def read_paths(method: str, layer: AttentionLayer) -> ValuePaths:
    """The summands of a layer's attention, found among what its matrices gave.

    The output projection is the matrix called last. The values are whichever output of another one, mixed by the
    probabilities, gives what the projection was given.

    Args:
        method: name for the message.
        layer: the layer.

    Raises:
        WorkbenchError: no output does, or attention looks both ways: the norms of encoders stand behind their branches.
    """
    weights = layer.probabilities
    if bool(weights.triu(1).any()):
        raise WorkbenchError(
            f"{method} follows values through decoders, and layer {layer.index} ({type(layer.block).__name__}) looks"
            " both ways; for an encoder choose attention_rollout"
        )
    if len(layer.calls) > 1:
        *others, last = layer.calls
        target = last.given[0].to(weights)
        for call in reversed(others):  # the values are usually made last
            for values in _readings(call, len(weights), target.shape[-1]):
                if _distance(weights, values, target) < MISREAD:
                    return ValuePaths(weights, values, _by_head(last, len(weights)))
    raise WorkbenchError(
        f"{method} cannot read the values of layer {layer.index} ({type(layer.block).__name__}): no matrix in its"
        " attention gives what its output projection is given; choose attention_rollout, which reads none"
    )


def refuse_rewritten(method: str, watch: Watch) -> None:
    """Refuse a network that changes attention's output before it joins the residual stream.

    Raises:
        WorkbenchError: it has a norm there.
    """
    if watch.rewritten is not None:
        raise WorkbenchError(
            f"{method} cannot follow this model: a {watch.rewritten} changes what attention adds before it is added;"
            " choose attention_rollout, which does not look at it"
        )


def _readings(call: MatrixCall, heads: int, width: int) -> Iterator[Float[Tensor, "head tok dim"]]:
    """The ways in which an output can hold values: all of it, its end (queries and keys in front), its end by head."""
    gave, size = call.gave[0], width // heads
    for held in range(heads, 0, -1):
        if heads % held or gave.shape[-1] < held * size:
            continue
        yield _shared(gave[:, gave.shape[-1] - held * size :].unflatten(-1, (held, size)), heads)
        if gave.shape[-1] == 3 * held * size:
            yield _shared(gave.unflatten(-1, (held, 3 * size))[..., 2 * size :], heads)


def _shared(values: Float[Tensor, "tok held dim"], heads: int) -> Float[Tensor, "head tok dim"]:
    """One value a query head: neighbouring heads share one."""
    return values.transpose(0, 1).repeat_interleave(heads // values.shape[1], 0)


def _distance(weights: Tensor, values: Tensor, target: Float[Tensor, "tok width"]) -> float:
    mixed = (weights @ values.to(weights)).transpose(0, 1).flatten(1)
    return float((mixed - target).norm() / target.norm().clamp_min(torch.finfo(target.dtype).tiny))


def _by_head(call: MatrixCall, heads: int) -> Float[Tensor, "head hid dim"]:
    weight = parameter_of(call.module, "weight")
    matrix = weight.T if isinstance(call.module, Conv1D) else weight
    return matrix.unflatten(1, (heads, -1)).transpose(0, 1)
