"""Colours: text on them can be read, and the theme's are those of the charts."""

import tomllib
from pathlib import Path

import pandas as pd
import pytest
from plotly.colors import sample_colorscale

from workbench.figures import style
from workbench.figures.heatmap import heat_map
from workbench.ui import frame
from workbench.ui.present import INK

CONFIG = tomllib.loads((Path(__file__).resolve().parents[2] / ".streamlit" / "config.toml").read_text(encoding="utf-8"))
THEME = CONFIG["theme"]


def channels(colour: str) -> list[float]:
    if colour.startswith("#"):
        return [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    return [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]


def contrast(first: str, second: str) -> float:
    """WCAG 2.2, relative luminance and contrast ratio."""

    def luminance(colour: str) -> float:
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in channels(colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("share", [-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0])
def test_the_strips_text_can_be_read_on_every_colour(share: float) -> None:
    assert contrast("#111111", style.signed_colour(share)) >= 4.5


def test_signed_colours_are_white_at_zero_and_keep_to_their_side() -> None:
    assert style.signed_colour(0.0) == "rgb(255, 255, 255)"
    red, _, blue = channels(style.signed_colour(0.7))
    assert red > blue
    red, _, blue = channels(style.signed_colour(-0.7))
    assert blue > red


@pytest.mark.parametrize("name", ["light", "dark"])
def test_texts_of_both_themes_can_be_read(name: str) -> None:
    theme = THEME[name]
    assert theme["textColor"] == INK[name]
    for background in (
        theme["backgroundColor"],
        theme["secondaryBackgroundColor"],
        theme["sidebar"]["backgroundColor"],
    ):
        assert contrast(theme["textColor"], background) >= 7
        assert contrast(theme["linkColor"], background) >= 4.5


def test_words_on_primary_buttons_can_be_read() -> None:
    assert contrast("#ffffff", THEME["light"]["primaryColor"]) >= 4.5
    assert THEME["dark"]["backgroundColor"] in frame.DARK_STYLE
    assert contrast(THEME["dark"]["backgroundColor"], THEME["dark"]["primaryColor"]) >= 4.5


def test_the_themes_chart_colours_are_those_of_the_figures() -> None:
    assert tuple(THEME["chartCategoricalColors"]) == style.CATEGORIES
    assert THEME["chartDivergingColors"][0].upper() == style.NEGATIVE
    assert THEME["chartDivergingColors"][-1].upper() == style.POSITIVE
    assert len(THEME["chartSequentialColors"]) == len(THEME["chartDivergingColors"]) == 10


def test_series_differ_by_more_than_colour() -> None:
    assert len({style.category(index) for index in range(8)}) == 8
    assert len({style.category(index)[1] for index in range(8)}) == 8


def test_the_server_is_closed_to_the_outside() -> None:
    server = CONFIG["server"]
    assert (server["address"], server["port"], server["headless"]) == ("127.0.0.1", 8501, True)
    assert set(server["allowedHosts"]) == {"localhost", "127.0.0.1"}
    assert server["maxUploadSize"] <= 2
    assert server["enableCORS"]
    assert server["enableXsrfProtection"]
    assert not server["enableStaticServing"]
    assert CONFIG["browser"]["gatherUsageStats"] is False
    assert CONFIG["client"]["showErrorDetails"] in ("type", "none")


@pytest.mark.parametrize("step", range(0, 101, 5))
def test_numbers_on_the_heat_map_can_be_read(step: int) -> None:
    cells = pd.DataFrame(
        {"row": 0, "column": range(101), "value": [float(place) for place in range(101)], "label": "cell"}
    )
    part = cells.loc[[0, step, 100]].drop_duplicates().reset_index(drop=True)
    figure = heat_map(part.assign(column=range(len(part))), unit="u", logarithmic=False)
    ink = figure.data[1].textfont.color[1 if 0 < step < 100 else step // 100]
    background = sample_colorscale(style.MAGNITUDE, [step / 100], colortype="tuple")[0]
    assert contrast(ink, "#" + "".join(f"{round(255 * part):02x}" for part in background)) >= 4.4
