"""The damage of quantization over matrices and tokens, against measured changes and gradients of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from attribution_models import IDS, LOGIT, adapted
from numpy.polynomial.legendre import leggauss
from torch import Tensor
from torch.func import functional_call

from workbench.attribution.adapter import Adapter
from workbench.attribution.damage import Damage, damage_map
from workbench.attribution.targets import Target
from workbench.errors import WorkbenchError

LOGPROB = Target("logprob", (40,), ("w40",))


def rounded(weight: Tensor, bits: int) -> Tensor:
    """Rounding to nearest, one scale a row."""
    step = 2 * weight.abs().amax(1, keepdim=True) / (2**bits - 1)
    return (weight / step).round() * step


class Case:
    """A model in float64, and some of its matrices rounded."""

    def __init__(self, bits: int, only: str = "") -> None:
        self.adapter: Adapter = adapted("llama", torch.float64)
        found = self.adapter.model.named_modules()
        self.modules = {f"{n}.weight": m for n, m in found if isinstance(m, torch.nn.Linear) and "layers" in n}
        self.full = {name: module.weight.detach().clone() for name, module in self.modules.items() if only in name}
        self.moved = {name: weight - rounded(weight, bits) for name, weight in self.full.items()}

    def weights(self, place: float) -> dict[str, Tensor]:
        return {name: weight - (1 - place) * self.moved[name] for name, weight in self.full.items()}

    @contextmanager
    def laid(self, place: float) -> Iterator[None]:
        originals = {name: self.modules[name].weight.data for name in self.full}
        try:
            for name, weight in self.weights(place).items():
                self.modules[name].weight.data = weight
            yield
        finally:
            for name, original in originals.items():
                self.modules[name].weight.data = original

    def damage(self, target: Target = LOGIT, **options: float) -> Damage:
        return damage_map(self.adapter, IDS, target, self.modules, self.moved, self.laid, **options)

    def value(self, target: Target, weights: dict[str, Tensor]) -> Tensor:
        logits = functional_call(self.adapter.model, weights, (IDS,), {"use_cache": False}).logits[:, -1]
        return target.value(logits).sum()


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("target", [LOGIT, LOGPROB], ids=["logit", "logprob"])
def test_the_parts_add_up_to_the_measured_change(bits: int, target: Target) -> None:
    case = Case(bits)
    found = case.damage(target)
    change = float((case.value(target, {}) - case.value(target, case.weights(0.0))).detach())
    assert abs(change) > 1e-4
    assert found.parts.shape == (14, 8)
    assert float(found.parts.sum()) == pytest.approx(change, abs=1e-3 * max(abs(change), 0.1))
    assert found.gap == pytest.approx(change - float(found.parts.sum()), abs=1e-9)


def test_rows_equal_the_path_integral_over_the_weights() -> None:
    """The sum over tokens is the integral of <D, dF/dW>, taken here on the weights themselves."""
    case = Case(3)
    found = case.damage(nodes=12, max_nodes=12)
    expected = dict.fromkeys(case.full, 0.0)
    for position, share in zip(*leggauss(12), strict=True):
        weights = {name: w.requires_grad_() for name, w in case.weights((float(position) + 1) / 2).items()}
        slopes = torch.autograd.grad(case.value(LOGIT, weights), list(weights.values()))
        for name, slope in zip(weights, slopes, strict=True):
            expected[name] += share / 2 * float((slope * case.moved[name]).sum())
    assert found.parts.sum(1).tolist() == pytest.approx(list(expected.values()), rel=1e-8, abs=1e-12)


def test_matrices_that_are_not_quantized_have_rows_of_exactly_zero() -> None:
    case = Case(2, only="layers.1.mlp")
    found = case.damage()
    touched = torch.tensor(["layers.1.mlp" in name for name in case.modules])
    assert int(touched.sum()) == 3
    assert bool((found.parts[~touched] == 0).all())
    assert bool((found.parts[touched].abs().sum(1) > 0).all())
    # behind the last attention only the last token reaches the target
    assert bool((found.parts[touched][:, :-1] == 0).all())


def test_nothing_quantized_is_no_damage() -> None:
    case = Case(2, only="nowhere")
    found = case.damage()
    assert not found.parts.any()
    assert (found.gap, found.relative_gap) == (0, 0)
    assert found.full_value == found.quantized_value


def test_nodes_are_doubled_until_the_parts_add_up() -> None:
    case = Case(2)
    coarse = case.damage(nodes=1, max_nodes=1)
    fine = case.damage(nodes=1, tolerance=1e-6)
    assert coarse.relative_gap > 1e-3 > 1e-6 >= fine.relative_gap
    assert fine.nodes in (2, 4, 8, 16, 32, 64)


def test_a_matrix_that_was_not_called_is_refused_and_nothing_is_left() -> None:
    case = Case(2)
    case.modules["stranger"] = torch.nn.Linear(2, 2).double()
    case.moved["stranger"] = torch.zeros(2, 2, dtype=torch.float64)
    with pytest.raises(WorkbenchError, match="matrix 'stranger' was called 0 times"):
        case.damage()
    assert not any(module._forward_hooks for module in case.adapter.model.modules())
    assert all(torch.equal(case.modules[name].weight, weight) for name, weight in case.full.items())
