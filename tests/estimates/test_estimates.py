"""Estimates of time and memory: every study has one, they grow with what they count, the probe is short and once."""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from workbench import registry, studies
from workbench.errors import WorkbenchError
from workbench.estimates import bench as benches
from workbench.estimates import fitting, method_probe, probe
from workbench.estimates.bench import Bench, open_bench
from workbench.estimates.estimate import completed, estimate_on, size_words, time_words
from workbench.estimates.need import Need, in_turn
from workbench.estimates.record import read_record, record_key
from workbench.estimates.rounding import quantize, values
from workbench.estimates.table import FREE, enrolled
from workbench.estimates.units import Units
from workbench.model.accumulate import sum_bytes
from workbench.model.load import LoadedModel
from workbench.progress import run
from workbench.quantizers.driving.schemes import complete_scheme
from workbench.studies.context import Context

PROMPT = "the cat sat on the mat"
RTN = {"quantizer": "rtn", "bits": 3, "group_size": 64}
NEEDED: dict[str, dict[str, Any]] = {
    "salience": {"metric": "wanda"},
    "layer_error": {"schemes": [RTN]},
    "matrix_detail": {"matrix": "model.layers.0.mlp.up_proj.weight", "scheme": RTN},
    "signal": {"schemes": [RTN]},
    "tradeoff": {"points": [{"label": "3", "scheme": RTN}]},
    "allocate": {"budget": 3.5},
    "front": {"budgets": [3.0, 4.0]},
    "generate": {"choices": [{"label": "3", "scheme": RTN}], "prompt": PROMPT},
    "guarded": {"max_kl": 0.1, "min_agreement": 0.5, "prompts": [PROMPT]},
    "compare_attribution": {"methods": ["linearised"], "prompt": PROMPT},
    "drift": {"prompts": [PROMPT], "scheme": RTN},
    "drift_curve": {"prompts": [PROMPT], "methods": ["linearised"], "schemes": [RTN]},
    "damage_map": {"prompt": PROMPT, "scheme": RTN},
    "checkpoint": {"out": "folder", "scheme": RTN},
}
"""What studies cannot be asked without."""


@pytest.fixture
def text(tmp_path: Path) -> str:
    """2000 letters and blanks."""
    file = tmp_path / "text.txt"
    file.write_text("the quick brown fox jumps over the lazy dog and runs away " * 36, encoding="utf-8")
    return str(file)


@pytest.fixture
def bench(tiny_llama: LoadedModel) -> Bench:
    """The random Llama with a speed that is the same on every machine."""
    found = run(open_bench(tiny_llama, Context()))
    found.units = Units(1e-3, 1e-5, 3e-3, 3e-5, 1e-5, methods=found.units.methods)
    return found


def spec_of(kind: str, text: str, **more: Any) -> dict[str, Any]:
    known = completed(kind, {})
    texts = {"calibration": text, "text": text, "window": 32, "tokens": 512}
    prompt = {} if "prompt" not in studies.inspect.signature(studies.STUDIES[kind]).parameters else {"prompt": PROMPT}
    return {name: value for name, value in texts.items() if name in known} | prompt | NEEDED.get(kind, {}) | more


def test_every_study_has_an_estimate_or_says_why_not() -> None:
    assert set(enrolled()) | set(FREE) == set(studies.STUDIES)
    assert not set(enrolled()) & set(FREE)


@pytest.mark.parametrize("kind", sorted(set(studies.STUDIES) - set(FREE)))
def test_a_study_is_estimated_above_nothing(kind: str, bench: Bench, text: str) -> None:
    found = estimate_on(bench, kind, spec_of(kind, text))
    assert found.seconds > 0
    assert found.peak > 0
    assert "about" in found.words


@pytest.mark.parametrize("kind", ["salience", "evaluate", "sensitivity", "court", "allocate", "windows", "detach"])
def test_twice_the_text_takes_longer(kind: str, bench: Bench, text: str) -> None:
    less, more = (estimate_on(bench, kind, spec_of(kind, text, tokens=tokens)) for tokens in (256, 512))
    assert more.seconds > less.seconds
    assert more.peak >= less.peak


def test_a_sweep_grows_with_its_widths_and_nodes(bench: Bench, text: str) -> None:
    def seconds(**more: Any) -> float:
        return estimate_on(bench, "sensitivity", spec_of("sensitivity", text, **more)).seconds

    one, four = seconds(bits=[3]), seconds(bits=[2, 3, 4, 8])
    assert 3 * one < four + seconds(bits=[3])
    assert seconds(by="joint-path", nodes=8) > 1.5 * seconds(by="joint-path", nodes=4)
    assert seconds(measure="kl") > seconds()


def test_cells_that_are_kept_are_not_counted_again(tiny_llama: LoadedModel, text: str) -> None:
    context, spec = Context(), spec_of("sensitivity", text, bits=[4])
    before = estimate_on(run(open_bench(tiny_llama, context)), "sensitivity", spec)
    run(studies.sensitivity(tiny_llama, **spec, context=context))
    after = estimate_on(run(open_bench(tiny_llama, context)), "sensitivity", spec)
    assert after.seconds < before.seconds / 3


def test_statistics_take_what_collecting_them_takes(bench: Bench, text: str) -> None:
    peak = estimate_on(bench, "layer_error", spec_of("layer_error", text)).peak
    assert peak > sum_bytes(bench.shape.sites, {"gram"})
    shapes = bench.shape.matrices
    assert bench.shape.weights == sum(rows * columns for rows, columns in shapes)
    assert 0.5 < bench.shape.behind < 1


def test_the_probe_is_short_and_made_once(
    tiny_gpt2: LoadedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(benches, "_measured", {})
    calls = []
    real = benches.probe
    monkeypatch.setattr(benches, "probe", lambda *given: calls.append(1) or real(*given))
    context = Context()
    state, started = torch.random.get_rng_state(), time.perf_counter()
    first = run(open_bench(tiny_gpt2, context))
    assert time.perf_counter() - started < 2 * probe.SECONDS  # the machine may be busy
    assert torch.equal(state, torch.random.get_rng_state())
    assert run(open_bench(tiny_gpt2, Context())).units is first.units  # in this process
    monkeypatch.setattr(benches, "_measured", {})
    assert run(open_bench(tiny_gpt2, context)).units == first.units  # and from the cells
    assert len(calls) == 1
    assert min(first.units.run, first.units.forward, first.units.gradient, first.units.compare) > 0


def test_a_method_that_cannot_be_tried_and_one_that_is_scaled(bench: Bench) -> None:
    assert method_probe.scaled({}, "out * in", {}, 8, 8) == 0.0
    found = {"64x64": 1.0}
    more = (128**3 + 8192) / (64**3 + 4096)
    assert method_probe.scaled(found, "in^3 + out * in", {}, 64, 128) == pytest.approx(more**method_probe.GAIN)
    assert method_probe.scaled(found, "out * in", {}, 128, 128) == pytest.approx(4.0)
    assert method_probe.scaled(found, "words that no formula has", {}, 128, 128) == pytest.approx(4.0)
    assert method_probe.scaled(found, "tok * in^2 + in^3 + out * in^2", {}, 64, 64) == 1.0
    assert bench.rounding(complete_scheme({"quantizer": "gptq", "bits": 3, "group_size": 64})) > 0


@pytest.mark.parametrize("name", registry.quantizers.names())
def test_every_quantizer_is_estimated(name: str, bench: Bench, text: str) -> None:
    traits = registry.quantizers.get(name).traits
    bits = None if traits.get("fixed_width") else traits.get("widths", (3,))[0]
    scheme = complete_scheme({"quantizer": name, "bits": bits, "group_size": 64})
    windows = bench.calibration({"calibration": text, "tokens": 256, "window": 32})
    found = quantize(bench, scheme, windows)
    assert found.seconds > 0
    assert 0 < found.kept < 2 * bench.shape.weights <= values(bench, scheme, windows).kept


def test_what_is_kept_lies_under_what_comes_after() -> None:
    whole = in_turn([Need(1.0, 10, 4), Need(2.0, 20, 0), Need(3.0, 5, 1)])
    assert whole == Need(6.0, 24, 5)
    assert Need(1.0, 10, 4).times(3) == Need(3.0, 10, 4)
    assert Need(1.0, 10, 4).times(0) == Need()


def test_memory_that_is_not_there_is_refused_and_what_is_offered_is_accepted(
    tiny_llama: LoadedModel, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of("evaluate", text, tokens=1024, window=128)
    held = run(open_bench(tiny_llama, Context()))
    whole = estimate_on(held, "evaluate", spec)
    monkeypatch.setattr(fitting, "free_memory", lambda device: whole.peak - 1)
    with pytest.raises(WorkbenchError, match=r"evaluate needs about .* of memory; .* it would fit with") as raised:
        fitting.check_fits(held, "evaluate", spec, whole)
    words, smaller = fitting.nearest(held, "evaluate", spec, whole.peak - 1) or pytest.fail("nothing was offered")
    assert words in str(raised.value)
    assert smaller.peak < whole.peak
    fitting.check_fits(held, "evaluate", {**spec, "tokens": 512}, smaller)


def test_a_run_that_nothing_makes_fit_is_refused_before_it_starts(
    tiny_llama_folder: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = Context()
    monkeypatch.setattr(fitting, "free_memory", lambda device: 1000)
    monkeypatch.setitem(studies.STUDIES, "salience", _never)
    spec = {"model": str(tiny_llama_folder), "metric": "fisher", "calibration": text, "tokens": 256, "window": 32}
    with pytest.raises(WorkbenchError, match="no smaller window or text would fit; --memory-limit"):
        run(studies.start("salience", spec, context))


@functools.wraps(studies.salience)
def _never(*given: Any, **settings: Any) -> Any:
    pytest.fail("the study was started")
    yield


def test_estimate_and_truth_are_recorded_beside_the_result(tiny_llama_folder: Path, text: str) -> None:
    context, told = Context(), []
    spec = {"model": str(tiny_llama_folder), "calibration": text, "tokens": 256, "window": 32, "metric": "wanda"}
    result = run(studies.start("salience", spec, context), lambda progress: told.append(progress.note))
    assert any(note.startswith("about ") for note in told)
    key = record_key("salience", spec)
    found = read_record(context.cells.get_cells([key]).get(key))
    assert found is not None
    assert found.took > 0
    assert found.processor > 0
    assert found.held > 2**20
    assert "expected" in found.words
    assert "seconds" not in result.document  # a result does not say how long it took


def test_a_spec_that_a_study_refuses_is_refused_in_its_own_words(tiny_llama_folder: Path, text: str) -> None:
    spec = {"model": str(tiny_llama_folder), "calibration": text, "metric": "nonsense"}
    with pytest.raises(WorkbenchError, match="nonsense"):
        run(studies.start("salience", spec, Context()))
    with pytest.raises(WorkbenchError, match="no bits were given"):
        run(studies.start("sensitivity", {"model": str(tiny_llama_folder), "calibration": text, "bits": []}, Context()))


def test_words() -> None:
    assert [time_words(one) for one in (0.2, 41.3, 300, 9000)] == ["1 s", "41 s", "5 min", "2.5 h"]
    assert [size_words(one) for one in (1000, 2**20 * 40, 2**30 * 3)] == ["1 MiB", "40 MiB", "3 GiB"]
