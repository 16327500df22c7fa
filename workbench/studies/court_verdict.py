"""How predictions stand against what was measured: totals, ranks, orders of magnitude, and one sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import mean, median
from typing import Any

import torch

from workbench.ordering import spearman
from workbench.studies.court_truth import Truth

UNITLESS = {"output_error": "a relative error, which has no unit of loss: it is held to its ranks alone"}
"""Metrics that rank matrices without predicting nats -> why."""

Cells = Mapping[tuple[str, int], float]
"""(matrix name, width) -> a number."""


def log10_error(predicted: float, measured: float) -> float | None:
    """Orders of magnitude between two numbers of one sign; None where the sign is wrong or one of them is zero."""
    if predicted * measured <= 0 or not math.isfinite(predicted * measured):
        return None
    return abs(math.log10(predicted / measured))


def rank_agreement(predicted: Cells, measured: Cells, widths: Sequence[int]) -> float | None:
    """Spearman correlation over the matrices, the mean over widths; None where a ranking has no order."""
    found = []
    for bits in widths:
        names = [name for name, width in measured if width == bits]
        pair = [
            torch.tensor([cells[name, bits] for name in names], dtype=torch.float64) for cells in (predicted, measured)
        ]
        if len(names) > 1 and all(values.unique().numel() > 1 for values in pair):
            found.append(float(spearman(*pair)))
    return mean(found) if found else None


def judge(name: str, predicted: Cells, calibration: Truth, heldout: Truth, widths: Sequence[int]) -> dict[str, Any]:
    """One metric against both truths."""
    with_unit = name not in UNITLESS
    totals = {bits: sum(value for (_, width), value in predicted.items() if width == bits) for bits in widths}
    misses = [log10_error(predicted[cell], rise) for cell, rise in calibration.isolated.items()] if with_unit else []
    held = [miss for miss in misses if miss is not None]
    return {
        "name": name,
        "note": UNITLESS.get(name, ""),
        "total_predicted": {str(bits): totals[bits] if with_unit else None for bits in widths},
        "total_ratio": {
            str(bits): totals[bits] / calibration.joint[bits] if with_unit and calibration.joint[bits] else None
            for bits in widths
        },
        "total_log10_error": {
            str(bits): log10_error(totals[bits], calibration.joint[bits]) if with_unit else None for bits in widths
        },
        "spearman_isolated_calibration": rank_agreement(predicted, calibration.isolated, widths),
        "spearman_isolated_heldout": rank_agreement(predicted, heldout.isolated, widths),
        "median_isolated_log10_error": median(held) if held else None,
        "wrong_sign": sum(miss is None for miss in misses) if with_unit else None,
    }


def verdict(metrics: Sequence[Mapping[str, Any]], totals: Sequence[Mapping[str, Any]]) -> str:
    """One sentence, all of it made from the numbers."""
    if all(row["measured"] == 0 for row in totals):
        return "The quantizer changed nothing, so there was nothing to predict."
    known = [(max(errors), one["name"]) for one in metrics if (errors := _errors(one)) is not None]
    ranked = [(one["spearman_isolated_heldout"], one["name"]) for one in metrics if one["spearman_isolated_heldout"]]
    parts = []
    if known:
        (best, first), (worst, last) = min(known), max(known)
        parts.append(
            f"closest to the measured change of the loss with all matrices quantized came {first}, {_apart(best)} at "
            "every width"
        )
        if last != first:
            parts.append(f"furthest off was {last}, {_apart(worst)}")
    if ranked:
        value, name = max(ranked)
        parts.append(f"single matrices were ranked best on unseen text by {name} (Spearman {value:.2f})")
    shares = [row["sum_isolated"] / row["measured"] for row in totals if row["measured"] > 0]
    if shares:
        parts.append(
            f"the changes of single matrices add up to {_between(min(shares), max(shares))} of the joint change"
        )
    sentence = "; ".join(parts)
    return sentence[:1].upper() + sentence[1:] + "."


def _apart(decades: float) -> str:
    """How far two numbers are apart, in words."""
    factor = 10**decades
    return f"within {100 * (factor - 1):.2g} %" if factor < 1.1 else f"up to a factor of {factor:.3g}"


def _between(low: float, high: float) -> str:
    return f"{low:.0%}" if f"{low:.0%}" == f"{high:.0%}" else f"{low:.0%} to {high:.0%}"


def _errors(one: Mapping[str, Any]) -> list[float] | None:
    """The errors of the totals, None where one has the wrong sign or no unit."""
    errors = list(one["total_log10_error"].values())
    return None if not errors or any(error is None for error in errors) else errors
