"""AWQ on blocks and whole models: where scales are kept, what is clipped, what it costs and what it saves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from blocks_by_hand import build, first_task, loaded, numbers, quantize, tasks

from workbench.errors import WorkbenchError
from workbench.measures.perplexity import summarize, token_losses
from workbench.model.block_task import BlockTask
from workbench.model.load import LoadedModel, load
from workbench.model.matrices import quantizable_matrices, read_weight
from workbench.model.overlay import overlay
from workbench.model.texts import make_windows, read_text
from workbench.progress import run
from workbench.quantizers.awq import awq
from workbench.quantizers.rtn import rtn
from workbench.quantizers.weight import AffineWeight
from workbench.quantizers.weights.scaled import ScaledWeight


@pytest.fixture
def any_task(tiny_llama: LoadedModel) -> Callable[[str], BlockTask]:
    return lambda family: first_task(loaded(build(family), tiny_llama), numbers(96))


def test_a_site_with_a_reader_outside_the_task_keeps_its_scales(any_task: Callable[[str], BlockTask]):
    whole = any_task("llama")
    kept = tuple(one for one in whole.matrices if one.role in ("q_proj", "v_proj", "down_proj"))
    task = replace(whole, matrices=kept, weights={one.name: whole.weights[one.name] for one in kept})
    held = run(awq(task, bits=2, group_size=32))
    assert list(held) == [one.name for one in kept]
    for weight in held.values():
        if isinstance(weight, ScaledWeight):
            assert not weight.columns_absorbed
            assert weight.rows is None


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_absorbed_and_stored_scales_amount_to_the_same(tiny_llama: LoadedModel, family: str):
    model = loaded(build(family), tiny_llama)
    absorbed, stored = (
        quantize(model, numbers(96), partial(awq, bits=3, group_size=16, clip=False, scales=kept))
        for kept in ("absorbed", "stored")
    )
    full = {one.name: read_weight(model.model, one) for one in quantizable_matrices(model.model)}
    saved, divided = 0, 0
    for name, weight in absorbed.items():
        one, other = weight.dequantize(), stored[name].dequantize()
        if isinstance(weight, ScaledWeight) and weight.rows is not None:
            divided += 1
            assert not torch.equal(weight.rows, torch.ones_like(weight.rows))
            # a row that is divided by its scale moves only as far as fp16 rounds the scales of its groups
            near = torch.isclose(one, other, rtol=2e-3, atol=1e-6)
            assert float(near.float().mean()) > 0.97
            errors = [float((dense - full[name]).norm()) for dense in (one, other)]
            assert errors[0] == pytest.approx(errors[1], rel=0.02)
        else:
            assert torch.equal(one, other)
        saved += 2 * weight.shape[1] if isinstance(weight, ScaledWeight) and weight.columns_absorbed else 0
    assert divided > 0
    assert sum(one.nbytes for one in stored.values()) - sum(one.nbytes for one in absorbed.values()) == saved > 0


def test_a_scaled_weight_is_what_its_parts_say():
    weight = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    dense = rtn(weight, bits=4, group_size=8)
    columns, rows = torch.arange(1.0, 9).half(), torch.tensor([1.0, 2.0, 4.0]).half()
    held = ScaledWeight(dense, columns, rows, False)
    expected = torch.diag(rows.float()) @ dense.dequantize() @ torch.diag(1 / columns.float())
    torch.testing.assert_close(held.dequantize(), expected)
    assert torch.equal(held.dequantize(torch.bfloat16), held.dequantize().bfloat16())
    assert held.nbytes == dense.nbytes + 16
    assert replace(held, columns_absorbed=True).nbytes == dense.nbytes
    assert held.nominal_bits == 4


def test_queries_and_keys_are_not_clipped(any_task: Callable[[str], BlockTask]):
    task = any_task("llama")
    plain, clipped = (run(awq(task, bits=2, group_size=16, clip=clip)) for clip in (False, True))
    moved = {
        one.role
        for one in task.matrices
        if not torch.equal(plain[one.name].dequantize(), clipped[one.name].dequantize())
    }
    assert moved == {"v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
@pytest.mark.parametrize(("group_size", "symmetric"), [(32, False), (-1, True), (128, True)])
def test_every_width_and_group_on_both_models(
    tiny_llama: LoadedModel, tiny_gpt2: LoadedModel, bits: int, group_size: int, symmetric: bool
):
    model = tiny_gpt2 if symmetric else tiny_llama
    windows = numbers(259, windows=2, window=8)
    held = quantize(model, windows, partial(awq, bits=bits, group_size=group_size, symmetric=symmetric))
    assert list(held) == [one.name for one in quantizable_matrices(model.model)]
    for matrix in quantizable_matrices(model.model):
        weight = held[matrix.name]
        assert weight.shape == matrix.shape
        assert weight.nominal_bits == bits
        assert torch.isfinite(weight.dequantize()).all()
        dense = weight.dense if isinstance(weight, ScaledWeight) else weight
        assert isinstance(dense, AffineWeight)
        assert dense.packed.symmetric == symmetric


def test_dead_inputs_and_bad_weights(any_task: Callable[[str], BlockTask]):
    task = any_task("opt")
    name = next(one.name for one in task.matrices if one.role == "fc1")
    dead = dict(task.weights) | {name: torch.zeros_like(task.weights[name])}
    held = run(awq(replace(task, weights=dead), bits=3, group_size=16))
    assert not held[name].dequantize().any()
    bad = task.weights[name].clone()
    bad[0, 0] = float("nan")
    with pytest.raises(WorkbenchError, match=r"fc1.*NaN"):
        run(awq(replace(task, weights=dict(task.weights) | {name: bad}), bits=3, group_size=16))
    with pytest.raises(WorkbenchError, match="choose"):
        run(awq(task, bits=5, group_size=16))


def test_it_can_be_repeated_and_reports_in_order(any_task: Callable[[str], BlockTask]):
    task, shares = any_task("llama"), []
    first = run(awq(task, bits=2, group_size=16), lambda one: shares.append(one.done / one.total))
    again = run(awq(task, bits=2, group_size=16))
    assert all(torch.equal(first[name].dequantize(), again[name].dequantize()) for name in first)
    assert shares == sorted(shares)
    assert shares[-1] <= 1


def test_later_blocks_see_inputs_of_the_full_model(tiny_llama: LoadedModel):
    """What the first block was rounded to makes no difference to the second."""
    found = []
    for bits in (1, 8):
        held = []
        for task in tasks(tiny_llama, numbers(259), held):
            held.append(run(awq(task, bits=bits if not held else 3, group_size=32)))
        found.append(held[1])
    assert all(torch.equal(found[0][name].dequantize(), found[1][name].dequantize()) for name in found[0])


@pytest.mark.slow
def test_a_trained_model_keeps_more_of_its_perplexity(shared_models: Path):
    """At 3 bits 10.21 by round to nearest, 8.92 with scales, 7.20 with clipping; the full model has 4.3.

    The design has 9.64 and 7.18 with scales on other samples, and asks for the order alone.
    """
    folder = shared_models / "stories260K"
    model = load(str(folder))
    text = read_text(str(folder / "sampled.txt"))
    windows = make_windows(text, model.tokenizer, window=256, tokens=72 * 256, context=model.context)
    seen, measured = replace(windows, ids=windows.ids[:32], tokens=32 * 256), windows.ids[32:]

    def perplexity(weights: dict[str, torch.Tensor]) -> float:
        with overlay(model.model, weights):
            return summarize(run(token_losses(model.model, measured))).perplexity

    matrices = quantizable_matrices(model.model)
    plain = perplexity({m.name: rtn(read_weight(model.model, m), bits=3, group_size=64).dequantize() for m in matrices})
    scaled, clipped = (quantize(model, seen, partial(awq, bits=3, group_size=64, clip=clip)) for clip in (False, True))
    assert perplexity({name: one.dequantize() for name, one in scaled.items()}) < 0.92 * plain
    assert perplexity({name: one.dequantize() for name, one in clipped.items()}) < 0.76 * plain
