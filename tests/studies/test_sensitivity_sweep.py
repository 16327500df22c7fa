"""Changes of single matrices, resumed in the middle of a model, against whole forwards and plain arithmetic."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from workbench import studies
from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel, load
from workbench.model.matrices import quantizable_matrices, read_weight
from workbench.model.overlay import overlay
from workbench.model.texts import make_windows, read_text
from workbench.progress import run
from workbench.quantizers.driving.schemes import quantize_matrix
from workbench.scheme import Scheme
from workbench.studies.single_changes import Change, Ground, single_changes, spread_order

SIZES: dict[str, Any] = {"tokens": 256, "window": 32}


@pytest.fixture(scope="module")
def tiny_opt(tiny_opt_folder: Path) -> LoadedModel:
    return load(str(tiny_opt_folder))


@pytest.fixture(params=["llama", "gpt2", "opt"])
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    """Three families: a tied head, biases and transposed weights, projections outside of the blocks."""
    return request.getfixturevalue(f"tiny_{request.param}")


NONE = torch.zeros(0, dtype=torch.float64)


def windows_of(loaded: Any, texts: dict[str, str]) -> Any:
    return make_windows(read_text(texts["calibration"]), loaded.tokenizer, context=loaded.context, **SIZES)


def by_window(loaded: Any, ids: torch.Tensor, weights: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean loss of every window and the log-probabilities, of the whole model, written down once more."""
    with torch.no_grad(), overlay(loaded.model, weights):
        found = loaded.model(input_ids=ids).logits.double()[:, :-1].log_softmax(-1)
    return -found.gather(-1, ids[:, 1:, None])[..., 0].mean(1), found


def rounded(loaded: Any, bits: int = 2) -> dict[str, torch.Tensor]:
    return {
        one.name: quantize_matrix(read_weight(loaded.model, one), None, Scheme(bits=bits)).dequantize()
        for one in quantizable_matrices(loaded.model)
    }


def effects(loaded: Any, ids: torch.Tensor, weights: dict[str, torch.Tensor], **chosen: Any) -> dict[str, Any]:
    found: dict[str, list[Any]] = {}
    changes = [
        Change(one.name, one, lambda name=one.name: weights[name], one.name)
        for one in reversed(quantizable_matrices(loaded.model))
    ]
    run(single_changes(Ground(loaded, ids, **chosen), changes, lambda c, e: found.setdefault(c.key, []).append(e)))
    return {
        name: (
            torch.cat([one.loss for one in parts]),
            torch.cat([one.kl for one in parts if one.kl is not None] or [NONE]),
        )
        for name, parts in found.items()
    }


def test_resumed_forwards_give_what_whole_ones_give(loaded, texts) -> None:
    ids, weights = windows_of(loaded, texts).ids, rounded(loaded)
    before = {name: one.clone() for name, one in loaded.model.state_dict().items()}
    full, truth = by_window(loaded, ids, {})
    found = effects(loaded, ids, weights, at_once=3, divergence=True)
    assert len(found) == len(weights)
    for name, (loss, kl) in found.items():
        expected, moved = by_window(loaded, ids, {name: weights[name]})
        torch.testing.assert_close(loss, expected - full, rtol=0, atol=1e-6)
        assert (loss.abs() > 1e-5).any()
        divergence = (truth.exp() * (truth - moved)).sum(-1).mean(1)
        torch.testing.assert_close(kl, divergence, rtol=1e-3, atol=1e-7)
    assert all(torch.equal(before[name], one) for name, one in loaded.model.state_dict().items())
    assert not any("forward" in vars(module) for module in loaded.model.modules())


def test_beneath_a_change_other_weights_may_lie(loaded, texts) -> None:
    """Sparing one: all matrices rounded but this one, against all of them."""
    ids, weights = windows_of(loaded, texts).ids, rounded(loaded)
    own = {one.name: read_weight(loaded.model, one) for one in quantizable_matrices(loaded.model)}
    together, joint = by_window(loaded, ids, weights)
    _, truth = by_window(loaded, ids, {})
    for name, (loss, kl) in effects(loaded, ids, own, base=weights, divergence=True).items():
        rest, spared = by_window(loaded, ids, {other: one for other, one in weights.items() if other != name})
        torch.testing.assert_close(loss, rest - together, rtol=0, atol=1e-6)
        torch.testing.assert_close(kl, (truth.exp() * (joint - spared)).sum(-1).mean(1), rtol=1e-3, atol=1e-7)


def test_what_comes_before_a_change_is_not_computed_again(tiny_llama, texts) -> None:
    """Counted in the linear layers that run: none of the block in front, and of its own block only what comes after."""
    ids, weights = windows_of(tiny_llama, texts).ids, rounded(tiny_llama)
    matrices = quantizable_matrices(tiny_llama.model)
    down = next(one for one in matrices if one.block == 1 and one.role == "down_proj")
    computed: list[str] = []
    linear = torch.nn.functional.linear
    paths = {tiny_llama.model.get_parameter(one.name).data_ptr(): one.module for one in matrices}

    def counting(first: Any, weight: Any, bias: Any = None) -> Any:
        computed.append(paths.get(weight.data_ptr(), "other"))
        return linear(first, weight, bias)

    changes = [Change("down", down, lambda: weights[down.name], "")]
    taken: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "linear", counting)
        run(single_changes(Ground(tiny_llama, ids), changes, lambda c, e: taken.append(len(computed))))
    whole = len(matrices) + 1  # and the head
    assert len(computed) == whole + 2, computed  # once to note, then the changed matrix and the head
    assert taken == [whole + 2]


def test_a_model_that_writes_into_its_own_states_is_run_as_a_whole(tiny_llama, texts) -> None:
    loaded = replace(tiny_llama, model=copy.deepcopy(tiny_llama.model))
    block = loaded.model.model.layers[1]
    plain = block.forward

    def writing(hidden: torch.Tensor, *rest: Any, **named: Any) -> Any:
        return plain(hidden.mul_(0.5), *rest, **named)

    block.forward = writing
    ids, weights = windows_of(loaded, texts).ids, rounded(loaded)
    full, _ = by_window(loaded, ids, {})
    for name, (loss, _) in effects(loaded, ids, weights, at_once=3).items():
        expected, _ = by_window(loaded, ids, {name: weights[name]})
        torch.testing.assert_close(loss, expected - full, rtol=0, atol=1e-6)
    assert block.forward is writing


def test_a_model_whose_blocks_share_more_than_their_outputs_is_run_as_a_whole(tiny_llama, texts) -> None:
    """The second block adds what the first one left elsewhere: a replay of the first one leaves nothing there."""
    loaded = replace(tiny_llama, model=copy.deepcopy(tiny_llama.model))
    first, second = loaded.model.model.layers
    plain, aside = (first.forward, second.forward), list[torch.Tensor]()

    def keeping(hidden: torch.Tensor, *rest: Any, **named: Any) -> Any:
        aside[:] = [plain[0](hidden, *rest, **named)]
        return aside[0]

    first.forward = keeping
    second.forward = lambda hidden, *rest, **named: plain[1](hidden + 0.5 * aside[0], *rest, **named)
    ids, weights = windows_of(loaded, texts).ids, rounded(loaded)
    full, _ = by_window(loaded, ids, {})
    for name, (loss, _) in effects(loaded, ids, weights, at_once=4).items():
        expected, _ = by_window(loaded, ids, {name: weights[name]})
        torch.testing.assert_close(loss, expected - full, rtol=0, atol=1e-6)


def test_the_first_windows_lie_all_over_the_text() -> None:
    assert spread_order(8) == [0, 4, 2, 6, 1, 5, 3, 7]
    for count in (1, 2, 5, 31, 100):
        order = spread_order(count)
        assert sorted(order) == list(range(count))
        for first in range(4, count, 4):
            gaps = torch.tensor([-1, *sorted(order[:first]), count]).diff()
            assert int(gaps.max()) <= 4 * count / first


def test_value_and_standard_error_are_those_of_the_windows(loaded, texts, finish) -> None:
    weights, ids = rounded(loaded), windows_of(loaded, texts).ids
    full, _ = by_window(loaded, ids, {})
    for by, sign in (("isolated", 1.0), ("spared", -1.0)):
        asked = {"bits": [2], "by": by, "calibration": texts["calibration"], **SIZES}
        base, _ = (full, None) if by == "isolated" else by_window(loaded, ids, weights)
        for cell in finish(studies.sensitivity(loaded, **asked)).document["cells"]:
            name = cell["matrix"]
            left = {one: weight for one, weight in weights.items() if (one == name) == (by == "isolated")}
            differences = sign * (by_window(loaded, ids, left)[0] - base)
            assert cell["value"] == pytest.approx(float(differences.mean()), abs=1e-6)
            error = float(differences.std(correction=1)) / math.sqrt(len(ids))
            assert cell["standard_error"] == pytest.approx(error, rel=1e-3, abs=1e-7)
            assert cell["tokens"] == ids.numel()


def test_a_sweep_with_a_precision_goes_on_where_it_stopped(tiny_llama, texts, finish) -> None:
    asked: dict[str, Any] = {"bits": [2, 8], "calibration": texts["calibration"], "tokens": 384, "window": 32}
    context = studies.Context()
    rough = finish(studies.sensitivity(tiny_llama, precision=0.5, **asked, context=context)).document
    used = [cell["tokens"] for cell in rough["cells"]]
    assert min(used) < 384
    assert {one % 128 for one in used} == {0}
    again = finish(studies.sensitivity(tiny_llama, precision=0.5, **asked, context=context)).document
    assert (again["computed"], again["cells"]) == (0, rough["cells"])
    whole = finish(studies.sensitivity(tiny_llama, **asked, context=context)).document
    alone = finish(studies.sensitivity(tiny_llama, **asked)).document
    assert whole["computed"] == sum(one < 384 for one in used)
    for one, other in zip(whole["cells"], alone["cells"], strict=True):
        assert one["value"] == pytest.approx(other["value"], abs=1e-9)
    # what is kept of more windows does not change the answer to the rough question
    assert (
        finish(studies.sensitivity(tiny_llama, precision=0.5, **asked, context=context)).document["cells"]
        == (rough["cells"])
    )


def test_what_nothing_would_use_is_refused(tiny_llama, texts, finish) -> None:
    asked = {"calibration": texts["calibration"], **SIZES}
    cases: list[tuple[str, dict[str, Any]]] = [
        ("precision has value 0", {"precision": 0.0}),
        ("give a precision with them", {"budgets": [3.0]}),
        ("each must be a number above zero", {"precision": 0.4, "budgets": [-1.0]}),
        ("knows no 'kl'", {"by": "joint-path", "measure": "kl"}),
        ("made of the whole text", {"by": "second-order", "precision": 0.4}),
        ("made of the whole text", {"measure": "output-error", "precision": 0.4}),
        ("isolated, spared, joint-path, second-order", {"by": "guess"}),
    ]
    for sentence, wrong in cases:
        with pytest.raises(WorkbenchError, match=sentence) as refused:
            finish(studies.sensitivity(tiny_llama, **wrong, **asked))
        assert "\n" not in str(refused.value)


def test_a_divergence_asked_for_later_keeps_what_was_measured(tiny_gpt2, texts, finish) -> None:
    context, asked = studies.Context(), {"bits": [2], "calibration": texts["calibration"], **SIZES}
    losses = finish(studies.sensitivity(tiny_gpt2, **asked, context=context)).document
    divergences = finish(studies.sensitivity(tiny_gpt2, measure="kl", **asked, context=context)).document
    assert divergences["computed"] == len(losses["cells"])
    assert all(cell["value"] > 0 for cell in divergences["cells"])
    again = finish(studies.sensitivity(tiny_gpt2, **asked, context=context)).document
    assert (again["computed"], again["cells"]) == (0, losses["cells"])
    fresh = finish(studies.sensitivity(tiny_gpt2, measure="kl", **asked)).document
    assert fresh["cells"] == divergences["cells"]
    # a sweep of divergences has taken the losses with it
    assert finish(studies.sensitivity(tiny_gpt2, **asked, context=context)).document["computed"] == 0
