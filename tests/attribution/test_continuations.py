"""Targets at several positions: each read where it belongs, two kept apart in one sequence, spans of the prompt."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from attribution_models import FAMILIES, IDS, PROMPT, Toy, ToyConfig, adapted, build, words
from scipy.special import log_softmax

from workbench.attribution.adapter import Adapter
from workbench.attribution.aggregate import settle
from workbench.attribution.questions import Posed, pose
from workbench.errors import WorkbenchError
from workbench.registry import attribution

A, B = "w40 w41 w42", "w43 w44"
A_IDS, B_IDS = (40, 41, 42), (43, 44)


def teacher_forced(adapter: Adapter, ids: torch.Tensor, side: tuple[int, ...]) -> float:
    """log p of the tokens after `ids`, one forward pass of ids a token."""
    total = 0.0
    for token in side:
        with torch.no_grad():
            logits = adapter.model(ids).logits[0, -1].double().numpy()
        total += float(log_softmax(logits)[token])
        ids = torch.cat([ids, torch.tensor([[token]])], 1)
    return total


def value_of(posed: Posed) -> float:
    return float(posed.adapter.values(posed.adapter.embed(posed.prompt.ids), posed.target.value))


def answer(posed: Posed, name: str, **options: Any) -> torch.Tensor:
    return attribution.get(name)(posed.adapter, posed.prompt.ids, posed.target, **options).scores


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_values_are_those_of_one_token_after_the_other(family: str, implementation: str) -> None:
    adapter = Adapter(build(family, implementation=implementation), words())
    prompt = adapter.encode(PROMPT)
    alone = [teacher_forced(adapter, IDS, side) for side in (A_IDS, B_IDS)]
    assert value_of(pose(adapter, prompt, f"continuation:{A}")) == pytest.approx(alone[0], abs=1e-4)
    both = pose(adapter, prompt, f"continuation:{A}", B)
    assert value_of(both) == pytest.approx(alone[0] - alone[1], abs=1e-4)
    mean = pose(adapter, prompt, f"continuation_mean:{A}", B)
    assert value_of(mean) == pytest.approx(alone[0] / 3 - alone[1] / 2, abs=1e-4)
    assert abs(alone[0] - alone[1]) > 0.1


def test_the_tokens_that_are_explained_are_shown_and_held_fixed(llama: Adapter) -> None:
    posed = pose(llama, llama.encode(PROMPT), f"continuation:{A}", B)
    assert posed.prompt.tokens[8:] == ("w40", "w41", "w42", "w43", "w44")
    assert posed.prompt.fixed == (*[False] * 8, *[True] * 5)
    assert posed.target.label == "log-probability of 'w40w41w42' minus log-probability of 'w43w44'"
    assert "3 and 2 tokens: every token makes one less likely, which favours the shorter" in posed.target.notes[1]
    assert not any(
        "favours" in note for note in pose(llama, llama.encode(PROMPT), f"continuation_mean:{A}", B).target.notes
    )
    found = attribution.get("integrated_gradients")(posed.adapter, posed.prompt.ids, posed.target)
    assert not found.scores[8:].any()
    assert found.relative_gap is not None
    assert found.relative_gap < 1e-3


@pytest.mark.parametrize("kind", ["continuation", "continuation_mean"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_path_methods_share_out_continuations(family: str, kind: str) -> None:
    adapter = adapted(family, torch.float64)
    prompt = adapter.encode(PROMPT)
    close = 1e-5 if family == "llama" else 1e-10
    for contrast in (None, B):
        posed = pose(adapter, prompt, f"{kind}:{A}", contrast)
        erased = posed.prompt.ids.clone()
        erased[0, 1:8] = 2
        ends = [
            float(posed.adapter.values(posed.adapter.embed(ids), posed.target.value))
            for ids in (posed.prompt.ids, erased)
        ]
        for name, options in (("integrated_gradients", {"tolerance": 0.0, "max_nodes": 64}), ("deeplift", {})):
            assert float(answer(posed, name, **options).sum()) == pytest.approx(ends[0] - ends[1], abs=close), name
        assert abs(ends[0] - ends[1]) > 0.01


@pytest.mark.parametrize("name", ["integrated_gradients", "deeplift", "occlusion", "shapley", "linearised"])
def test_the_map_of_two_continuations_is_the_difference_of_their_maps(name: str, either: Adapter) -> None:
    prompt = either.encode(PROMPT)
    options = {"tolerance": 0.0, "max_nodes": 64} if name == "integrated_gradients" else {}
    both = answer(pose(either, prompt, f"continuation:{A}", B), name, **options)[:8]
    first, second = (answer(pose(either, prompt, f"continuation:{text}"), name, **options)[:8] for text in (A, B))
    torch.testing.assert_close(both, first - second, atol=5e-5, rtol=1e-3)
    assert both.abs().max() > 1e-3


def test_of_one_token_each_they_are_a_contrast_of_logits(either: Adapter) -> None:
    prompt = either.encode(PROMPT)
    pairs = pose(either, prompt, "continuation:w40", "w70"), pose(either, prompt, "w40", "w70")
    maps = [answer(posed, "occlusion")[:8] for posed in pairs]
    torch.testing.assert_close(*maps, atol=1e-5, rtol=1e-4)


def test_a_span_of_the_prompt_is_explained_by_what_stands_before_it(either: Adapter) -> None:
    prompt = either.encode(PROMPT)
    posed = pose(either, prompt, explain=[4, 6])
    assert posed.prompt.ids.tolist() == [[1, 17, 33, 90, 8, 64]]
    assert posed.prompt.fixed == (False, False, False, False, True, True)
    assert posed.target.notes[0] == "the 2 tokens after what is explained were cut: they cannot have a part in it"
    assert value_of(posed) == pytest.approx(teacher_forced(either, IDS[:, :4], (8, 64)), abs=1e-4)
    said = pose(either, either.encode("w17 w33 w90"), "continuation:w8 w64")
    torch.testing.assert_close(answer(posed, "occlusion"), answer(said, "occlusion"))
    whole = pose(either, prompt, "logprob:", explain=[2, 8])
    assert value_of(whole) == pytest.approx(teacher_forced(either, IDS[:, :2], (33, 90, 8, 64, 12, 45)), abs=1e-4)
    rather = pose(either, prompt, contrast="w50", explain=(4, 6))
    alone = teacher_forced(either, IDS[:, :4], (50,))
    assert value_of(rather) == pytest.approx(value_of(posed) - alone, abs=1e-4)


def test_what_a_method_gives_to_fixed_tokens_is_kept_beside_the_scores(llama: Adapter) -> None:
    posed = pose(llama, llama.encode(PROMPT), f"continuation:{A}")
    raw = attribution.get("gradient")(posed.adapter, posed.prompt.ids, posed.target)
    settled = settle(raw, posed.prompt.fixed)
    assert raw.scores[8:10].abs().min() > 0
    assert not settled.scores[8:].any()
    assert torch.equal(settled.scores[:8], raw.scores[:8])
    assert settled.held_score == pytest.approx(float(raw.scores[8:].sum()))
    assert settled.held_fixed == posed.prompt.fixed
    assert settle(raw, ()) is raw


def test_attention_is_read_where_the_tokens_are_predicted(either: Adapter) -> None:
    posed = pose(either, either.encode(PROMPT), f"continuation:{A}")
    maps = []
    either.attentions(posed.prompt.ids, lambda layer, found: maps.append(found))
    expected = torch.stack(maps)[:, :, 7:10].double().mean((0, 1, 2))
    torch.testing.assert_close(answer(posed, "attention"), expected, atol=1e-6, rtol=0)


def test_a_second_continuation_does_not_see_the_first(either: Adapter) -> None:
    posed = pose(either, either.encode(PROMPT), f"continuation:{A}", B)
    maps = []
    posed.adapter.attentions(posed.prompt.ids, lambda layer, found: maps.append(found))
    seen = torch.stack(maps)
    assert not seen[:, :, 11:, 8:11].any()
    assert seen[:, :, 12, 11].min() > 0
    torch.testing.assert_close(seen.sum(-1), torch.ones_like(seen[..., 0]), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("target", "contrast", "explain", "message"),
    [
        ("continuation:", None, None, "continuation '' gives no token"),
        ("continuation:nonsense", None, None, "unknown to this tokenizer"),
        ("continuation:" + "w5 " * 64, None, None, "has 64 tokens; the model reads at most 64, and the prompt needs"),
        (f"continuation:{A}", f"continuation:{A}", None, "target and contrast are the same continuation"),
        ("", None, [3, 9], r"explain has value \[3, 9\]; give the number of the first token, from 0, .* at most 8"),
        ("", None, [3, 3], "explain has value"),
        ("", None, [-1, 3], "explain has value"),
        ("", None, [3], "explain has value"),
        ("", None, ["1", "2"], "explain has value"),
        ("", None, [True, 2], "explain has value"),
        ("", None, 3, "explain has value 3"),
        ("", None, [0, 2], "nothing to explain it by; the first that can be explained is token 2"),
        ("", None, [1, 2], "nothing to explain it by"),
        ("w20", None, [3, 4], "explain names the tokens that are explained, so that the target 'logit:w20'"),
        ("entropy:", None, [3, 4], "cannot be asked for as well"),
        ("", "w90", [3, 4], "the same continuation"),
    ],
)
def test_bad_continuations_are_refused(
    llama: Adapter, target: str, contrast: str | None, explain: Any, message: str
) -> None:
    with pytest.raises(WorkbenchError, match=message):
        pose(llama, llama.encode(PROMPT), target, contrast, explain)


def test_a_prompt_makes_room_for_what_is_explained(llama: Adapter) -> None:
    prompt = llama.encode("w4 " * 61 + "w5 w6")
    assert prompt.ids.shape == (1, 64)
    posed = pose(llama, prompt, f"continuation:{A}", B)
    assert posed.prompt.ids.shape == (1, 66)  # the two take the same positions
    assert posed.prompt.ids[0, [0, 1, 59, 60, 61, 65]].tolist() == [1, 4, 5, 6, 40, 44]
    assert posed.target.notes[0] == "the prompt has 64 tokens and there is room for 61: its first 3 were cut"
    assert bool(answer(posed, "gradient").isfinite().all())


def test_continuations_that_begin_alike_say_where_they_part(llama: Adapter) -> None:
    posed = pose(llama, llama.encode(PROMPT), "continuation:w40 w41", "w40 w42")
    assert "differ first at their token 2: 'w41' or 'w42'" in posed.target.notes[1]


def test_a_model_without_masks_is_asked_for_one_continuation_at_a_time() -> None:
    adapter = Adapter(Toy(ToyConfig()).eval(), words())
    prompt = adapter.encode(PROMPT)
    assert pose(adapter, prompt, f"continuation:{A}").target.kind == "continuation"
    with pytest.raises(WorkbenchError, match="takes no mask that keeps two continuations apart"):
        pose(adapter, prompt, f"continuation:{A}", B)
