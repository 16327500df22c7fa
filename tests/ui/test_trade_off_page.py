"""Trade-off: uniform widths and the plans of the session, what beats what, what is noise."""

import json
from collections.abc import Callable

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from workbench.ui.trade_off import dominated, noise_sentences

Open = Callable[..., AppTest]


def test_it_draws_a_point_a_width_and_the_facts_of_one(open_page: Open) -> None:
    app = open_page("trade_off", point="rtn, 3 bits, groups of 64")
    assert not app.exception
    spec = json.loads(app.get("plotly_chart")[0].proto.spec)
    assert spec["layout"]["yaxis"]["type"] == "log"
    series = next(trace for trace in spec["data"] if trace.get("customdata"))
    assert [label for _, label in series["customdata"]] == [f"rtn, {bits} bits, groups of 64" for bits in (2, 3, 4, 8)]
    assert "**rtn\\, 3 bits\\, groups of 64**" in [one.value for one in app.markdown]
    assert [metric.label for metric in app.metric][:2] == ["Stored bits per weight", "Perplexity"]


def test_a_plan_of_the_session_joins_the_points(open_page: Open) -> None:
    app = open_page("bit_allocation")
    app.switch_page("pages/trade_off.py").run()
    assert not app.exception
    points = app.selectbox(key="point").options
    assert len(points) == 5
    assert points[-1].startswith("plan of Bit allocation")
    assert any("In this plan:" in one.value for one in app.markdown)


def test_a_point_is_dominated_when_another_is_no_larger_and_no_worse() -> None:
    assert dominated([2.0, 3.0, 4.0, 4.0], [9.0, 5.0, 6.0, 5.0]) == [False, False, True, True]
    assert dominated([2.0, 2.0], [5.0, 5.0]) == [False, False]


@pytest.mark.parametrize(("gap", "told"), [(0.5, True), (0.2, False)])
def test_neighbours_within_two_standard_errors_are_called_alike(gap: float, told: bool) -> None:
    frame = pd.DataFrame(
        {
            "label": ["one", "other"],
            "stored_bits": [2.5, 3.5],
            "delta_loss": [1.0 + gap, 1.0],
            "delta_standard_error": [0.1, 0.1],
        }
    )
    assert noise_sentences(frame) == [] if told else "one and other cannot be told apart" in noise_sentences(frame)[0]


def test_a_point_within_two_standard_errors_of_zero_is_like_the_full_model() -> None:
    frame = pd.DataFrame({"label": ["*8*"], "stored_bits": [8.5], "delta_loss": [-0.1], "delta_standard_error": [0.06]})
    (sentence,) = noise_sentences(frame)
    assert sentence.startswith("\\*8\\* cannot be told from the full model")
