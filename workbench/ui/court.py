"""The parts of the page "Which metric to believe": verdict, totals, ranks, one metric's matrices, detached weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from workbench.figures.court import cell_scatter, detach_curves, ratio_dots
from workbench.figures.frames import keep
from workbench.ui import controls, present, rows
from workbench.ui.drawing import drawing
from workbench.ui.escape import markdown
from workbench.ui.numbers import NONE, number, percent, plural
from workbench.ui.study import Shown

DESCRIBED = {
    "first_order": "gradient times step",
    "second_order": "gradient and Hessian times step",
    "fisher": "diagonal Fisher",
    "pqi": "path integral, all matrices on their way",
    "pqi_own": "path integral, this matrix alone",
    "output_error": "error of the matrix's outputs",
}
TEXTS = {"rise": "the text that the metrics saw", "rise_heldout": "unseen text"}


def draw_verdict(shown: Shown) -> None:
    """The sentence, the totals and how far each metric is from them."""
    document = shown.document
    st.markdown(f"**{markdown(document['verdict'])}**")
    totals = shown.tables["totals"]
    for column, row in zip(st.columns(len(totals)), totals.to_dict("records"), strict=True):
        column.metric(
            f"Measured rise at {int(row['bits'])} bits",
            f"{number(row['measured'])} nats",
            help=f"All matrices quantized, on the calibration text. Matrices one at a time add up to "
            f"{number(row['sum_isolated'])} nats. On unseen text: {number(row['measured_heldout'])} nats.",
        )
    _draw_ratios(document["metrics"], totals)
    present.table(
        judged(document["metrics"]), key="judged", file_name="court-metrics.csv", label="Every metric in numbers",
        expanded=True,
    )  # fmt: skip


def _draw_ratios(metrics: Sequence[Mapping[str, Any]], totals: pd.DataFrame) -> None:
    st.subheader("The whole model: predicted against measured")
    frame = ratios(metrics)
    drawn, wrong = keep(frame, frame["ratio"] > 0), keep(frame, frame["ratio"] <= 0)
    if drawn.empty:
        st.info("No metric predicts a change of the right sign, so that there is nothing to draw.")
        return
    best = rows.smallest(drawn.assign(apart=[abs(math.log(ratio)) for ratio in drawn["ratio"]]), "apart")
    present.chart(
        drawing(ratio_dots, drawn),
        alt=f"Predicted over measured change of {plural(len(set(drawn['metric'])), 'metric')} at "
        f"{plural(len(totals), 'width')}. Nearest to one: {best['metric']} at {best['bits']} bits with "
        f"{number(best['ratio'])}.",
        key="court-ratios",
        table_of=frame,
        file_name="court-ratios.csv",
    )
    if len(wrong):
        names = ", ".join(f"{row['metric']} at {row['bits']} bits" for row in wrong.to_dict("records"))
        st.caption(f"Of the wrong sign, and therefore not drawn: {markdown(names)}.")


def ratios(metrics: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Predicted over measured joint change, a row a metric with a unit and a width."""
    held = [
        {"metric": one["name"], "bits": int(bits), "ratio": ratio}
        for one in metrics
        for bits, ratio in one["total_ratio"].items()
        if ratio is not None
    ]
    return pd.DataFrame(held, columns=["metric", "bits", "ratio"])


def judged(metrics: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A row a metric: what it is, how far off its totals are, how well it ranks."""
    held = []
    for one in metrics:
        widths = {
            f"{bits} bits, times": NONE if ratio is None else number(ratio)
            for bits, ratio in one["total_ratio"].items()
        }
        held.append(
            {
                "metric": one["name"],
                "what it is": DESCRIBED.get(one["name"], ""),
                **widths,
                "rank agreement": one["spearman_isolated_calibration"],
                "on unseen text": one["spearman_isolated_heldout"],
                "typical miss, decades": one["median_isolated_log10_error"],
                "wrong sign": one["wrong_sign"],
            }
        )
    return pd.DataFrame(held)


def draw_cells(shown: Shown) -> None:
    """One metric, matrix by matrix."""
    st.subheader("Matrix by matrix")
    names = [one["name"] for one in shown.document["metrics"]]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        metric = controls.select("Metric", names, "pqi_own", key="judged", width=260)
        where = controls.segments("Measured on", list(TEXTS), "rise", key="measured-on", show=TEXTS.__getitem__)
    cells = shown.tables["cells"]
    measured = {"rise": "measured_isolated", "rise_heldout": "measured_isolated_heldout"}[where]
    of_metric = keep(cells, cells["metric"] == metric)
    held = of_metric.assign(measured=of_metric[measured])
    drawn = keep(held, (held["predicted"] > 0) & (held["measured"] > 0))
    if drawn.empty:
        st.info("No matrix has a measured and a predicted change above zero, so that there is nothing to draw.")
        return
    with_unit = metric != "output_error"
    present.chart(
        drawing(
            cell_scatter,
            drawn,
            unit="predicted rise of the loss, nats" if with_unit else "relative error of the outputs",
            diagonal=with_unit,
        ),
        alt=f"Measured against predicted change of {plural(len(drawn), 'cell')} by {metric}"
        f"{', with the line where both are equal' if with_unit else ''}.",
        key="court-cells",
        table_of=held.filter(["matrix", "bits", "predicted", "measured", "standard_error", "path_share"]),
        file_name=f"court-{metric}.csv",
    )
    if len(drawn) < len(held):
        st.caption(
            f"{plural(len(held) - len(drawn), 'cell')} of {len(held)} with a change of zero or below, measured or "
            "predicted, cannot stand on a logarithmic axis; the table holds them."
        )


def draw_detached(shown: Shown) -> None:
    """What is left of the damage when each metric's top weights stay at full precision."""
    frame = shown.tables["detach"]
    where = controls.segments("Loss on", list(TEXTS), "rise_heldout", key="detached-on", show=TEXTS.__getitem__)
    largest = keep(frame, frame["share"] == max(frame["share"]))
    best = rows.smallest(largest, where)
    floor = keep(largest, largest["metric"] == "random")[where].tolist()
    present.chart(
        drawing(detach_curves, frame, value=where, unit="rise of the loss that is left, nats"),
        alt=f"Loss left over by share of weights kept for {plural(len(set(frame['metric'])), 'metric')}. At "
        f"{percent(best['share'])} the best is {best['metric']} with {number(best[where])}.",
        key="court-detached",
        table_of=frame,
        file_name="detached-weights.csv",
    )
    words = f", random weights leave {number(floor[0])}" if floor else ""
    st.markdown(
        f"Quantized entirely, the loss rises by {number(shown.document['all'][where])} nats. With "
        f"{percent(best['share'])} of the weights kept, **{markdown(best['metric'])}** leaves "
        f"{number(best[where])}{words}."
    )
