"""Histograms, curves and scatters: what is drawn where, on which axis."""

import math

import pandas as pd

from workbench.figures.errors import channel_errors, grid_levels, weight_histogram
from workbench.figures.scores import channel_profile, coverage_curve, metric_scatter, score_histogram
from workbench.figures.tradeoff import tradeoff_scatter

BINS = pd.DataFrame({"low": [0.0, 1.0], "high": [1.0, 2.0], "count": [3, 4], "original": [5, 6], "quantized": [0, 11]})
POINTS = pd.DataFrame(
    {
        "label": ["2 bits", "<b>plan</b>", "broken"],
        "kind": ["uniform", "plan", "uniform"],
        "stored_bits": [2.5, 3.0, 1.25],
        "perplexity": [20.0, 10.0, math.inf],
        "error": [1.0, 0.5, math.nan],
        "dominated": [True, False, False],
    }
)


def test_score_histogram_counts_in_the_middle_of_each_bin() -> None:
    figure = score_histogram(BINS, unit="wanda", counted="channels")
    assert (list(figure.data[0].x), list(figure.data[0].y)) == ([0.5, 1.5], [3, 4])
    assert figure.layout.xaxis.title.text == "log10 of wanda"
    assert figure.layout.yaxis.title.text == "channels"


def test_weight_histogram_leaves_out_empty_bins_afterwards() -> None:
    before, after = weight_histogram(BINS).data
    assert list(before.y) == [5, 6]
    assert math.isnan(after.y[0])
    assert after.y[1] == 11


def test_coverage_is_drawn_beside_an_even_spread() -> None:
    points = pd.DataFrame({"weight_share": [0.0, 0.5, 1.0], "salience_share": [0.0, 0.9, 1.0]})
    even, held = coverage_curve(points).data
    assert list(even.x) == list(even.y) == [0, 1]
    assert list(held.y) == [0.0, 0.9, 1.0]


def test_channels_are_drawn_in_their_order() -> None:
    channels = pd.DataFrame(
        {"channel": [0, 4], "score": [1.0, 2.0], "output_error": [0.1, 0.2], "weight_error": [0.3, 0.4]}
    )
    assert list(channel_profile(channels, unit="w").data[0].y) == [1.0, 2.0]
    assert [list(series.y) for series in channel_errors(channels).data] == [[0.1, 0.2], [0.3, 0.4]]


def test_levels_are_stems_with_a_mark_each() -> None:
    stems, marks = grid_levels(pd.DataFrame({"value": [-0.5, 0.25], "count": [2, 7]})).data
    assert list(stems.y) == [0, 2, None, 0, 7, None]
    assert list(marks.x) == [-0.5, 0.25]


def test_metric_scatter_has_a_series_a_group_on_the_axes_asked_for() -> None:
    frame = pd.DataFrame({"first": [1.0, 2.0], "second": [3.0, 4.0], "group": ["q", "k"], "label": ["a", "b"]})
    figure = metric_scatter(frame, x="wanda", y="obd", logarithmic=False)
    assert [series.name for series in figure.data] == ["q", "k"]
    assert figure.data[0].marker.symbol != figure.data[1].marker.symbol
    assert figure.layout.xaxis.type is None
    assert metric_scatter(frame, x="wanda", y="obd").layout.xaxis.type == "log"


def test_tradeoff_draws_finite_points_dominated_ones_hollow() -> None:
    figure = tradeoff_scatter(POINTS, reference=8.0, selected="2 bits")
    uniform, plan = (series for series in figure.data if series.customdata is not None)
    assert list(uniform.x) == [2.5]
    assert uniform.marker.symbol[0].endswith("-open")
    assert not plan.marker.symbol[0].endswith("-open")
    assert plan.customdata[0][0] == 1
    assert plan.text[0] == "&lt;b&gt;plan&lt;/b&gt;"
    assert list(plan.error_y.array) == [0.5]
    assert uniform.marker.size[0] > plan.marker.size[0]
    assert figure.layout.yaxis.type == "log"


def test_the_full_model_is_a_line_whose_name_stands_at_it() -> None:
    figure = tradeoff_scatter(POINTS, reference=8.0)
    assert figure.layout.shapes[0].y0 == 8.0
    # annotations of a logarithmic axis are placed by the exponent
    assert 10 ** figure.layout.annotations[0].y == 8.0 or math.isclose(10 ** figure.layout.annotations[0].y, 8.0)
