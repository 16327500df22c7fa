"""What people paste, and models that lack something: answered, or refused in one sentence that says why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from attribution_models import IDS, LOGIT, Toy, ToyConfig, adapted, build, explain, letters, quick, words

import lowbit
from workbench.attribution.adapter import Adapter
from workbench.attribution.questions import pose
from workbench.errors import WorkbenchError
from workbench.model.matrices import quantizable_matrices, read_weight
from workbench.model.overlay import overlay
from workbench.model.packed import packed_copy
from workbench.registry import Method, attribution

ATTENDING = ("attention", "attention_rollout", "grad_attention", "norm_attention", "value_zeroing")
BATCHED = [method for method in attribution.methods() if "batch" in {option.name for option in method.options}]
PASTED = {
    "markup": "<script>alert(1)</script><b>&amp;</b>",
    "emoji": "yes 😀👨\u200d👩\u200d👧",
    "right to left": "שָׁלוֹם مرحبا",
    "control characters": "a\u202eb\x00c\x1b[31m",
    "blanks": "a\u00a0\u3000\t\r\n b",
}


@pytest.fixture(scope="module")
def bytewise() -> Adapter:
    """A random model of a byte-level tokenizer, which reads whatever there is."""
    model = build("llama")
    model.resize_token_embeddings(len(letters()), mean_resizing=False)
    return Adapter(model, letters(), context=64)


@pytest.mark.parametrize("name", list(PASTED))
def test_whatever_is_pasted_is_explained_byte_by_byte(name: str, bytewise: Adapter) -> None:
    posed = pose(bytewise, bytewise.encode(PASTED[name]), "continuation: 😀")
    data = b"".join(bytewise.vocabulary.data(index) for index in posed.prompt.ids[0].tolist())
    assert data.decode() == PASTED[name] + " 😀"
    assert posed.target.label.endswith(repr(" 😀"))
    scores = attribution.get("occlusion")(posed.adapter, posed.prompt.ids, posed.target).scores
    assert bool(scores[: -len(" 😀".encode())].all())


@pytest.mark.parametrize("text", ["w4 " * 64, "w4 " * 5000, "w4 " * 63 + "w5"])
def test_a_prompt_over_the_cap_is_cut_and_says_so(text: str, llama: Adapter) -> None:
    prompt = llama.encode(text, cut=True)
    assert prompt.ids.shape == (1, 64)
    assert prompt.special == (True, *[False] * 63)
    assert prompt.tokens[-1] == text.split()[-1]
    assert prompt.notes[-1].startswith("the prompt has ")
    assert prompt.notes[-1].endswith(" were cut")
    assert ("its first 5000 were cut" in prompt.notes[0]) == (len(text) == 15_000)
    assert prompt.notes[0] in pose(llama, prompt, "w20").target.notes
    with pytest.raises(WorkbenchError):
        llama.encode(text)


def test_a_prompt_that_fits_is_not_cut(llama: Adapter) -> None:
    assert llama.encode("w4 " * 63, cut=True).notes == ()
    for bad in ("", " \n", "</s>", "w4 \ud800"):
        with pytest.raises(WorkbenchError):
            llama.encode(bad, cut=True)


@pytest.mark.parametrize("name", ATTENDING)
def test_attention_methods_refuse_a_model_that_shows_none(name: str) -> None:
    adapter = Adapter(Toy(ToyConfig()).eval(), words())
    with pytest.raises(WorkbenchError, match=r"Toy .*attention") as refused:
        explain(name, adapter)
    assert str(refused.value).count("\n") == 0


@pytest.mark.parametrize("name", [*ATTENDING, "deeplift"])
def test_a_model_without_eager_attention_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = adapted("llama")

    def refuse(implementation: str, **_: Any) -> None:
        raise ValueError(f"{implementation} is not there")

    monkeypatch.setattr(adapter.model, "set_attn_implementation", refuse)
    with pytest.raises(WorkbenchError, match="LlamaForCausalLM has no eager attention, which this method reads"):
        explain(name, adapter)
    assert bool(explain("gradient", adapter).scores.all())


@pytest.mark.parametrize("name", ["integrated_gradients", "occlusion", "linearised", "attention"])
def test_packed_weights_are_explained_by_what_their_codes_stand_for(name: str) -> None:
    model = build("llama")
    packed = {
        matrix.name: lowbit.quantize(read_weight(model, matrix), bits=3, group_size=32)
        for matrix in quantizable_matrices(model)
    }
    small = packed_copy(model, packed)
    adapter = Adapter(small, words())
    assert adapter.notes[0].startswith(f"{len(packed)} matrices of this model are packed in few bits")
    with overlay(model, {key: lowbit.dequantize(weight) for key, weight in packed.items()}):
        expected = explain(name, Adapter(model, words()))
    found = explain(name, adapter)
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-5, rtol=1e-3)
    assert float(small(IDS).logits[0, -1, 40]) == pytest.approx(found.value, abs=1e-4)
    assert adapter.notes[0] in pose(adapter, adapter.encode("w20"), "w30").target.notes
    assert any(isinstance(module, lowbit.LowbitLinear) for module in small.modules())
    shared = {id(parameter) for parameter in small.parameters()}
    assert id(adapter.model.get_input_embeddings().weight) in shared


def test_packed_layers_keep_their_bias_scales_and_outliers() -> None:
    torch.manual_seed(0)
    weight = lowbit.quantize(torch.randn(6, 32), bits=4, group_size=32)
    layer = lowbit.LowbitLinear(weight, bias=torch.randn(6), column_scale=torch.rand(32) + 0.5)
    model = build("llama")
    model.extra = layer  # type: ignore[assignment]
    dense = Adapter(model, words()).model.extra
    given = torch.randn(3, 32)
    torch.testing.assert_close(dense(given), layer(given), atol=1e-5, rtol=1e-4)  # type: ignore[operator]
    assert Adapter(build("llama"), words()).notes == ()


def batched(adapter: Adapter) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
    rows = torch.cat([adapter.embed(IDS), adapter.embed(IDS.flip(1)), adapter.embed((IDS + 1) % 96)])
    return rows, LOGIT.value


def test_a_batch_gives_what_its_rows_give_alone(any_family: Adapter) -> None:
    """Rows are of one length by construction, masked copies of one prompt, so that nothing is ever padded."""
    rows, objective = batched(any_family)
    values, slopes = any_family.gradients(rows, objective)
    for place, row in enumerate(rows):
        value, slope = any_family.gradients(row[None], objective)
        torch.testing.assert_close(values[place], value[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(slopes[place], slope[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(any_family.values(rows, objective), values, atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", BATCHED, ids=lambda method: method.name)
def test_the_size_of_batches_changes_nothing(method: Method, llama: Adapter) -> None:
    maps = [method(llama, IDS, LOGIT, batch=size, **quick(method.name)).scores for size in (1, 3)]
    torch.testing.assert_close(*maps, atol=1e-5, rtol=1e-3)
