"""PTQ1.61 on blocks: its loss as printed, learning, the mask, the block-wise preprocessing."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from blocks_by_hand import first_task, numbers, quantize, tasks
from torch.nn.functional import cosine_similarity

from workbench.errors import WorkbenchError
from workbench.model.block_task import BlockTask
from workbench.model.load import LoadedModel
from workbench.progress import Progress, run
from workbench.quantizers.ptq161 import ptq161
from workbench.quantizers.weight import QuantizedWeight
from workbench.quantizers.weights.salient_and_binary import SalientAndBinaryWeight

METHOD = partial(ptq161, group_size=-1)


def printed_loss(task: BlockTask, held: dict[str, QuantizedWeight]) -> float:
    """MSE(f(x), f_q(x_q)) + MSE(f(x_q), f_q(x_q)) - log|mean cos| of both pairs, mean over batches."""
    dense, total = {name: one.dequantize() for name, one in held.items()}, 0.0
    pairs = list(zip(task.inputs("full"), task.inputs("quantized"), strict=True))
    for batch, (x, x_q) in enumerate(pairs):
        output = task.run(batch, x_q, dense)
        for target in (task.run(batch, x, {}), task.run(batch, x_q, {})):
            total += float((output - target).square().mean())
            total -= float(cosine_similarity(output, target, dim=-1).mean().abs().log())
    return total / len(pairs)


@pytest.mark.parametrize("options", [{}, {"cosine": False}, {"mean": "none", "grid": "salient"}], ids=str)
def test_learning_lowers_the_loss_of_every_block(tiny_llama: LoadedModel, options: dict[str, object]):
    held: list[dict[str, QuantizedWeight]] = []
    for task in tasks(tiny_llama, numbers(259), held):
        before = run(METHOD(task, learn=False, **options))
        after = run(METHOD(task, epochs=6, **options))
        assert printed_loss(task, after) < printed_loss(task, before)
        held.append(after)
    assert len(held) == 2


def test_only_scales_are_learned(tiny_gpt2: LoadedModel):
    task = first_task(tiny_gpt2, numbers(259))
    before, after = run(METHOD(task, learn=False)), run(METHOD(task, epochs=2))
    for name, one in after.items():
        other = before[name]
        assert isinstance(one, SalientAndBinaryWeight)
        assert isinstance(other, SalientAndBinaryWeight)
        for part in ("signs", "mask", "salient", "scale", "zero", "mean"):
            assert torch.equal(one.tensors()[part], other.tensors()[part])
        assert not torch.equal(one.magnitude, other.magnitude)
        assert not torch.equal(one.row_factor, other.row_factor)
        assert int(one.salient_columns.sum()) == round(0.2 * one.shape[1])


def test_the_mask_is_that_of_the_largest_inputs(tiny_llama: LoadedModel):
    task = first_task(tiny_llama, numbers(259))
    held = run(METHOD(task, learn=False, salient=0.1))
    for matrix in task.matrices:
        largest = run(task.statistics(matrix.site, ("max_abs",))).max_abs
        weight = held[matrix.name]
        assert isinstance(weight, SalientAndBinaryWeight)
        chosen = weight.salient_columns
        assert int(chosen.sum()) == round(0.1 * matrix.columns)
        assert largest[chosen].min() >= largest[~chosen].max()


def test_preprocessing_brings_the_quantized_block_closer(tiny_llama: LoadedModel):
    task = first_task(tiny_llama, numbers(259))
    notes: list[Progress] = []
    plain = run(METHOD(task, learn=False))
    changed = run(METHOD(task, learn=False, preprocess_steps=30, preprocess_rate=0.003), notes.append)
    assert printed_loss(task, changed) < 0.98 * printed_loss(task, plain)
    told = [one.note for one in notes if one.note.startswith("block-wise preprocessing (ours)")]
    assert "step 0 of 30, about" in told[0]
    assert len(told) == 30


def test_preprocessing_that_does_not_help_is_dropped(tiny_llama: LoadedModel):
    task = first_task(tiny_llama, numbers(259))
    plain = run(METHOD(task, learn=False))
    wild = run(METHOD(task, learn=False, preprocess_steps=3, preprocess_rate=0.1, preprocess_rank=64))
    assert printed_loss(task, wild) <= printed_loss(task, plain)


def test_it_can_be_repeated_and_the_seed_counts(tiny_llama: LoadedModel):
    task = first_task(tiny_llama, numbers(259, windows=2))
    shares: list[float] = []

    def dense(seed: int) -> torch.Tensor:
        options = {"epochs": 2, "preprocess_steps": 5, "preprocess_rate": 0.003, "seed": seed}
        held = run(METHOD(task, **options), lambda one: shares.append(one.done / one.total))
        return torch.cat([one.dequantize().flatten() for one in held.values()])

    first = dense(0)
    assert shares == sorted(shares)
    assert shares[-1] <= 1
    assert torch.equal(first, dense(0))
    assert not torch.equal(first, dense(1))


def test_some_matrices_of_a_block_and_bad_weights(tiny_gpt2: LoadedModel):
    task = first_task(tiny_gpt2, numbers(259))
    kept = task.matrices[1:3]
    part = replace(task, matrices=kept, weights={one.name: task.weights[one.name] for one in kept})
    assert list(run(METHOD(part, epochs=1))) == [one.name for one in kept]
    bad = task.weights[kept[0].name].clone()
    bad[0, 0] = float("inf")
    with pytest.raises(WorkbenchError, match="infinite"):
        run(METHOD(replace(part, weights=dict(part.weights) | {kept[0].name: bad})))


def test_a_short_calibration_is_enough_and_sample_caps_it(tiny_llama: LoadedModel, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("workbench.model.walk.BATCH_TOKENS", 48)
    task = first_task(tiny_llama, numbers(259))
    assert len(task.inputs()) == 3
    notes: list[str] = []
    run(METHOD(task, epochs=2, sample=64), lambda one: notes.append(one.note))
    learning = [one for one in notes if one.startswith("learning scales, epoch 1")]
    assert len(learning) == 2 + 2  # two batches of 48 tokens, learned from and then measured
    held = quantize(tiny_llama, numbers(259, windows=1, window=2), partial(METHOD, epochs=1))
    assert all(torch.isfinite(one.dequantize()).all() for one in held.values())
