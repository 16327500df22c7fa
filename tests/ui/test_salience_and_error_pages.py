"""Weight salience and Layer error: maps of all matrices, one in detail, the states in between."""

import json
from collections.abc import Callable

import pandas as pd
import pytest
from fake_client import FakeClient
from streamlit.testing.v1 import AppTest

from workbench.ui.layer_error import wide_table
from workbench.ui.salience import share_held, share_needed

Open = Callable[..., AppTest]
UP = "model.layers.1.mlp.up_proj.weight"


def titles(app: AppTest) -> list[str]:
    figures = [json.loads(chart.proto.spec)["layout"] for chart in app.get("plotly_chart")]
    return [figure["yaxis"]["title"].get("text", "") for figure in figures]


def test_salience_shows_map_coverage_histogram_and_channels(open_page: Open) -> None:
    app = open_page("weight_salience", matrix=UP)
    assert not app.exception
    assert titles(app) == ["", "share of the salience", "weights", "wanda, sum of the channel"]
    assert any("up\\_proj" in one.value and "of block 1" in one.value for one in app.markdown)
    assert any("The top 1 % of its weights hold" in one.value for one in app.markdown)


def test_salience_compares_two_metrics(open_page: Open) -> None:
    app = open_page("weight_salience", second="magnitude", level="channels of the chosen matrix")
    assert not app.exception
    assert any("Rank agreement" in one.value for one in app.markdown)
    assert titles(app)[-1] == "magnitude, sum of the channel"


def test_a_metric_of_channels_counts_channels(open_page: Open) -> None:
    app = open_page("weight_salience", metric="activation")
    assert titles(app)[2] == "channels"


def test_share_of_the_curve_between_its_points() -> None:
    points = pd.DataFrame({"weight_share": [0.0, 0.2, 1.0], "salience_share": [0.0, 0.6, 1.0]})
    assert share_held(points, 0.1) == pytest.approx(0.3)
    assert share_held(points, 1.0) == pytest.approx(1.0)
    assert share_needed(points, 0.8) == pytest.approx(0.6)


def test_layer_error_shows_the_worst_cell_at_first(open_page: Open) -> None:
    app = open_page("layer_error")
    assert not app.exception
    assert titles(app)[0] == "bits"
    assert len(app.get("plotly_chart")) == 5
    assert any("2 bits" in one.value for one in app.markdown)
    labels = [metric.label for metric in app.metric]
    assert {"Output error", "Signs turned", "Near a boundary", "Stored bits"} <= set(labels)


def test_layer_error_shows_the_cell_of_the_address(open_page: Open, client: FakeClient) -> None:
    app = open_page("layer_error", matrix=UP, bits="8", error="weight error")
    assert app.selectbox(key="matrix").value == UP
    assert any("8 bits" in one.value and "up\\_proj" in one.value for one in app.markdown)


def test_the_wide_table_keeps_the_order_of_the_model() -> None:
    frame = pd.DataFrame({"matrix": ["z", "z", "a", "a"], "bits": [8, 2, 8, 2], "output_error": [1.0, 2.0, 3.0, None]})
    table = wide_table(frame, "output_error")
    assert list(table["matrix"]) == ["z", "a"]
    assert list(table.columns) == ["matrix", "2 bits", "8 bits"]
    assert table["2 bits"].isna().tolist() == [False, True]


KINDS = {
    "weight_salience": "salience",
    "layer_error": "layer_error",
    "trade_off": "tradeoff",
    "bit_allocation": "sensitivity",
}


@pytest.mark.parametrize(("stem", "kind"), KINDS.items())
def test_an_empty_page_offers_to_compute_and_a_failed_one_says_why(
    stem: str, kind: str, open_page: Open, client: FakeClient
) -> None:
    client.hold(kind)
    app = open_page(stem)
    assert not app.exception
    assert any(button.label.startswith("Compute ") for button in app.button)
    assert any("Where this comes from" in one.value for one in app.caption)
    client.hold(kind, "failed", error="the text ![x](https://evil.example) is too short")
    app.run()
    assert not app.exception
    (sentence,) = [one.value for one in app.error]
    assert "too short" in sentence
    assert "![x](" not in sentence


def test_layer_error_names_the_kernels_and_offers_to_measure_them(open_page: Open, client: FakeClient) -> None:
    client.hold("kernel_speed")
    app = open_page("layer_error")
    assert any("**torch** kernels (the weight is on the CPU)" in one.value for one in app.markdown)
    app.button(key="run-speed").click().run()
    assert [spec["bits"] for kind, spec in client.submitted if kind == "kernel_speed"] == [[2, 3, 4, 8]]


def test_layer_error_shows_how_fast_the_kernels_are(open_page: Open) -> None:
    app = open_page("layer_error", widths=["3", "4"])
    assert not app.exception
    assert any("are quantized to" in one.value and "a second (read and" in one.value for one in app.markdown)
    bars = json.loads(app.get("plotly_chart")[-1].proto.spec)["data"]
    assert [len(bar["y"]) for bar in bars] == [2, 2, 2, 1]
