"""Occlusion, of tokens, windows and spans, against Captum and closed forms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from attribution_models import IDS, LOGIT, adapted, explain
from captum.attr import FeatureAblation, Occlusion
from transformers import AutoModelForCausalLM, AutoTokenizer

from workbench.attribution.adapter import Adapter
from workbench.attribution.baselines import make_baseline
from workbench.attribution.spans import SCALES
from workbench.attribution.targets import parse_target
from workbench.errors import WorkbenchError
from workbench.registry import attribution

CONTROLS = torch.tensor([[1]])
PERTURBING = (
    "occlusion",
    "occlusion_spans",
    "shapley",
    "kernel_shap",
    "sobol",
    "extremal_mask",
    "meaningful_perturbation",
)
ERASED = torch.tensor([[1, 2, 2, 2, 2, 2, 2, 2]])
STORY = (
    "Once upon a time, there was a little girl named Lily. She had a red ball. One day, Lily went to the park to play"
    " with her red"
)
DEMO = Path(__file__).resolve().parents[2] / "data" / "demo"


@pytest.fixture(scope="module")
def demo() -> Adapter:
    model = AutoModelForCausalLM.from_pretrained(DEMO, dtype=torch.float32).eval()
    return Adapter(model, AutoTokenizer.from_pretrained(DEMO))


def from_ids(adapter: Adapter) -> Callable[[torch.Tensor], torch.Tensor]:
    """The usual target as a function of ids, as Captum wants it."""
    return lambda ids: adapter.model(input_ids=ids).logits[:, -1, 40].detach()


def test_occlusion_equals_captum(any_family: Adapter) -> None:
    theirs = FeatureAblation(from_ids(any_family)).attribute(IDS, baselines=ERASED)[0].double()
    ours = explain("occlusion", any_family, baseline="eos", batch=3)
    torch.testing.assert_close(ours.scores, theirs, atol=1e-5, rtol=1e-4)
    assert ours.held_fixed == (True, *[False] * 7)


@pytest.mark.parametrize("window", [2, 3, 7])
def test_windows_equal_captum(llama: Adapter, window: int) -> None:
    content = IDS[:, 1:]

    def after_begin(ids: torch.Tensor) -> torch.Tensor:
        return llama.model(input_ids=torch.cat([IDS[:, :1].expand(len(ids), 1), ids], 1)).logits[:, -1, 40].detach()

    theirs = Occlusion(after_begin).attribute(content, sliding_window_shapes=(window,), baselines=ERASED[:, 1:])
    ours = explain("occlusion", llama, baseline="eos", window=window).scores
    torch.testing.assert_close(ours[1:], theirs[0].double(), atol=1e-5, rtol=1e-4)


def test_a_window_longer_than_the_prompt_is_the_whole_prompt(llama: Adapter) -> None:
    result = explain("occlusion", llama, window=64)
    assert result.baseline_value is not None
    torch.testing.assert_close(result.scores[1:], torch.full((7,), result.value - result.baseline_value).double())


def test_occlusion_of_a_sum_is_each_term(toy: Adapter) -> None:
    """F = h . s^p with s the sum of embeddings; for p = 2 without i it is h . (s - x_i + x'_i)^2."""
    power = toy.model.config.power
    embeds, head = toy.embed(IDS)[0], toy.model.head.weight[40].detach()
    step = embeds - make_baseline(toy, IDS, toy.embed(IDS), "eos").embeds[0]
    expected = (embeds.sum(0) ** power - (embeds.sum(0) - step) ** power) @ head
    torch.testing.assert_close(explain("occlusion", toy, baseline="eos").scores, expected)


def test_the_scale_of_tokens_alone_is_occlusion(either: Adapter) -> None:
    spans = explain("occlusion_spans", either, word=False, clause=False, sentence=False)
    torch.testing.assert_close(spans.scores, explain("occlusion", either).scores, atol=1e-6, rtol=1e-5)


def test_no_scale_is_refused(llama: Adapter) -> None:
    with pytest.raises(WorkbenchError, match="choose at least one of: token, word, clause, sentence"):
        explain("occlusion_spans", llama, token=False, word=False, clause=False, sentence=False)


def test_scales_average_the_effects_of_their_spans(llama: Adapter, shared_models: Path) -> None:
    """By hand: each span of ids is replaced, its effect divided by its length, the scales averaged."""
    adapter = Adapter(llama.model, AutoTokenizer.from_pretrained(shared_models / "stories260K"))
    ids = torch.tensor([[1, 17, 33, 90, 8, 64, 12, 45]])
    texts = {1: "<s>", 17: " Ann", 33: "a", 90: " ran", 8: ",", 64: " she", 12: ".", 45: " So"}
    adapter.vocabulary.data = lambda index: texts[index].encode()  # type: ignore[method-assign]
    adapter.tokenizer.decode = lambda ids, **_: "".join(texts[index] for index in ids)  # type: ignore[method-assign]
    groups = {
        "token": [[1], [2], [3], [4], [5], [6], [7]],
        "word": [[1, 2], [3], [4], [5], [6], [7]],
        "clause": [[1, 2, 3, 4], [5, 6], [7]],
        "sentence": [[1, 2, 3, 4, 5, 6], [7]],
    }
    expected = torch.zeros(8, dtype=torch.float64)
    for group in (group for scale in SCALES for group in groups[scale]):
        cut = ids.clone()
        cut[0, group] = 2
        both = adapter.model(input_ids=torch.cat([ids, cut])).logits[:, -1, 40].detach().double()
        expected[group] += float(both[0] - both[1]) / len(group) / 4
    result = attribution.get("occlusion_spans")(adapter, ids, LOGIT, baseline="eos")
    torch.testing.assert_close(result.scores, expected, atol=1e-5, rtol=1e-4)
    assert result.notes[-1].startswith("11 different spans were replaced")


@pytest.mark.parametrize("name", PERTURBING)
def test_a_prompt_of_control_tokens_alone_scores_zero(name: str, llama: Adapter) -> None:
    assert attribution.get(name)(llama, CONTROLS, LOGIT).scores.tolist() == [0.0]


@pytest.mark.parametrize("name", PERTURBING[:5])
def test_a_constant_target_gives_zeros(name: str) -> None:
    adapter = adapted("gpt2")
    adapter.model.transformer.ln_f.weight.data.zero_()
    assert float(explain(name, adapter).scores.abs().max()) == 0.0


@pytest.mark.parametrize("name", ["occlusion", "occlusion_spans", "kernel_shap"])
def test_the_word_that_decides_comes_first(name: str, demo: Adapter) -> None:
    """The embedded model says that Lily plays with her red ball because the text named the ball before."""
    prompt = demo.encode(STORY)
    scores = attribution.get(name)(demo, prompt.ids, parse_target(demo, prompt, " ball")).scores
    assert prompt.tokens[int(scores.argmax())] == " ball"
