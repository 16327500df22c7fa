"""What the comparison of a prompt with the calibration text comes to: sums over matrices, and a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

MEASURES = ("overlap", "weight_overlap", "spearman")

Summary = Mapping[str, Any]


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All matrices together: salient channels counted, weights' overlap and rank correlation as means over matrices."""
    common, salient = sum(row["common"] for row in rows), sum(row["salient"] for row in rows)
    return {
        "common": common,
        "salient": salient,
        "overlap": common / salient,
        "weight_overlap": mean_known([row["weight_overlap"] for row in rows]),
        "spearman": mean_known([row["spearman"] for row in rows]),
    }


def mean_known(values: Sequence[float | None]) -> float | None:
    """Mean without the Nones; None when nothing else is there."""
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def ordinary(passages: Sequence[Summary], measure: str) -> tuple[float, float] | None:
    """Least and largest value of a measure over the passages, None when none is known."""
    known = [one[measure] for one in passages if one[measure] is not None]
    return (min(known), max(known)) if known else None


def reached(prompt: Summary, passages: Sequence[Summary]) -> dict[str, bool]:
    """Measure -> whether the prompt has no less of it than the lowest passage, for those that are known."""
    ranges = {name: ordinary(passages, name) for name in MEASURES}
    return {
        name: prompt[name] >= span[0] for name, span in ranges.items() if span is not None and prompt[name] is not None
    }


def coverage_of(prompt: Summary, passages: Sequence[Summary]) -> str:
    """`yes` when all measures reach those of the lowest passage, `no` when none does, else `partly`.

    A passage like all others misses one of twelve by chance once in thirteen, for each measure. `unknown` without
    passages.
    """
    found = list(reached(prompt, passages).values())
    if not found:
        return "unknown"
    return "yes" if all(found) else "partly" if any(found) else "no"


def verdict(prompt: Summary, passages: Sequence[Summary]) -> str:
    """One sentence from the numbers, or two."""
    shown = {
        "overlap": f"{prompt['common']} of the prompt's {prompt['salient']} salient channels are salient on the "
        f"calibration text too{_span(passages, 'overlap', prompt['overlap'])}",
        "weight_overlap": f"as are {prompt['weight_overlap']:.0%} of its salient weights"
        f"{_span(passages, 'weight_overlap')}",
        "spearman": f"the rank correlation of all channels is {_decimal(prompt['spearman'])}"
        f"{_span(passages, 'spearman')}",
    }
    told = f"{shown['overlap']}, {shown['weight_overlap']}; {shown['spearman']}"
    answer = coverage_of(prompt, passages)
    if answer == "unknown":
        return f"{told[:1].upper()}{told[1:]}. The text is too short to say how much would be ordinary."
    begin = {"yes": "Covered", "partly": "Partly covered", "no": "Not covered"}[answer]
    missed = sum(not one for one in reached(prompt, passages).values())
    passage = "what any passage of that text itself, as long as the prompt, has (in brackets)"
    words = {
        "yes": "None lies below the passages of that text itself, as long as the prompt (in brackets).",
        "partly": f"{'One lies' if missed == 1 else 'Two lie'} below {passage}.",
        "no": f"All lie below {passage}: the calibration text may protect the wrong weights for this prompt.",
    }[answer]
    return f"{begin}: {told}. {words}"


def _span(passages: Sequence[Summary], measure: str, value: float | None = None) -> str:
    """The ordinary range in brackets, behind the value where the sentence has not told it yet."""
    write = _decimal if measure == "spearman" else "{:.0%}".format
    parts = [] if value is None else [write(value)]
    span = ordinary(passages, measure)
    if span is not None:
        parts.append(f"{write(span[0])} to {write(span[1])}")
    return f" ({'; '.join(parts)})" if parts else ""


def _decimal(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"
