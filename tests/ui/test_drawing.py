"""Figures that are kept by what they show, and what stays out of garbage collections."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator

import pandas as pd
import plotly.graph_objects as go
import plotly.io
import plotly.tools
import pytest

from workbench.figures.allocation import bit_bars
from workbench.ui import drawing, lasting

INK = "#1c2530"
BUILT: list[int] = []


def dots(frame: pd.DataFrame, *, size: int = 3) -> go.Figure:
    """A figure that notes that it was built."""
    BUILT.append(len(frame))
    return go.Figure().add_scatter(x=frame["x"], y=frame["y"], mode="markers", marker_size=size)


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    BUILT.clear()
    drawing._kept_text.clear()
    yield
    drawing._kept_text.clear()


def frame(last: float = 3.0) -> pd.DataFrame:
    return pd.DataFrame({"x": [1.0, 2.0, 3.0], "y": [1.0, 2.0, last], "name": ["a", "b", "c"]})


def sent(figure: go.Figure) -> dict:
    """What Streamlit sends of a figure: these two calls are its own."""
    held = plotly.tools.return_figure_from_figure_or_data(figure, validate_figure=True)
    return json.loads(plotly.io.to_json(held, validate=False))


def test_equal_arguments_build_once_and_others_anew() -> None:
    first = sent(drawing.plain(drawing.drawing(dots, frame()), INK))
    assert sent(drawing.plain(drawing.drawing(dots, frame()), INK)) == first
    assert len(BUILT) == 1
    for other in (drawing.drawing(dots, frame(4.0)), drawing.drawing(dots, frame(), size=5)):
        assert sent(drawing.plain(other, INK)) != first
    assert sent(drawing.plain(drawing.drawing(dots, frame()), "#e8edf2")) != first
    assert len(BUILT) == 4


def test_what_is_sent_is_the_figure_itself_in_ink() -> None:
    table = pd.DataFrame(
        {"matrix": ["a", "b"], "block": [0, 0], "role": ["q", "k"], "bits": [2, 4], "stored_bits": [2.5, None],
         "locked": [False, True]}
    )  # fmt: skip
    found, plain = sent(drawing.plain(drawing.drawing(bit_bars, table), INK)), sent(bit_bars(table))
    assert found["data"] == plain["data"]
    assert found["layout"]["font"]["color"] == found["layout"]["xaxis"]["tickfont"]["color"] == INK
    assert plain["layout"]["annotations"] == found["layout"]["annotations"]


def test_arguments_that_cannot_be_told_apart_are_built_each_time() -> None:
    asked = drawing.drawing(lambda held: dots(frame()), lambda: None)
    assert asked.key is None
    assert sent(drawing.plain(asked, INK)) == sent(drawing.plain(asked, INK))
    assert len(BUILT) == 2


def test_a_page_is_frozen_once_and_what_came_later_is_still_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(gc, "freeze", lambda: calls.append("freeze"))
    lasting.end_run("a page of this test")
    lasting.begin_run()
    lasting.begin_run()
    lasting.end_run("a page of this test")
    lasting.begin_run()
    assert calls == ["freeze"]
