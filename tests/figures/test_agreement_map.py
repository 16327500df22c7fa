"""Metrics against metrics, and the inside of a matrix: values in their cells, fixed colours, clicks that name pairs."""

import math

import pandas as pd

from workbench.figures.agreement import agreement_map
from workbench.figures.scores import coverage_curve, metric_scatter
from workbench.figures.weight_map import weight_map

PAIRS = pd.DataFrame(
    {
        "metric": ["a", "a", "b<i>", "b<i>"],
        "other": ["a", "b<i>", "a", "b<i>"],
        "spearman": [1.0, -0.25, -0.25, None],
        "overlap": [1.0, 0.5, 0.5, 1.0],
    }
)


def test_every_pair_stands_in_its_cell_in_the_order_that_was_given() -> None:
    figure = agreement_map(PAIRS, ["b<i>", "a"], value="spearman", unit="rank correlation", selected=1)
    heat, squares, _ = figure.data
    assert [list(row) for row in heat.z] == [[None, -0.25], [-0.25, 1.0]]
    assert (heat.zmin, heat.zmax) == (-1, 1)
    assert list(squares.text) == ["1.00", "\u2212.25", "\u2212.25", ""]
    assert [custom[0] for custom in squares.customdata] == [0, 1, 2, 3]
    assert list(figure.layout.yaxis.ticktext) == ["b&lt;i&gt;", "a"]
    shape = figure.layout.shapes[0]
    assert (shape.x0, shape.y0) == (-0.5, 0.5)


def test_overlaps_are_coloured_from_zero_to_one() -> None:
    heat = agreement_map(PAIRS, ["a", "b<i>"], value="overlap", unit="overlap", selected=0).data[0]
    assert (heat.zmin, heat.zmax) == (0, 1)


def test_the_inside_of_a_matrix_has_no_colour_where_there_is_no_salience() -> None:
    cells = pd.DataFrame({"output": [0, 0, 4, 4], "input": [0, 3, 0, 3], "score": [0.0, 1.0, 10.0, 100.0]})
    heat = weight_map(cells, unit="<b>x").data[0]
    assert [list(row) for row in heat.z] == [[None, 0.0], [1.0, 2.0]]
    assert (list(heat.x), list(heat.y)) == ([0, 3], [0, 4])
    assert heat.colorbar.title.text == "&lt;b&gt;x"
    assert weight_map(cells, unit="x", logarithmic=False).data[0].z[0][0] == 0
    empty = weight_map(cells.assign(score=math.nan), unit="x").data[0]
    assert [list(row) for row in empty.z] == [[None, None], [None, None]]


def test_the_chosen_share_is_marked_on_the_curve() -> None:
    points = pd.DataFrame({"weight_share": [0.0, 0.2, 1.0], "salience_share": [0.0, 0.6, 1.0]})
    marked = coverage_curve(points, marked=(0.2, 0.6), name="all matrices")
    assert [one.name for one in marked.data] == ["evenly spread", "all matrices", "chosen share"]
    assert (marked.data[2].x[1], marked.data[2].y[1]) == (0.2, 0.6)
    assert len(coverage_curve(points).data) == 2


def test_small_numbers_are_written_as_powers_of_ten() -> None:
    frame = pd.DataFrame({"first": [1e-5, 1e-4], "second": [0.5, 0.9], "group": "g", "label": "l"})
    layout = metric_scatter(frame, x="x", y="y").layout
    assert (layout.xaxis.exponentformat, layout.yaxis.exponentformat) == ("power", "none")
