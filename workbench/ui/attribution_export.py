"""The maps of the page to take away: a table of all scores, and a JSON file with everything that is known of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import pandas as pd
import streamlit as st

from workbench import __version__, results
from workbench.ui import present
from workbench.ui.attribution import View, numbered
from workbench.ui.study import Shown

SCHEMA = "salience-input/1"


def draw(maps: Mapping[str, Shown], view: View) -> None:
    """The table of all scores with its CSV file, and the JSON file."""
    present.table(
        scores(maps, view),
        key="maps-table",
        file_name="attribution-maps.csv",
        label="All scores as a table",
    )
    st.download_button(
        "Download the maps as JSON",
        lambda: results.dumps(document(maps)).encode("utf-8"),
        "attribution-maps.json",
        "application/json",
        key="maps-json",
        on_click="ignore",
        icon=":material/download:",
    )


def scores(maps: Mapping[str, Shown], view: View) -> pd.DataFrame:
    """A row a token (or another unit), a column a map; maps of other tokens than the first one's are left out."""
    first = next(iter(maps.values()))
    units = view.units(first)
    alike = {name: one for name, one in maps.items() if one.document["tokens"] == first.document["tokens"]}
    columns = {name: view.values(one) for name, one in alike.items()}
    return numbered(pd.DataFrame({"position": range(len(units.texts)), "token": units.texts, **columns}))


def document(maps: Mapping[str, Shown]) -> dict[str, Any]:
    """Every map with the question that it answers; models and texts by their names, without folders."""
    held = [{"name": name, "question": _question(one.spec), **one.document} for name, one in maps.items()]
    return {"schema": SCHEMA, "tool": f"workbench {__version__}", "maps": held}


def _question(spec: Mapping[str, Any]) -> dict[str, Any]:
    read = spec["calibration"]
    return {**spec, "calibration": None if read is None else PurePath(read).name}
