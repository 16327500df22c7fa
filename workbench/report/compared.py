"""The parts of the report that hold two things side by side: errors, the plan, uniform widths, texts."""

from __future__ import annotations

from collections import Counter

from workbench.report.charts import bits_chart, error_chart, quality_chart
from workbench.report.findings import Findings
from workbench.report.markup import Html, folded, marked, table, tag
from workbench.ui.numbers import number, plural, size


def errors(found: Findings) -> Html:
    """What every matrix loses."""
    rows = found.matrices
    worst = max(rows, key=lambda row: row["output_error"] or 0.0)
    alt = (
        f"Relative error of the outputs of {plural(len(rows), 'matrix', 'matrices')} by block; the largest is "
        f"{worst['name']} with {number(worst['output_error'])}."
    )
    listed = [
        (row["name"], number(row["stored_bits"]), number(row["weight_error"]), number(row["output_error"]))
        for row in rows
    ]
    head = ("matrix", "stored bits", "error of the weights", "error of the outputs")
    return tag(
        "section",
        tag("h2", "What each matrix loses"),
        tag("p", "How far its outputs on the calibration text are from the full model's, as a share of their size."),
        tag("figure", error_chart(rows, alt)),
        folded("The same numbers as a table", table("Error of every matrix", head, listed)),
    )


def plan(found: Findings) -> Html | None:
    """Where the bits of a plan go; nothing for a scheme."""
    if found.plan is None:
        return None
    rows, budget = found.matrices, found.plan["budget"]
    asked = budget["requested"]
    wanted = f"{number(asked, 4)} stored bits a weight" if budget["kind"] == "bits_per_weight" else size(asked)
    counts = Counter(row["bits"] for row in rows)
    shares = ", ".join(
        f"{plural(count, 'matrix', 'matrices')} at {bits} bits" for bits, count in sorted(counts.items())
    )
    listed = [(row["name"], row["bits"], found.plan["tensors"][row["name"]]["method"]) for row in rows]
    return tag(
        "section",
        tag("h2", "Where the bits go"),
        tag("p", f"The plan was made for {wanted} and takes {number(found.chosen['stored_bits'], 4)} stored bits a "
                 f"weight: {shares}."),
        tag("figure", bits_chart(rows, f"Width of every matrix: {shares}.")),
        folded("The same numbers as a table", table("Width of every matrix", ("matrix", "bits", "quantizer"), listed)),
    )  # fmt: skip


def widths(found: Findings) -> Html:
    """The choice among uniform widths."""
    points, chosen = found.compared["points"], found.chosen
    full = found.compared["reference"]["perplexity"]
    rows = [*points, {**chosen, "label": f"this choice: {found.label}"}]
    listed = [
        (row["label"], number(row["stored_bits"]), number(row["perplexity"]), number(row["delta_loss"], sign=True),
         number(row["delta_standard_error"], 2))
        for row in rows
    ]  # fmt: skip
    alt = (
        f"Perplexity against stored bits: {found.label} has {number(chosen['perplexity'])} at "
        f"{number(chosen['stored_bits'])} bits, full precision {number(full)}."
    )
    head = ("stored with", "stored bits", "perplexity", "rise of the loss", "its standard error")
    return tag(
        "section",
        tag("h2", "Beside one width for all matrices"),
        tag("p", "Further left is smaller, lower is better."),
        tag("figure", quality_chart(points, chosen, full, alt)) if full else None,
        table("Quality of uniform widths and of this choice", head, listed),
    )


def texts(found: Findings) -> Html:
    """What both models write after the prompt."""
    shown = [
        tag("div", tag("h3", name), tag("div", marked(one["pieces"]), class_="text"))
        for name, one in (("Full precision", found.full), (f"Quantized: {found.label}", found.chosen))
    ]
    notes = [tag("p", note, class_="soft") for note in found.written["notes"]]
    return tag(
        "section",
        tag("h2", "What they write"),
        tag("p", "Both continue this prompt. Words that the full model does not write are underlined."),
        tag("div", found.written["prompt"], class_="text"),
        *notes,
        tag("div", *shown, class_="pair"),
    )
