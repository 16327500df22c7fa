"""SmoothGrad: the gradient averaged over noisy copies of the prompt, dF/dx(x + e) with e ~ N(0, sigma^2).

Smilkov, Thorat, Kim, Viegas and Wattenberg 2017. The noise is a share of the spread of the prompt's own embeddings,
because embeddings have no common scale as pixels do. Left out: the square and the variance of the gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.attribution.adapter import Adapter
from workbench.attribution.result import Attribution
from workbench.attribution.sampling import error_note, rows_at_once, standard_error
from workbench.attribution.targets import Target
from workbench.registry import Range, attribution


@attribution.register(
    "smoothgrad",
    summary="The gradient at each token, averaged over noisy copies of the prompt.",
    reference="Smilkov, Thorat, Kim, Viegas, Wattenberg 2017, arXiv:1706.03825",
    cost="f + samples (f + b)",
    note="Sigma is a share of the standard deviation of the prompt's embeddings. With `product` the mean gradient is"
    " multiplied by the embedding and the scores have a sign.",
)
def smoothgrad(
    adapter: Adapter,
    ids: Int[Tensor, "1 tok"],
    target: Target,
    *,
    samples: Annotated[int, Range(1, 1024)] = 16,
    sigma: Annotated[float, Range(0, 10)] = 0.15,
    form: Literal["norm", "product"] = "norm",
    seed: Annotated[int, Range(0, 2**31 - 1)] = 0,
    batch: Annotated[int, Range(1, 256)] = 16,
) -> Attribution:
    """Scores [tok]: the Euclidean norm of the mean gradient, or its signed product with the embedding.

    Args:
        adapter: the model.
        ids: the prompt.
        target: F.
        samples: noisy copies, m.
        sigma: standard deviation of the noise as a share of that of the embeddings.
        form: how the hidden dimensions of a token become one score.
        seed: of the noise.
        batch: copies in one forward pass.
    """
    embeds = adapter.embed(ids)
    spread = sigma * float(embeds.double().std(correction=0))
    total = torch.zeros_like(embeds[0], dtype=torch.float64)
    squares = torch.zeros_like(total[:, 0])
    rows = rows_at_once(adapter.model, ids.shape[1], batch, backward=True)
    for copies in noisy_copies(embeds, spread, samples, seed, rows):
        _, slope = adapter.gradients(copies, target.value)
        parts = slope.double() if form == "norm" else slope.double() * embeds.double()
        total += parts.sum(0)
        squares += (parts.square().sum(-1) if form == "norm" else parts.sum(-1).square()).sum(0)
    mean = total / samples
    scores = (mean if form == "norm" else mean.sum(-1, keepdim=True)).norm(dim=-1)
    signed = scores if form == "norm" else mean.sum(-1)
    error = standard_error(squares, scores, samples)
    notes = (
        f"the noise has a standard deviation of {spread:.3g} in each dimension of the embeddings",
        error_note(error, scores, samples, "noisy copy"),
    )
    value = float(adapter.values(embeds, target.value))
    return Attribution(signed.cpu(), value, notes=target.notes + notes, signed=form == "product")


def noisy_copies(
    embeds: Float[Tensor, "1 tok hid"], spread: float, samples: int, seed: int, rows: int
) -> Iterator[Float[Tensor, "copy tok hid"]]:
    """Copies with normal noise, `rows` at a time; the noise is drawn copy by copy, so that `rows` changes nothing."""
    draws = torch.Generator().manual_seed(seed)
    for start in range(0, samples, rows):
        noise = [torch.randn(embeds[0].shape, generator=draws) for _ in range(min(rows, samples - start))]
        yield embeds + spread * torch.stack(noise).to(embeds)
