"""Studies of salience, attribution and of what is in a model."""

from __future__ import annotations

import pytest
import quick_options
import torch
from safetensors.torch import load_file

from workbench import studies
from workbench.errors import WorkbenchError
from workbench.model.matrices import quantizable_matrices, read_weight
from workbench.ordering import gini
from workbench.registry import attribution, salience
from workbench.results import dumps
from workbench.scheme import affine_stored_bits

SIZES = {"tokens": 256, "window": 32}
TWO = {"quantizer": "rtn", "bits": 2, "group_size": 32, "symmetric": False, "options": {}}
PROMPT = "the cat sat"


def test_inspection_counts_every_parameter_once(tiny_llama, finish) -> None:
    document = finish(studies.inspection(tiny_llama)).document
    inside = sum(matrix["parameters"] for matrix in document["matrices"])
    outside = sum(part["parameters"] for part in document["skipped"])
    assert inside + outside == sum(parameter.numel() for parameter in tiny_llama.model.parameters())
    assert document["model"]["parameters"] == inside + outside
    by_bits = {size["bits"]: size for size in document["sizes"]}
    assert by_bits[16]["matrix_bytes"] == 2 * inside
    expected = sum(m["parameters"] * affine_stored_bits(*m["shape"], 3, 64, False) for m in document["matrices"])
    assert by_bits[3]["matrix_bytes"] == pytest.approx(expected / 8, abs=len(document["matrices"]))


@pytest.mark.parametrize("metric", salience.names())
def test_every_metric_gives_a_whole_result(metric: str, tiny_llama, texts, finish, tmp_path) -> None:
    file = tmp_path / "scores.safetensors"
    second = {"text2": texts["text"]} if salience.get(metric).traits.get("second_text") else {}
    steps = studies.salience(
        tiny_llama, metric=metric, calibration=texts["calibration"], tensors=file, **second, **SIZES
    )
    result = finish(steps)
    names = [matrix.name for matrix in quantizable_matrices(tiny_llama.model)]
    assert [row["name"] for row in result.document["matrices"]] == names
    assert "NaN" not in dumps(result.document)
    scores = load_file(file)
    assert set(scores) == set(names)
    row, held = result.document["matrices"][0], scores[names[0]].float()
    assert row["mean"] == pytest.approx(held.double().mean().item(), rel=1e-5)
    assert row["max"] == pytest.approx(held.max().item(), rel=1e-6)
    held = held.abs().reshape(1) if held.ndim == 0 else held.abs()  # how unequal, whatever the sign
    assert row["gini"] == pytest.approx(gini(held), rel=1e-6)
    channels = held.sum(0) if held.ndim == 2 else held
    assert row["channels"]["top"][0]["index"] == int(channels.argmax())
    assert result.tables["histogram"]["count"].groupby(result.tables["histogram"]["matrix"]).sum()[names[0]] == int(
        (held > 0).sum()
    )


def test_a_metric_of_the_full_weights_takes_no_quantizer(tiny_llama, texts, finish) -> None:
    with pytest.raises(WorkbenchError, match="takes no quantizer"):
        finish(studies.salience(tiny_llama, metric="magnitude", scheme=TWO))
    with pytest.raises(WorkbenchError, match="wanda"):
        finish(studies.salience(tiny_llama, metric="nope"))


@pytest.mark.parametrize("method", attribution.names())
def test_every_method_scores_every_token_full_and_quantized(method: str, tiny_llama, finish) -> None:
    before = {name: tensor.clone() for name, tensor in tiny_llama.model.state_dict().items()}
    options = quick_options.ATTRIBUTION.get(method)
    for scheme in (None, TWO):
        result = finish(studies.attribute(tiny_llama, prompt=PROMPT, method=method, options=options, scheme=scheme))
        document = result.document
        assert len(document["scores"]) == len(document["tokens"]) == len(document["ids"]) == len(document["held_fixed"])
        assert "NaN" not in dumps(document)
        assert list(result.tables["tokens"]["score"]) == document["scores"]
    assert all(torch.equal(before[name], tensor) for name, tensor in tiny_llama.model.state_dict().items())


def test_the_quantized_map_explains_what_the_full_model_would_say(tiny_llama, finish) -> None:
    full = finish(studies.attribute(tiny_llama, prompt=PROMPT, method="gradient")).document
    quantized = finish(studies.attribute(tiny_llama, prompt=PROMPT, method="gradient", scheme=TWO)).document
    assert full["target"]["ids"] == quantized["target"]["ids"] == [full["top"][0]["id"]]
    assert full["value"] != quantized["value"]


@pytest.mark.parametrize("model", ["tiny_llama", "tiny_gpt2"])
def test_token_weights_add_up_to_weight_times_gradient(model: str, request, finish) -> None:
    loaded = request.getfixturevalue(model)
    document = finish(studies.token_weights(loaded, prompt=PROMPT)).document
    matrix = quantizable_matrices(loaded.model)[1]
    parameter = loaded.model.get_parameter(matrix.name)
    parameter.requires_grad_(True)
    try:
        logits = loaded.model(input_ids=torch.tensor([document["ids"]])).logits[0, -1]
        (gradient,) = torch.autograd.grad(logits[document["target"]["ids"][0]], parameter)
    finally:
        parameter.requires_grad_(False)
    gradient = gradient.T if matrix.transposed else gradient
    expected = (gradient * read_weight(loaded.model, matrix)).sum().item()
    assert sum(document["score"][1]) == pytest.approx(expected, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("prompt", ["", "</s>", "\ud800"])
def test_a_prompt_that_cannot_be_explained_is_refused_in_a_sentence(prompt: str, tiny_llama, finish) -> None:
    with pytest.raises(WorkbenchError) as refused:
        finish(studies.attribute(tiny_llama, prompt=prompt, method="gradient"))
    assert "\n" not in str(refused.value)


def test_start_reads_a_spec_and_refuses_what_no_study_takes(tiny_llama_folder, finish) -> None:
    context = studies.Context()
    spec = {"model": str(tiny_llama_folder), "allow_download": False}
    document = finish(studies.start("inspect", spec, context)).document
    assert document["model"]["architecture"] == "LlamaForCausalLM"
    assert context.model(str(tiny_llama_folder)) is context.model(str(tiny_llama_folder))
    for kind, wrong in (
        ("nope", spec),
        ("inspect", {**spec, "color": 1}),
        ("inspect", {}),
        ("salience", {**spec, "tensors": "x"}),
    ):
        with pytest.raises(WorkbenchError):
            finish(studies.start(kind, wrong, context))
