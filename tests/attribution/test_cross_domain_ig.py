"""Cross-domain integrated gradients: the same path in the coordinates of a cosine transform written out."""

from __future__ import annotations

import math

import pytest
import torch
from attribution_models import IDS, LOGIT, adapted, explain, objective
from numpy.polynomial.legendre import leggauss

from workbench.attribution.adapter import Adapter
from workbench.attribution.baselines import make_baseline
from workbench.attribution.cross_domain_ig import split
from workbench.registry import attribution


def cosines(count: int) -> torch.Tensor:
    """The orthonormal cosine transform: row k over positions n."""
    position, wave = torch.arange(count).double(), torch.arange(count).double()[:, None]
    rows = torch.cos(math.pi / count * (position + 0.5) * wave) * math.sqrt(2 / count)
    rows[0] /= math.sqrt(2)
    return rows


def by_frequency(adapter: Adapter, nodes: int) -> torch.Tensor:
    """(z - z')_k . mean dF/dz_k with z = C x over the seven tokens of content, by autograd on z."""
    embeds = adapter.embed(IDS)
    start, matrix = make_baseline(adapter, IDS, embeds, "eos").embeds, cosines(7)
    stop_z, start_z = matrix @ embeds[0, 1:], matrix @ start[0, 1:]
    total = torch.zeros_like(stop_z)
    for place, weight in zip(*leggauss(nodes), strict=True):
        waves = (start_z + (place + 1) / 2 * (stop_z - start_z)).requires_grad_()
        back = torch.cat([embeds[0, :1], matrix.T @ waves])[None]
        (slope,) = torch.autograd.grad(objective(adapter)(back).sum(), waves)
        total += weight / 2 * slope
    return ((stop_z - start_z) * total).sum(-1)


@pytest.mark.parametrize("period", [3.0, 4.0, 8.0])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_bands_equal_the_integral_in_the_other_domain(family: str, period: float) -> None:
    adapter = adapted(family, torch.float64)
    shares = by_frequency(adapter, 12)
    slow = [k for k in range(7) if k * period < 14]  # the k-th cosine over 7 tokens takes 14 / k tokens
    options = {"baseline": "eos", "nodes": 12, "max_nodes": 12, "period": period}
    ours = {band: explain("cross_domain_ig", adapter, band=band, **options) for band in ("all", "slow", "fast")}
    assert float(ours["slow"].scores.sum()) == pytest.approx(float(shares[slow].sum()), rel=1e-6, abs=1e-9)
    assert float(ours["fast"].scores.sum()) == pytest.approx(float(shares.sum() - shares[slow].sum()), rel=1e-6)
    torch.testing.assert_close(ours["all"].scores, ours["slow"].scores + ours["fast"].scores)
    assert f"bring {float(shares[slow].sum()):.4g} of the change" in ours["all"].notes[1]
    assert ours["slow"].completeness_gap is None


def test_all_bands_are_integrated_gradients(either: Adapter) -> None:
    ours, plain = explain("cross_domain_ig", either), explain("integrated_gradients", either)
    torch.testing.assert_close(ours.scores, plain.scores)
    assert ours.relative_gap == pytest.approx(plain.relative_gap, abs=1e-9)
    assert ours.nodes == plain.nodes


@pytest.mark.parametrize("wave", range(12))
def test_waves_are_told_apart_by_their_period(wave: int) -> None:
    """A pure cosine lies in one band whole, and a token that is held keeps a step of zero in both."""
    step = torch.cat([torch.zeros(1, dtype=torch.float64), cosines(12)[wave]])[:, None]
    parts = split(step, torch.tensor([False, *[True] * 12]), 6.0)
    empty = torch.zeros_like(step)
    slow = wave < 4  # the k-th cosine over 12 tokens takes 24 / k tokens
    torch.testing.assert_close(parts["slow"], step if slow else empty, atol=1e-12, rtol=0)
    torch.testing.assert_close(parts["fast"], empty if slow else step, atol=1e-12, rtol=0)


def test_a_prompt_of_control_tokens_alone_scores_zero(llama: Adapter) -> None:
    result = attribution.get("cross_domain_ig")(llama, torch.tensor([[1, 2]]), LOGIT, band="slow")
    assert result.scores.tolist() == [0.0, 0.0]
