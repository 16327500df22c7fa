"""Several metrics on one model: sweeps are shared, texts and quantizers have defaults, notes say what happened."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
import torch

from workbench import studies
from workbench.errors import WorkbenchError
from workbench.model import range_sweep, statistics
from workbench.model.matrices import quantizable_matrices, read_weight
from workbench.model.sites import LEVELS
from workbench.ordering import spearman
from workbench.progress import run
from workbench.registry import salience as metrics
from workbench.scheme import Scheme
from workbench.studies.asked import ask, sweeps_for
from workbench.studies.context import Context
from workbench.studies.scoring import gather, score

SIZES: dict[str, Any] = {"tokens": 256, "window": 32}


def scores_of(
    loaded: Any, names: list[str], texts: dict[str, str], **chosen: Any
) -> dict[str, dict[str, torch.Tensor]]:
    asked = [ask(name) for name in names]
    given = {"calibration": texts["calibration"], "text2": texts["text"], "context": Context(), **SIZES, **chosen}
    material = run(gather(loaded, asked, **given))
    found: dict[str, dict[str, torch.Tensor]] = {name: {} for name in names}
    run(score(loaded, asked, material, lambda m, one, s, raised: found[one.method.name].update({m.name: s})))
    return found


def count_calls(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[None]:
    calls: list[None] = []
    real = getattr(module, name)

    def counted(*given: Any, **named: Any) -> Any:
        calls.append(None)
        return real(*given, **named)

    monkeypatch.setattr(module, name, counted)
    return calls


def test_all_metrics_without_gradients_share_one_forward_sweep(tiny_llama, texts, monkeypatch) -> None:
    """Counted as runs of the model's trunk: no window passes through it twice."""
    names = [method.name for method in metrics.methods() if set(method.needs) <= {*LEVELS, "quantized"}]
    assert len(names) >= 12
    quantizable_matrices(tiny_llama.model)  # tries the model on a few tokens the first time
    forwards: list[int] = []
    hook = tiny_llama.model.model.register_forward_hook(lambda module, given, out: forwards.append(len(out[0])))
    sweeps = count_calls(monkeypatch, statistics, "sweep")
    try:
        found = scores_of(tiny_llama, names, texts)
    finally:
        hook.remove()
    assert len(sweeps) == 1
    assert sum(forwards) == SIZES["tokens"] // SIZES["window"]
    assert all(len(scores) == len(quantizable_matrices(tiny_llama.model)) for scores in found.values())


def test_metrics_of_gradients_share_sweeps(tiny_llama, texts, monkeypatch) -> None:
    names = ["gradient", "snip", "fisher", "first_order", "squeezellm", "pqi", "salun", "d_pruner", "wanda"]
    passes = count_calls(monkeypatch, range_sweep, "sum_gradients")
    walks = count_calls(monkeypatch, range_sweep, "walk_path")
    together = scores_of(tiny_llama, names, texts)
    assert (len(passes), len(walks)) == (2, 1)  # one of the calibration text, one of the second, and the path
    for name in names:
        for matrix, scores in scores_of(tiny_llama, [name], texts)[name].items():
            torch.testing.assert_close(together[name][matrix], scores, rtol=2e-3, atol=1e-7)


def test_another_number_of_nodes_is_walked_on_its_own() -> None:
    asked = [ask("snip"), ask("pqi"), ask("pqi", {"nodes": 8}), ask("pqi", {"form": "signed"}), ask("salun")]
    groups = [[(one.method.name, one.nodes) for one in group] for group in sweeps_for(asked)]
    assert groups == [[("snip", 0), ("pqi", 4), ("pqi", 4)], [("pqi", 8)], [("salun", 0)]]
    assert [one.signed for one in asked] == [False, False, False, True, False]
    assert ask("force").signed


def test_the_salience_of_one_metric_is_what_it_says(tiny_gpt2, texts, finish) -> None:
    chosen = {"calibration": texts["calibration"], **SIZES}
    document = finish(studies.salience(tiny_gpt2, metric="pqi", **chosen)).document
    assert document["quantization"]["scheme"] == Scheme("rtn", 3, 64).to_json()
    assert document["gradients"]["passes"] == 4
    assert document["options"] == {"nodes": 4, "form": "absolute"}
    assert not document["signed"]
    signed = finish(studies.salience(tiny_gpt2, metric="pqi", options={"form": "signed"}, **chosen)).document
    assert signed["signed"]
    assert document["total"] > abs(signed["total"])
    assert signed["total"] == pytest.approx(sum(row["total"] for row in signed["matrices"]))
    assert document["text2"] is None
    assert finish(studies.salience(tiny_gpt2, metric="synflow")).document["calibration"] is None


def test_a_quantizer_that_changes_nothing_is_said(tiny_llama, texts, finish) -> None:
    loaded = replace(tiny_llama, model=copy.deepcopy(tiny_llama.model))
    for matrix in quantizable_matrices(loaded.model):
        loaded.model.get_parameter(matrix.name).data.zero_()
    for metric in ("pqi", "squeezellm", "kl", "first_order", "second_order"):
        result = finish(studies.salience(loaded, metric=metric, calibration=texts["calibration"], **SIZES))
        assert result.document["notes"] == ["the quantizer changes no weight of this model, so every score is zero"]
        assert result.document["total"] == 0


def test_texts_that_are_missing_or_of_no_use_are_told(tiny_llama, texts, finish, tmp_path) -> None:
    single = tmp_path / "one.txt"
    single.write_text("x")
    cases: list[tuple[str, dict[str, Any]]] = [
        ("no default second text; give one with --text2", {"metric": "salun"}),
        ("one.txt' has [12] tokens?", {"metric": "salun", "text2": str(single)}),
        ("one.txt' has [12] tokens?", {"metric": "gradient", "calibration": str(single)}),
        ("'wanda' reads no second text", {"metric": "wanda", "text2": texts["text"], "calibration": texts["text"]}),
        ("'gradient' looks at the full weights", {"metric": "gradient", "scheme": Scheme().to_json()}),
        ("lie between 1 and 64", {"metric": "pqi", "options": {"nodes": 65}}),
    ]
    for sentence, asked in cases:
        with pytest.raises(WorkbenchError, match=sentence) as refused:
            finish(studies.salience(tiny_llama, **asked))
        assert "\n" not in str(refused.value)


def test_statistics_of_another_model_or_text_are_refused(tiny_llama, tiny_gpt2, texts) -> None:
    asked = [ask("wanda")]
    given: dict[str, Any] = {"context": Context(), **SIZES}
    own = run(gather(tiny_llama, asked, calibration=texts["calibration"], **given))
    other = run(gather(tiny_gpt2, asked, calibration=texts["calibration"], **given))
    moved = run(gather(tiny_llama, asked, calibration=texts["text"], **given))
    for material, what in ((other, "of model"), (moved, "of the text windows")):
        with pytest.raises(WorkbenchError, match=f"these statistics are {what} [0-9a-f]{{16}}; "):
            run(score(tiny_llama, asked, replace(own, statistics=material.statistics), lambda *found: None))


def test_a_short_passage_is_enough_for_a_second_text(tiny_llama, finish, tmp_path) -> None:
    passage = tmp_path / "passage.txt"
    passage.write_text("Forget the red button.")
    document = finish(studies.salience(tiny_llama, metric="salun", text2=str(passage))).document
    assert document["text2"]["n_sequences"] == 1
    assert document["text2"]["corpus"] == "passage.txt"
    assert document["calibration"] is None
    assert document["total"] > 0


def test_the_embedded_model_has_a_second_text_of_its_own(finish) -> None:
    from workbench.model.load import load

    document = finish(studies.salience(load("demo"), metric="salun")).document
    assert document["text2"]["corpus"] == "demo:prompts"
    assert document["text2"]["tokens"] > 300


IDENTITIES = {
    frozenset({"snip", "taylor"}): "taylor is the square of snip",
    frozenset({"wanda", "obd"}): "obd is twice the square of wanda",
}
"""Pairs that rank weights alike, and why; no other metric may be one of the rest under a new name."""


def reduced(scores: dict[str, torch.Tensor], grain: str) -> torch.Tensor:
    """All scores of a model in a row: one a weight, summed over outputs, or summed over the matrix."""
    if grain == "matrix":
        return torch.stack([one.abs().sum() for one in scores.values()])
    if grain == "channel":
        return torch.cat([one.abs().sum(0) if one.ndim == 2 else one for one in scores.values()])
    return torch.cat([one.flatten() for one in scores.values()])


@pytest.mark.slow
def test_no_metric_is_another_under_a_new_name() -> None:
    """Every pair of metrics on the embedded model, each on its defaults, as fine as the coarser of the two scores."""
    from workbench.model.load import load

    loaded = load("demo")
    names, grains = metrics.names(), ("matrix", "channel", "element")
    texts: Any = {"calibration": "demo:calibration", "text": "demo:prompts"}
    found = scores_of(loaded, names, texts, tokens=4096, window=256)
    alike = {}
    for one, other in combinations(names, 2):
        grain = min((str(metrics.get(name).traits["granularity"]) for name in (one, other)), key=grains.index)
        correlation = spearman(*(reduced(found[name], grain) for name in (one, other)))
        if abs(correlation) > 0.999:
            alike[frozenset({one, other})] = correlation
    assert set(alike) == set(IDENTITIES), alike


@pytest.mark.slow
@pytest.mark.parametrize("name", ["demo", "stories260K"])
def test_the_signed_integral_is_the_measured_change(name: str, request, finish) -> None:
    """Eight points, rtn 4, 3 and 2 bit group 64, calibration text: within 1 % of the joint change of the loss."""
    from workbench.measures.perplexity import paired_difference
    from workbench.model.load import load
    from workbench.studies.reference import compare, reference

    folder = "demo" if name == "demo" else f"{request.getfixturevalue('shared_models')}/{name}"
    loaded = load(folder)
    calibration = "demo:calibration" if name == "demo" else f"{folder}/calibration.txt"
    asked = [ask("pqi", {"nodes": 8, "form": "signed"})]
    for bits in (4, 3, 2):
        given = {"calibration": calibration, "tokens": 4096, "context": Context(), "scheme": Scheme("rtn", bits, 64)}
        material = run(gather(loaded, asked, **given))
        totals: list[float] = []
        run(score(loaded, asked, material, lambda m, one, s, raised, t=totals: t.append(s.double().sum().item())))
        assert material.windows is not None
        assert material.weights is not None
        full = run(reference(loaded, material.windows))
        measured = run(compare(full, material.weights))
        change = paired_difference(measured.losses, full.losses).difference
        assert abs(sum(totals) - change) < 0.01 * change, (bits, sum(totals), change)


def test_read_weight_is_what_metrics_see(tiny_gpt2, texts) -> None:
    """Orientation: scores of a Conv1D come `[out, in]` like its weight."""
    found = scores_of(tiny_gpt2, ["snip", "magnitude", "gradient"], texts)
    for matrix in quantizable_matrices(tiny_gpt2.model):
        weight = read_weight(tiny_gpt2.model, matrix)
        product = found["gradient"][matrix.name] * weight.abs()
        torch.testing.assert_close(found["snip"][matrix.name], product, rtol=1e-3, atol=1e-9)
