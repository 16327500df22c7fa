"""The gradient sweep: against autograd on the model itself and finite differences, and what it leaves behind."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from workbench.errors import WorkbenchError
from workbench.model import backward
from workbench.model.gradients import SweepFacts, gradient_sweep
from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix, quantizable_matrices
from workbench.model.overlay import overlay
from workbench.model.texts import Text, Windows, make_windows
from workbench.model.weightstats import WeightStatistics
from workbench.progress import Progress, run

TEXT = Text("test", ("One day a small bird found a red button in the grass and took it home to her nest. " * 12,))
MODELS = pytest.mark.parametrize("name", ["tiny_llama", "tiny_gpt2"])
Found = dict[str, WeightStatistics]


def windows_of(loaded: LoadedModel, *, window: int = 24, tokens: int = 120) -> Windows:
    return make_windows(TEXT, loaded.tokenizer, window=window, tokens=tokens, context=loaded.context)


def sweep(loaded: LoadedModel, windows: Windows | None, **asked: Any) -> tuple[Found, SweepFacts]:
    found: Found = {}
    facts = run(
        gradient_sweep(loaded, windows, consume=lambda matrix, known: found.update({matrix.name: known}), **asked)
    )
    assert list(found) == [matrix.name for matrix in quantizable_matrices(loaded.model)]
    return found, facts


def weight_of(loaded: LoadedModel, matrix: Matrix) -> torch.Tensor:
    """A copy `[out, in]` in the model's own type."""
    weight = loaded.model.get_parameter(matrix.name).detach().clone()
    return weight.T.contiguous() if matrix.transposed else weight


def rounded(loaded: LoadedModel, levels: int = 7) -> dict[str, torch.Tensor]:
    """Every matrix on an even grid over its range, by a line of arithmetic."""
    quantized = {}
    for matrix in quantizable_matrices(loaded.model):
        weight = weight_of(loaded, matrix)
        step = 2 * weight.abs().max() / levels
        quantized[matrix.name] = (weight / step).round() * step
    return quantized


def direct_loss(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    logits = model(input_ids=ids, use_cache=False).logits
    return cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def direct_gradients(loaded: LoadedModel, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """Gradients `[out, in]` of the mean loss, on a copy whose parameters ask for them."""
    matrices, model = quantizable_matrices(loaded.model), copy.deepcopy(loaded.model)
    parameters = [model.get_parameter(matrix.name).requires_grad_() for matrix in matrices]
    gradients = torch.autograd.grad(direct_loss(model, ids), parameters)
    return {m.name: g.T if m.transposed else g for m, g in zip(matrices, gradients, strict=True)}


def direct_change(loaded: LoadedModel, ids: torch.Tensor, weights: dict[str, torch.Tensor]) -> float:
    with torch.no_grad():
        before = direct_loss(loaded.model, ids).item()
        with overlay(loaded.model, weights):
            return direct_loss(loaded.model, ids).item() - before


@pytest.fixture
def doubled(tiny_llama: LoadedModel) -> LoadedModel:
    return replace(tiny_llama, model=copy.deepcopy(tiny_llama.model).double())


@MODELS
def test_gradients_and_squares_are_those_of_autograd(name: str, request: pytest.FixtureRequest):
    loaded = request.getfixturevalue(name)
    windows = windows_of(loaded)
    found, facts = sweep(loaded, windows, needs={"grad", "grad_sq"})
    expected = direct_gradients(loaded, windows.ids)
    alone = [direct_gradients(loaded, one[None]) for one in windows.ids]
    for matrix, known in found.items():
        torch.testing.assert_close(known.grad, expected[matrix], rtol=1e-4, atol=1e-7)
        squares = torch.stack([one[matrix].square() for one in alone]).mean(0)
        torch.testing.assert_close(known.grad_sq, squares, rtol=1e-4, atol=1e-10)
    assert (facts.windows, facts.tokens, facts.ranges, facts.passes) == (5, 120, 1, 1)
    assert facts.loss == pytest.approx(direct_loss(loaded.model, windows.ids).item(), rel=1e-6)


def test_n4_squares_over_one_window_are_the_gradient_squared(tiny_llama: LoadedModel):
    found, _ = sweep(tiny_llama, windows_of(tiny_llama, window=100, tokens=100), needs={"grad", "grad_sq"})
    for known in found.values():
        assert torch.equal(known.get("grad_sq"), known.get("grad").square())


@MODELS
def test_blocks_in_turn_give_what_all_at_once_give(name: str, request: pytest.FixtureRequest):
    loaded = request.getfixturevalue(name)
    windows, quantized = windows_of(loaded), rounded(loaded)
    needs = {"grad", "grad_sq", "path", "hessian_step", "hessian_gradient", "synflow"}
    whole, _ = sweep(loaded, windows, needs=needs, weights=quantized, nodes=2)
    with pytest.raises(WorkbenchError, match=r"one block needs .* GiB of memory; the limit is .* GiB") as refused:
        sweep(loaded, windows, needs=needs, weights=quantized, nodes=2, memory=1000)
    least = float(str(refused.value).split("needs ")[1].split()[0]) * 2**30
    notes: list[str] = []
    parts: Found = {}
    steps = gradient_sweep(
        loaded,
        windows,
        needs=needs,
        weights=quantized,
        nodes=2,
        memory=int(least * 1.001),
        consume=lambda matrix, known: parts.update({matrix.name: known}),
    )
    facts = run(steps, lambda progress: notes.append(progress.note))
    assert facts.ranges == 2
    assert any("GiB, range 2 of 2" in note for note in notes)
    for matrix, known in whole.items():
        for field in ("grad", "grad_sq", "quantized", "path_abs", "path_signed", "hessian_step", "hessian_gradient"):
            torch.testing.assert_close(getattr(parts[matrix], field), getattr(known, field), rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(parts[matrix].synflow, known.synflow)


def test_the_size_of_batches_does_not_show(tiny_llama: LoadedModel, monkeypatch: pytest.MonkeyPatch):
    windows, quantized = windows_of(tiny_llama), rounded(tiny_llama)
    together, _ = sweep(tiny_llama, windows, needs={"grad", "path"}, weights=quantized)
    monkeypatch.setattr(backward, "BATCH_TOKENS", 48)
    apart, _ = sweep(tiny_llama, windows, needs={"grad", "path"}, weights=quantized)
    for matrix, known in together.items():
        torch.testing.assert_close(apart[matrix].grad, known.grad, rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(apart[matrix].path_abs, known.path_abs, rtol=1e-4, atol=1e-9)


def test_n2_weight_times_gradient_is_output_times_its_gradient(tiny_llama: LoadedModel):
    """Euler's identity of a linear layer without bias, with the output's gradient taken by a hook of our own."""
    windows = windows_of(tiny_llama)
    found, _ = sweep(tiny_llama, windows, needs={"grad"})
    model = copy.deepcopy(tiny_llama.model)
    for matrix in quantizable_matrices(tiny_llama.model):
        held: list[torch.Tensor] = []

        def keep(module: torch.nn.Module, inputs: Any, output: torch.Tensor, held: list[torch.Tensor] = held) -> Any:
            held.append(output.detach().requires_grad_() if not output.requires_grad else output)
            return held[0]

        hook = model.get_submodule(matrix.module).register_forward_hook(keep)
        loss = direct_loss(model, windows.ids)
        hook.remove()
        (slope,) = torch.autograd.grad(loss, held[0])
        flow = (held[0] * slope).double().sum().item()
        product = (weight_of(tiny_llama, matrix).double() * found[matrix.name].get("grad").double()).sum().item()
        assert product == pytest.approx(flow, rel=1e-4, abs=1e-7)


def totals(found: Found, loaded: LoadedModel, role: str) -> list[float]:
    """Sum of weight times gradient of the matrices of a role, block by block."""
    matrices = [matrix for matrix in quantizable_matrices(loaded.model) if matrix.role == role]
    return [(weight_of(loaded, m).double() * found[m.name].get("grad").double()).sum().item() for m in matrices]


@pytest.mark.parametrize(("one", "other"), [("q_proj", "k_proj"), ("v_proj", "o_proj"), ("up_proj", "down_proj")])
def test_matrices_behind_one_another_carry_the_same_total(one: str, other: str, doubled: LoadedModel):
    found, _ = sweep(doubled, windows_of(doubled), needs={"grad"})
    assert totals(found, doubled, one) == pytest.approx(totals(found, doubled, other), rel=1e-9)


@MODELS
def test_n3_hessian_products_are_differences_of_gradients(name: str, request: pytest.FixtureRequest):
    loaded = request.getfixturevalue(name)
    loaded = replace(loaded, model=copy.deepcopy(loaded.model).double())
    windows, quantized = windows_of(loaded), rounded(loaded)
    matrices = quantizable_matrices(loaded.model)
    found, facts = sweep(loaded, windows, needs={"hessian_step", "hessian_gradient", "grad"}, weights=quantized)
    own = {matrix.name: weight_of(loaded, matrix) for matrix in matrices}
    steps = {matrix: quantized[matrix] - own[matrix] for matrix in own}
    for field, direction in (("hessian_step", steps), ("hessian_gradient", {m: found[m].get("grad") for m in own})):
        near, far = (_slope(loaded, windows, own, direction, size) for size in (1e-3, 2e-3))
        expected = (4 * near - far) / 3  # what the two differences miss goes by the square of the step
        given = torch.cat([found[m].get(field).flatten() for m in own])
        assert (given - expected).norm() < 1e-4 * expected.norm()
    assert facts.passes == 4


def _slope(loaded: LoadedModel, windows: Windows, own: Any, direction: Any, size: float) -> torch.Tensor:
    """Central difference of the gradient along a direction."""
    ends = []
    for sign in (1, -1):
        with overlay(loaded.model, {name: own[name] + sign * size * direction[name] for name in own}):
            ends.append(torch.cat([one.flatten() for one in direct_gradients(loaded, windows.ids).values()]))
    return (ends[0] - ends[1]) / (2 * size)


def test_q1_and_q2_the_signed_integral_is_the_change_and_its_error_falls_by_four(doubled: LoadedModel):
    windows, quantized = windows_of(doubled), rounded(doubled, 15)
    change = direct_change(doubled, windows.ids, quantized)
    errors = []
    for nodes in (8, 16):
        found, facts = sweep(doubled, windows, needs={"path"}, weights=quantized, nodes=nodes)
        errors.append(sum(known.get("path_signed").sum().item() for known in found.values()) - change)
        assert len(facts.path_losses) == facts.passes == nodes
        assert facts.loss is None
        assert facts.changed == len(found)
    assert abs(errors[0]) < 0.01 * abs(change)
    assert 3 < errors[0] / errors[1] < 5


def test_q3_absolute_is_never_below_signed(tiny_gpt2: LoadedModel):
    windows, quantized = windows_of(tiny_gpt2), rounded(tiny_gpt2)
    found, _ = sweep(tiny_gpt2, windows, needs={"path"}, weights=quantized, nodes=3)
    for known in found.values():
        assert (known.get("path_abs") >= known.get("path_signed").abs() * (1 - 1e-6)).all()
        assert known.nodes == 3
    total = sum(known.get("path_abs").sum().item() for known in found.values())
    assert total > abs(direct_change(tiny_gpt2, windows.ids, quantized))


@MODELS
def test_q4_the_same_weights_give_zeros_and_untouched_matrices_stand_still(name: str, request: pytest.FixtureRequest):
    loaded = request.getfixturevalue(name)
    windows, matrices = windows_of(loaded), quantizable_matrices(loaded.model)
    same: Any = {matrix.name: weight_of(loaded, matrix) for matrix in matrices}
    found, facts = sweep(loaded, windows, needs={"path", "hessian_step"}, weights=same, nodes=1)
    assert facts.changed == 0
    for known in found.values():
        assert not known.get("path_abs").any()
        assert not known.get("hessian_step").any()
    one = matrices[0].name
    only: Any = {one: rounded(loaded)[one], matrices[1].name: None}
    found, facts = sweep(loaded, windows, needs={"path", "hessian_step"}, weights=only, nodes=8)
    assert facts.changed == 1
    assert [matrix for matrix, known in found.items() if known.get("path_abs").any()] == [one]
    assert torch.equal(found[matrices[1].name].get("quantized"), same[matrices[1].name])
    change = direct_change(loaded, windows.ids, {one: only[one]})
    assert found[one].get("path_signed").double().sum().item() == pytest.approx(change, rel=0.01, abs=1e-6)
    assert found[matrices[-1].name].get("hessian_step").any(), "H d reaches matrices that do not move"


def test_q5_a_quadratic_loss_is_integrated_exactly_by_one_point(doubled: LoadedModel, monkeypatch: pytest.MonkeyPatch):
    windows, quantized = windows_of(doubled), rounded(doubled)
    names = list(quantized)

    def quadratic(model: torch.nn.Module, values: dict[str, torch.Tensor], ids: torch.Tensor) -> torch.Tensor:
        held = torch.cat([values.get(name, model.get_parameter(name)).flatten() for name in names])
        curve = torch.linspace(-1, 3, len(held), dtype=held.dtype)
        return (curve * held.square()).sum() / 2 + held.sum() * held[:7].sum()

    monkeypatch.setattr(backward, "mean_loss", quadratic)
    start = quadratic(doubled.model, {}, windows.ids).item()
    change = quadratic(doubled.model, quantized, windows.ids).item() - start
    found, _ = sweep(doubled, windows, needs={"path"}, weights=quantized, nodes=1)
    total = sum(known.get("path_signed").sum().item() for known in found.values())
    assert total == pytest.approx(change, rel=1e-10)


@MODELS
@pytest.mark.parametrize("ending", ["closed", "raised", "done"])
def test_nothing_is_left_behind(name: str, ending: str, request: pytest.FixtureRequest):
    """Also half-way; the fixture itself looks for changed weights, hooks and flags."""
    loaded = request.getfixturevalue(name)
    needs = {"grad", "grad_sq", "path", "hessian_step", "hessian_gradient", "synflow"}

    def consume(matrix: Matrix, known: WeightStatistics) -> None:
        if ending == "raised":
            raise KeyboardInterrupt

    steps = gradient_sweep(loaded, windows_of(loaded), needs=needs, weights=rounded(loaded), nodes=2, consume=consume)
    if ending == "closed":
        for _ in range(20):
            _unchanged(loaded, next(steps))
        steps.close()
    elif ending == "raised":
        with pytest.raises(KeyboardInterrupt):
            run(steps, lambda progress: _unchanged(loaded, progress))
    else:
        run(steps, lambda progress: _unchanged(loaded, progress))
    _unchanged(loaded, Progress(1, 1))
    assert not any(leaf.requires_grad for leaf in loaded.model.buffers())


def _unchanged(loaded: LoadedModel, progress: Progress) -> None:
    """At every yield the caller finds the model as it was."""
    assert 0 <= progress.done <= progress.total
    assert all(one.grad is None and not one.requires_grad for one in loaded.model.parameters())
    assert torch.is_grad_enabled()


def test_it_works_where_the_caller_has_switched_gradients_off(tiny_llama: LoadedModel):
    windows = windows_of(tiny_llama)
    expected, _ = sweep(tiny_llama, windows, needs={"grad", "hessian_gradient"})
    with torch.no_grad():
        found, _ = sweep(tiny_llama, windows, needs={"grad", "hessian_gradient"})
    for matrix, known in expected.items():
        assert torch.equal(found[matrix].get("grad"), known.get("grad"))
        assert torch.equal(found[matrix].get("hessian_gradient"), known.get("hessian_gradient"))


def test_what_cannot_be_computed_is_refused_in_a_sentence(tiny_llama: LoadedModel):
    windows = windows_of(tiny_llama)
    one = replace(windows, ids=windows.ids[:, :1], window=1)
    cases: list[tuple[str, Windows | None, dict[str, Any]]] = [
        ("at least 2", one, {"needs": {"grad"}}),
        ("no text was given", None, {"needs": {"grad"}}),
        ("unknown statistic 'gradd'", windows, {"needs": {"gradd"}}),
        ("no quantizer or plan", windows, {"needs": {"path"}}),
        ("between 1 and 64", windows, {"needs": {"path"}, "weights": rounded(tiny_llama), "nodes": 0}),
        ("between 1 and 64", windows, {"needs": {"path"}, "weights": rounded(tiny_llama), "nodes": 65}),
        ("GiB of memory; the limit is", windows, {"needs": {"grad"}, "memory": 2**20}),
    ]
    for sentence, text, asked in cases:
        with pytest.raises(WorkbenchError, match=sentence) as refused:
            sweep(tiny_llama, text, **asked)
        assert "\n" not in str(refused.value)


def test_a_model_of_packed_codes_has_no_gradients(tiny_llama: LoadedModel):
    model = copy.deepcopy(tiny_llama.model)
    model.model.layers[0].mlp.register_buffer("plane0", torch.zeros(8, 8, dtype=torch.uint8))
    with pytest.raises(WorkbenchError, match="packed codes; load the model in full precision"):
        sweep(replace(tiny_llama, model=model), windows_of(tiny_llama), needs={"grad"})


def test_a_loss_that_is_not_a_number_is_said(tiny_llama: LoadedModel):
    windows, quantized = windows_of(tiny_llama), rounded(tiny_llama)
    quantized[next(iter(quantized))].fill_(torch.nan)
    with pytest.raises(WorkbenchError, match="the loss of the model on this text is nan"):
        sweep(tiny_llama, windows, needs={"path"}, weights=quantized, nodes=1)


def test_memory_that_is_free_decides_the_ranges(tiny_llama: LoadedModel, monkeypatch: pytest.MonkeyPatch):
    from workbench.model import block_ranges

    monkeypatch.setattr(block_ranges, "available_memory", lambda: 1000)
    _, facts = sweep(tiny_llama, windows_of(tiny_llama), needs={"grad"})
    assert facts.ranges == 2


Make = Callable[..., Any]


@pytest.mark.parametrize("family", ["opt", "gpt_neox", "qwen3"])
def test_other_families(family: str, make_model_folder: Make, tmp_path: Any):
    from workbench.model.load import load

    settings = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64}
    more: dict[str, dict[str, Any]] = {
        "opt": {"ffn_dim": 48, "word_embed_proj_dim": 24},
        "gpt_neox": {"intermediate_size": 48},
        "qwen3": {"intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 264},
    }
    loaded = load(str(make_model_folder(tmp_path / family, family, **settings, **more[family])))
    windows = windows_of(loaded)
    needs = {"grad", "path", "hessian_step", "synflow"}
    found, _ = sweep(loaded, windows, needs=needs, weights=rounded(loaded), nodes=4)
    expected = direct_gradients(loaded, windows.ids)
    change = direct_change(loaded, windows.ids, rounded(loaded))
    for matrix, known in found.items():
        torch.testing.assert_close(known.grad, expected[matrix], rtol=1e-3, atol=1e-7)
        assert torch.isfinite(known.get("synflow")).all()
    total = sum(known.get("path_signed").double().sum().item() for known in found.values())
    assert total == pytest.approx(change, rel=0.05)
    assert sum(known.get("synflow").sum().item() for known in found.values()) > 0
