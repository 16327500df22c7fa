"""Which metric to believe: the verdict, the charts, what is left out of them, and the top weights that are kept."""

import json
from collections.abc import Callable

from fake_client import FakeClient
from streamlit.testing.v1 import AppTest

from workbench.ui.court import ratios

Open = Callable[..., AppTest]


def test_it_shows_the_verdict_totals_and_charts(open_page: Open) -> None:
    app = open_page("metric_court", widths=["2", "3"])
    assert not app.exception
    assert any("add up to" in one.value for one in app.markdown)
    assert [metric.label for metric in app.metric] == [f"Measured rise at {bits} bits" for bits in (2, 3)]
    axes = [json.loads(chart.proto.spec)["layout"]["xaxis"]["title"]["text"] for chart in app.get("plotly_chart")]
    assert axes[0] == "predicted change / measured change"
    assert axes[-1] == "% of the weights kept at full precision"


def test_another_metric_matrix_by_matrix(open_page: Open) -> None:
    app = open_page("metric_court", judged="output_error")
    assert not app.exception
    assert app.selectbox(key="judged").value == "output_error"


def test_before_it_is_computed_there_is_a_button_and_an_estimate(open_page: Open, client: FakeClient) -> None:
    client.hold("court")
    client.hold("detach")
    app = open_page("metric_court")
    assert not app.exception
    app.button(key="run-court").click().run()
    assert [kind for kind, _ in client.submitted] == ["court"]


def test_ratios_leave_out_what_has_no_unit() -> None:
    metrics = [
        {"name": "pqi", "total_ratio": {"2": 0.99, "3": 1.0}},
        {"name": "output_error", "total_ratio": {"2": None, "3": None}},
    ]
    frame = ratios(metrics)
    assert frame["metric"].tolist() == ["pqi", "pqi"]
    assert frame["ratio"].tolist() == [0.99, 1.0]
