"""The court: its arithmetic on made-up numbers, and on a small model predictions that must come true."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from workbench import studies
from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel
from workbench.progress import run
from workbench.results import Result
from workbench.studies.court_truth import Truth
from workbench.studies.court_verdict import judge, log10_error, rank_agreement, verdict

WIDTHS = [2, 4]


def truth(scale: float = 1.0) -> Truth:
    isolated = {("a", 2): 0.4, ("b", 2): 0.2, ("c", 2): 0.1, ("a", 4): 0.04, ("b", 4): 0.02, ("c", 4): 0.01}
    return Truth(2.0, {2: 1.0, 4: 0.1}, {cell: scale * rise for cell, rise in isolated.items()})


def test_orders_of_magnitude_between_two_numbers() -> None:
    assert log10_error(0.01, 1.0) == pytest.approx(2.0)
    assert log10_error(100.0, 1.0) == pytest.approx(2.0)
    assert log10_error(-2.0, -2.0) == 0.0
    assert [log10_error(-1.0, 1.0), log10_error(0.0, 1.0), log10_error(math.inf, 1.0)] == [None, None, None]


def test_ranks_are_compared_within_a_width() -> None:
    """Every 2-bit change is larger than every 4-bit one, so ranks over all cells would agree whatever the order is."""
    found = truth()
    against = {cell: (1.0 if cell[1] == 2 else 0.0) - rise for cell, rise in found.isolated.items()}
    assert rank_agreement(found.isolated, found.isolated, WIDTHS) == pytest.approx(1.0)
    assert rank_agreement(against, found.isolated, WIDTHS) == pytest.approx(-1.0)
    assert rank_agreement(dict.fromkeys(found.isolated, 1.0), found.isolated, WIDTHS) is None


def test_a_metric_a_tenth_too_small_misses_by_one_decade() -> None:
    seen, unseen = truth(), truth(3.0)
    tenth = {cell: rise / 10 for cell, rise in seen.isolated.items()}
    found = judge("fisher", tenth, seen, unseen, WIDTHS)
    assert found["total_ratio"] == {"2": pytest.approx(0.07), "4": pytest.approx(0.07)}
    assert found["total_log10_error"] == dict.fromkeys(("2", "4"), pytest.approx(-math.log10(0.07)))
    assert found["median_isolated_log10_error"] == pytest.approx(1.0)
    assert (found["spearman_isolated_calibration"], found["wrong_sign"]) == (pytest.approx(1.0), 0)
    ranks = judge("output_error", tenth, seen, unseen, WIDTHS)
    assert ranks["total_log10_error"] == {"2": None, "4": None}
    assert ranks["spearman_isolated_heldout"] == pytest.approx(1.0)


def test_a_wrong_sign_is_counted_and_has_no_logarithm() -> None:
    seen = truth()
    found = judge("first_order", {cell: -rise for cell, rise in seen.isolated.items()}, seen, seen, WIDTHS)
    assert found["total_log10_error"] == {"2": None, "4": None}
    assert (found["wrong_sign"], found["median_isolated_log10_error"]) == (6, None)


def test_the_verdict_names_the_nearest_the_furthest_and_the_best_ranking() -> None:
    seen = truth()
    near = {cell: rise * (0.98 / 0.7) for cell, rise in seen.isolated.items()}
    far = {cell: rise / 1000 for cell, rise in seen.isolated.items()}
    far["a", 2], far["c", 2] = far["c", 2], far["a", 2]
    metrics = [judge("pqi", near, seen, seen, [2]), judge("fisher", far, seen, seen, [2])]
    totals = [{"bits": 2, "measured": 1.0, "sum_isolated": 0.7}]
    assert verdict(metrics, totals) == (
        "Closest to the measured change of the loss with all matrices quantized came pqi, within 2 % at every width; "
        "furthest off was fisher, up to a factor of 1.43e+03; single matrices were ranked best on unseen text by pqi "
        "(Spearman 1.00); the changes of single matrices add up to 70% of the joint change."
    )
    assert "changed nothing" in verdict(metrics, [{"bits": 2, "measured": 0.0, "sum_isolated": 0.0}])


def test_on_a_model_the_path_integral_is_the_measured_change(
    tiny_llama: LoadedModel, texts: dict[str, str], finish: Callable[..., Result]
) -> None:
    found = finish(studies.court(tiny_llama, bits=(3,), group_size=32, tokens=256, window=64, **texts)).document
    metrics = {one["name"]: one for one in found["metrics"]}
    assert set(metrics) == set(studies.court_predictions.METRICS)
    assert metrics["pqi"]["total_ratio"]["3"] == pytest.approx(1.0, abs=0.01)
    own = [cell for cell in found["cells"] if cell["metric"] == "pqi_own"]
    assert len(own) == 14
    largest = max(abs(cell["measured_isolated"]) for cell in own)
    for cell in own:
        assert cell["predicted"] == pytest.approx(cell["measured_isolated"], abs=0.05 * largest)
    shares = sum(cell["path_share"] for cell in own)
    assert shares == pytest.approx(metrics["pqi"]["total_predicted"]["3"])
    total = found["totals"][0]
    assert total["sum_isolated"] == pytest.approx(sum(cell["measured_isolated"] for cell in own))


def test_cells_are_measured_once(
    tiny_llama: LoadedModel, texts: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = studies.Context()
    given = {"bits": (4,), "group_size": 32, "tokens": 128, "window": 64, "context": context, **texts}
    first = run(studies.court(tiny_llama, **given)).document
    monkeypatch.setattr(studies.court_truth, "compare", None)
    assert run(studies.court(tiny_llama, **given)).document["cells"] == first["cells"]


def test_refusals(tiny_llama: LoadedModel, texts: dict[str, str]) -> None:
    with pytest.raises(WorkbenchError, match="are the same, or one holds the other"):
        run(studies.court(tiny_llama, calibration=texts["text"], text=texts["text"]))
    with pytest.raises(WorkbenchError, match="no bits were given"):
        run(studies.court(tiny_llama, bits=(), **texts))
