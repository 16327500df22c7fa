"""The signal by depth: three panels with the same lines, told apart by more than colour; quantizers on one curve."""

import pandas as pd

from workbench.figures.signal import MEASURES, signal_by_depth
from workbench.figures.style import category
from workbench.figures.tradeoff import tradeoff_scatter

LABELS = {"full model": "full model", "rtn 2 bit": "rtn", "rtn 3 bit": "rtn", "<b>x</b>": "<b>x</b>"}
FRAME = pd.DataFrame(
    [
        {
            "label": label,
            "kind": kind,
            "block": block,
            "mean_square": 2.0 + block,
            "variance": 1.0 + block,
            "signal_error": 0.0 if label == "full model" else 0.1 * (block + 1),
        }
        for label, kind in LABELS.items()
        for block in range(3)
    ]
)


def test_every_panel_has_its_measure_against_the_block() -> None:
    figure = signal_by_depth(FRAME, full="full model")
    titles = [figure.layout[name].title.text for name in ("yaxis", "yaxis2", "yaxis3")]
    assert titles == list(MEASURES.values())
    assert {figure.layout[name].type for name in ("yaxis", "yaxis2", "yaxis3")} == {"log"}
    line = next(one for one in figure.data if one.name == "rtn 3 bit" and one.yaxis == "y3")
    assert list(line.x) == [0, 1, 2]
    assert [round(value, 6) for value in line.y] == [0.1, 0.2, 0.3]


def test_the_full_model_has_no_error_of_its_own() -> None:
    figure = signal_by_depth(FRAME, full="full model")
    assert [one.yaxis for one in figure.data if one.name == "full model"] == ["y", "y2"]


def test_lines_differ_by_symbol_or_stroke_and_the_legend_names_each_once() -> None:
    figure = signal_by_depth(FRAME, full="full model", selected="rtn 3 bit")
    named = [one for one in figure.data if one.showlegend]
    assert [one.name for one in named] == ["full model", "rtn 2 bit", "rtn 3 bit", "&lt;b&gt;x&lt;/b&gt;"]
    looks = [(one.marker.symbol, one.line.dash) for one in named]
    assert len(set(looks)) == len(looks)
    assert named[1].line.color == named[2].line.color != named[3].line.color
    assert named[2].line.width > named[1].line.width


def test_values_that_a_logarithm_does_not_have_are_left_out() -> None:
    broken = FRAME.assign(variance=[0.0, 1.0, float("nan")] * 4)
    line = next(one for one in signal_by_depth(broken, full="full model").data if one.yaxis == "y2")
    assert list(line.y) == [None, 1.0, None]


def test_sixty_four_series_differ_in_colour_or_symbol() -> None:
    assert len({category(index) for index in range(64)}) == 64


def test_quantizers_have_a_colour_each_and_short_marks() -> None:
    points = pd.DataFrame(
        {
            "label": ["rtn 2 bit g64", "gptq 2 bit g64", "gptq 3 bit g64"],
            "kind": ["rtn", "gptq", "gptq"],
            "mark": ["", "2 bit", "3 bit"],
            "stored_bits": [2.5, 2.5, 3.5],
            "perplexity": [9.0, 7.0, 5.0],
            "error": [0.1, 0.1, 0.1],
            "dominated": [True, False, False],
        }
    )
    figure = tradeoff_scatter(points, reference=4.0)
    rtn, gptq = (series for series in figure.data if series.customdata is not None)
    assert (rtn.name, gptq.name) == ("rtn", "gptq")
    assert list(gptq.text) == ["2 bit", "3 bit"]
    assert rtn.marker.color != gptq.marker.color
    assert rtn.marker.symbol[0].endswith("-open")
    assert [custom[0] for custom in gptq.customdata] == [1, 2]
    keys = [series for series in figure.data if series.showlegend is None and series.name]
    assert [series.marker.symbol for series in keys] == ["circle", "square"]  # filled, also where the first is beaten
