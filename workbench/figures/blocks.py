"""All matrices of a model on one sheet: a row a role, a column a block, coloured by one number a matrix."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from workbench.figures.heatmap import heat_map
from workbench.figures.labels import OUTSIDE, block_name, literal, role_labels
from workbench.figures.style import finish

ROW_HEIGHT = 34


def block_map(
    frame: pd.DataFrame, *, value: str, unit: str, selected: str | None = None, logarithmic: bool = True
) -> go.Figure:
    """A heat map of one value a matrix; a click answers with the matrix's place in the frame.

    Args:
        frame: columns `matrix`, `block` (None outside the blocks), `role` and the value.
        value: name of the value column; values that cannot be drawn (see `heat_map`) have no colour.
        unit: what the value is, for the colour bar and the hover boxes.
        selected: name of a matrix that gets a frame around its cell.
        logarithmic: colour by the logarithm, because matrices differ by orders of magnitude.
    """
    held = frame.reset_index(drop=True)
    roles, blocks = role_labels(held), [block_name(block) for block in held["block"]]
    rows, columns = list(dict.fromkeys(roles)), sorted(set(blocks), key=_block_order)
    cells = pd.DataFrame(
        {
            "row": [rows.index(role) for role in roles],
            "column": [columns.index(block) for block in blocks],
            "value": held[value],
            "label": held["matrix"],
        }
    )
    place = next((place for place, name in enumerate(held["matrix"]) if name == selected), None)
    figure = heat_map(cells, unit=unit, logarithmic=logarithmic, selected=place, row_height=ROW_HEIGHT)
    figure.update_xaxes(side="top", tickvals=list(range(len(columns))), ticktext=columns)
    figure.update_yaxes(tickvals=list(range(len(rows))), ticktext=[literal(role) for role in rows])
    return finish(figure, x="block", y="", height=110 + ROW_HEIGHT * len(rows))


def _block_order(column: str) -> tuple[bool, int]:
    return (True, 0) if column == OUTSIDE else (False, int(column))
