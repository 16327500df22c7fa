"""Error compensation: the sweep against the closed form of what it does, and its loss against the output error."""

from __future__ import annotations

import layers
import pytest
import torch

from workbench.linalg import damped_hessian, inverse_cholesky
from workbench.quantizers.arithmetic.level_sweep import blocks_of_groups
from workbench.quantizers.arithmetic.sweep import sweep_blocks, sweep_columns


def to_hundredths(column: torch.Tensor, place: int) -> torch.Tensor:
    return (column * 100).round() / 100


@pytest.fixture(scope="module")
def problem() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weight, factor and damped Hessian of 40 correlated columns, float64."""
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(200, 40, generator=generator) @ torch.randn(40, 40, generator=generator)
    gram = (inputs.T @ inputs / 200).double()
    weight = 0.05 * torch.randn(12, 40, generator=generator, dtype=torch.float64)
    return weight, inverse_cholesky(gram).upper, damped_hessian(gram)


def compensated(
    weight: torch.Tensor, values: torch.Tensor, hessian: torch.Tensor, start: int, stop: int
) -> torch.Tensor:
    """Columns start..stop of the weight that makes d Hd d^T least when the columns before start are fixed to values."""
    lost = weight[:, :start] - values[:, :start]
    moves = torch.linalg.solve(hessian[start:, start:], hessian[start:, :start] @ lost.T).T
    return (weight[:, start:] + moves)[:, : stop - start]


def test_every_column_is_the_best_one_given_what_is_already_rounded(problem: tuple[torch.Tensor, ...]):
    weight, upper, hessian = problem
    seen: list[torch.Tensor] = []

    def quantize(column: torch.Tensor, place: int) -> torch.Tensor:
        assert place == len(seen)
        seen.append(column.clone())
        return to_hundredths(column, place)

    values = sweep_columns(weight, upper, quantize, block=16).values
    for place in (0, 1, 15, 16, 17, 33, 39):
        wanted = compensated(weight, values, hessian, place, place + 1)[:, 0]
        torch.testing.assert_close(seen[place], wanted, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("block", [5, 16, 24, 64])
def test_a_block_is_shown_as_it_is_when_the_sweep_gets_there(problem: tuple[torch.Tensor, ...], block: int):
    weight, upper, hessian = problem
    shown: dict[tuple[int, int], torch.Tensor] = {}

    def keep(part: torch.Tensor, start: int, stop: int) -> None:
        shown[start, stop] = part.clone()

    values = sweep_columns(weight, upper, to_hundredths, block=block, on_block=keep).values
    assert list(shown) == [(start, min(start + block, 40)) for start in range(0, 40, block)]
    for (start, stop), part in shown.items():
        torch.testing.assert_close(part, compensated(weight, values, hessian, start, stop), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_loss_is_the_damped_output_error(layer_s: layers.Layer, dtype: torch.dtype):
    assert layer_s.statistics.gram is not None
    hessian = damped_hessian(layer_s.statistics.gram)
    upper = inverse_cholesky(layer_s.statistics.gram).upper.to(dtype)
    swept = sweep_columns(layer_s.weight, upper, to_hundredths)
    lost = (layer_s.weight - swept.values).double()
    torch.testing.assert_close(swept.loss.double(), (lost @ hessian * lost).sum(1) / 2, rtol=1e-4, atol=0)


def test_blocks_change_no_result(layer_s: layers.Layer):
    assert layer_s.statistics.gram is not None
    upper = inverse_cholesky(layer_s.statistics.gram).upper
    before = layer_s.weight.clone()
    whole = sweep_columns(layer_s.weight, upper, to_hundredths, block=512).values
    for block in (1, 7, 32, 128):
        assert torch.equal(sweep_columns(layer_s.weight, upper, to_hundredths, block=block).values, whole)
    assert torch.equal(layer_s.weight, before)
    assert whole.is_contiguous()


def test_nothing_is_lost_when_nothing_is_rounded(problem: tuple[torch.Tensor, ...]):
    weight, upper, _ = problem
    swept = sweep_columns(weight, upper, lambda column, place: column)
    assert torch.equal(swept.values, weight)
    assert not swept.loss.any()


def test_exact_block_compensation_leaves_what_a_column_sweep_leaves(problem: tuple[torch.Tensor, ...]):
    """The paper's identity E U_bb = W - Q: given a block's rounded values, the rest moves as column by column."""
    weight, upper, _ = problem
    shown: dict[int, torch.Tensor] = {}
    values = sweep_columns(
        weight, upper, to_hundredths, block=8, on_block=lambda part, start, stop: shown.update({start: part.clone()})
    ).values
    seen: dict[int, torch.Tensor] = {}

    def quantize(part: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        seen[start] = part.clone()
        return values[:, start:stop]

    assert torch.equal(sweep_blocks(weight, upper, quantize, block=8, compensation="exact"), values)
    for start, part in shown.items():
        torch.testing.assert_close(seen[start], part, rtol=1e-8, atol=1e-10)


def test_block_compensation_that_is_none_leaves_the_weight_alone(problem: tuple[torch.Tensor, ...]):
    weight, upper, _ = problem
    values = sweep_blocks(
        weight, upper, lambda part, start, stop: to_hundredths(part, start), block=16, compensation="none"
    )
    assert torch.equal(values, to_hundredths(weight, 0))


@pytest.mark.parametrize(
    ("columns", "group", "block"), [(40, 8, 16), (40, 8, 20), (40, 16, 8), (40, 40, 16), (40, 16, 16), (7, 3, 2)]
)
def test_blocks_fit_groups(columns: int, group: int, block: int):
    blocks = blocks_of_groups(columns, group, block)
    covered = [place for start, stop in blocks for place in range(start, stop)]
    assert covered == list(range(columns))
    assert max(stop - start for start, stop in blocks) <= max(block, 1)
    for first in range(0, columns, group):
        within = [(start, stop) for start, stop in blocks if start <= first < stop]
        assert within[0][0] == first or min(first + group, columns) <= within[0][1]
