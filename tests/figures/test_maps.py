"""Heat maps: every value in its cell, every cell a square that can be clicked, names shown literally."""

import math

import pandas as pd
import pytest

from workbench.figures.allocation import bit_bars
from workbench.figures.blocks import block_map
from workbench.figures.columns import NAMED_COLUMNS, matrix_axis
from workbench.figures.errors import error_map
from workbench.figures.heatmap import heat_map
from workbench.figures.labels import role_labels
from workbench.figures.style import finish


def matrices(blocks: int = 2, roles: tuple[str, ...] = ("q_proj", "down_proj")) -> pd.DataFrame:
    rows = [
        {"matrix": f"layers.{block}.part.{role}.weight", "block": block, "role": role}
        for block in range(blocks)
        for role in roles
    ]
    return pd.DataFrame(rows)


def test_block_map_puts_each_value_at_its_role_and_block() -> None:
    frame = matrices().assign(mean=[1.0, 10.0, 100.0, 0.0])
    figure = block_map(frame, value="mean", unit="mean wanda")
    assert [list(row) for row in figure.data[0].z] == [[0.0, 2.0], [1.0, None]]
    assert list(figure.layout.yaxis.ticktext) == ["q_proj", "down_proj"]
    assert list(figure.layout.xaxis.ticktext) == ["0", "1"]
    assert figure.layout.xaxis.title.text == "block"


def test_a_click_on_a_square_names_the_row_of_the_frame() -> None:
    frame = matrices().assign(mean=[1.0, 2.0, 3.0, 4.0])
    squares = block_map(frame, value="mean", unit="mean").data[1]
    for place, (x, y, custom) in enumerate(zip(squares.x, squares.y, squares.customdata, strict=True)):
        assert custom[0] == place
        assert (x, y) == (frame["block"][place], ["q_proj", "down_proj"].index(frame["role"][place]))
        assert custom[1] == frame["matrix"][place]


def test_the_chosen_matrix_has_a_frame_around_its_cell() -> None:
    frame = matrices().assign(mean=1.0)
    shape = block_map(frame, value="mean", unit="mean", selected=frame["matrix"][3]).layout.shapes[0]
    assert (shape.x0, shape.x1, shape.y0, shape.y1) == (0.5, 1.5, 0.5, 1.5)
    assert not block_map(frame, value="mean", unit="mean", selected="not there").layout.shapes


def test_linear_colours_keep_zero_and_negative_values() -> None:
    frame = matrices().assign(gini=[0.0, -1.0, 0.5, math.nan])
    figure = block_map(frame, value="gini", unit="Gini", logarithmic=False)
    assert [list(row) for row in figure.data[0].z] == [[0.0, 0.5], [-1.0, None]]


def test_a_role_that_a_block_has_twice_is_told_apart_by_its_parent() -> None:
    names = ["h.0.attn.c_proj.weight", "h.0.mlp.c_proj.weight", "h.0.mlp.c_fc.weight"]
    frame = pd.DataFrame({"matrix": names, "block": 0, "role": ["c_proj", "c_proj", "c_fc"], "mean": [1.0, 2.0, 3.0]})
    assert role_labels(frame) == ["attn.c_proj", "mlp.c_proj", "c_fc"]
    assert len(block_map(frame, value="mean", unit="mean").data[0].z) == 3


def test_names_are_shown_literally() -> None:
    frame = pd.DataFrame({"matrix": ["<b>x</b>&"], "block": [0], "role": ["<i>r</i>"], "mean": [1.0]})
    figure = block_map(frame, value="mean", unit="<u>mean</u>")
    assert figure.data[1].customdata[0][1] == "&lt;b&gt;x&lt;/b&gt;&amp;"
    assert figure.layout.yaxis.ticktext[0] == "&lt;i&gt;r&lt;/i&gt;"
    assert "<u>" not in figure.data[1].hovertemplate


def test_error_map_has_a_row_a_choice_and_a_column_a_matrix() -> None:
    choices = pd.DataFrame({"label": ["rtn 4 bit", "rtn 2 bit", "<b>x</b>"], "quantizer": ["rtn", "rtn", "<b>x</b>"]})
    frame = choices.merge(matrices(), how="cross").assign(output_error=range(1, 13))
    figure = error_map(frame, value="output_error", unit="output error", selected=6)
    assert list(figure.layout.yaxis.ticktext) == ["rtn 4 bit", "rtn 2 bit", "&lt;b&gt;x&lt;/b&gt;"]
    assert [round(10**value) for value in figure.data[0].z[0]] == [1, 2, 3, 4]
    assert [round(10**value) for value in figure.data[0].z[2]] == [9, 10, 11, 12]
    assert list(figure.data[1].customdata[6][:2]) == [6, "layers.1.part.q_proj.weight, rtn 2 bit"]
    chosen = next(shape for shape in figure.layout.shapes if shape.type == "rect")
    assert (chosen.x0, chosen.y0) == (1.5, 0.5)
    between = [shape.y0 for shape in figure.layout.shapes if shape.type == "line" and shape.xref == "paper"]
    assert between == [1.5]  # between the two quantizers, not between two widths of one


def test_only_small_maps_write_their_numbers() -> None:
    cells = pd.DataFrame({"row": 0, "column": range(81), "value": 1.0, "label": "x"})
    assert heat_map(cells, unit="u").data[1].text is None
    assert heat_map(cells[:80], unit="u").data[1].text is not None


@pytest.mark.parametrize("blocks", [2, NAMED_COLUMNS])
def test_a_long_axis_names_blocks_only(blocks: int) -> None:
    frame = matrices(blocks)
    figure = matrix_axis(finish(block_map(frame.assign(v=1.0), value="v", unit="v"), x="matrix", y=""), frame)
    assert len(figure.layout.xaxis.ticktext or ()) == (4 if blocks == 2 else 0)
    assert len(figure.layout.annotations) == blocks
    assert len(figure.layout.shapes) == blocks - 1


def test_bit_bars_have_a_series_a_width_and_hatch_what_is_locked() -> None:
    frame = matrices().assign(bits=[4, 2, 2, 4], stored_bits=[4.5, 2.5, 2.5, 4.5], locked=[False, True, False, False])
    figure = bit_bars(frame)
    assert [(bar.name, list(bar.x), list(bar.y)) for bar in figure.data] == [
        ("2 bits", [1, 2], [2, 2]),
        ("4 bits", [0, 3], [4, 4]),
    ]
    assert list(figure.data[0].marker.pattern.shape) == ["/", ""]
    assert figure.layout.yaxis.title.text == "bits"
