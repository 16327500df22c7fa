"""Estimate and truth of a run, kept beside its result and not in it: a result does not say how long it took. No torch.

They lie in the store's cells under the kind and the spec of the run, so that a job's page finds them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from workbench.estimates.estimate import size_words, time_words


@dataclass(frozen=True)
class Record:
    """What was expected of a run, and what it took.

    Attributes:
        seconds: expected.
        peak: bytes expected of the whole process.
        took: seconds on the clock.
        processor: seconds of processor time, all threads together.
        held: bytes that the process really held at most.
    """

    seconds: float
    peak: int
    took: float
    processor: float
    held: int

    @property
    def words(self) -> str:
        """Both, in a line."""
        expected = f"{time_words(self.seconds)} and {size_words(self.peak)}"
        return f"expected {expected}, took {time_words(self.took)} and {size_words(self.held)}"

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)


def record_key(kind: str, spec: Mapping[str, Any]) -> str:
    """Under which key the last run of a kind and spec is recorded; `spec` as it was submitted, model included."""
    facts = json.dumps({"estimate": "run", "kind": kind, "spec": spec}, sort_keys=True, default=str)
    return hashlib.sha256(facts.encode()).hexdigest()


def read_record(found: Mapping[str, Any] | None) -> Record | None:
    """A record from its cell."""
    return None if found is None else Record(**found)
