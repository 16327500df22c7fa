"""One figure of a benchmark, beside the limit that the project sets itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Measurement:
    """A figure, smaller is better.

    Attributes:
        name: what was measured.
        value: the figure.
        unit: its unit.
        limit: what it must stay below; None where there is no limit.
        note: how it was measured.
    """

    name: str
    value: float
    unit: str
    limit: float | None = None
    note: str = ""

    def __str__(self) -> str:
        verdict = (
            "" if self.limit is None else f"  limit {self.limit:g}: {'holds' if self.value < self.limit else 'MISSED'}"
        )
        return f"{self.name:58} {self.value:10.3f} {self.unit:3}{verdict}  {self.note}"

    def to_json(self) -> dict[str, object]:
        """As plain JSON."""
        return asdict(self)


def percentile(values: list[float], share: float) -> float:
    """The value below which that share of the values lies (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
