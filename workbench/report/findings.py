"""What a report is written from: the documents of its studies, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Findings:
    """The answers to `questions`, and their origin.

    Attributes:
        label: the choice of quantization in a few words.
        plan: the plan's document, None for a scheme.
        scheme: the scheme's document, None for a plan.
        inspected: document of `inspect`.
        evaluated: document of `evaluate`.
        compared: document of `tradeoff` with uniform widths.
        written: document of `generate` with this one choice.
        origin: fact -> value, of program and computer.
    """

    label: str
    plan: Document | None
    scheme: Document | None
    inspected: Document
    evaluated: Document
    compared: Document
    written: Document
    origin: Document

    @property
    def full(self) -> Document:
        """What the full model wrote and took."""
        return self.written["choices"][0]

    @property
    def chosen(self) -> Document:
        """What the quantized model wrote and took."""
        return self.written["choices"][1]

    @property
    def matrices(self) -> list[dict[str, Any]]:
        """Every matrix with its place in the model, its errors and, in a plan, its width."""
        places = {one["name"]: one for one in self.inspected["matrices"]}
        planned = {} if self.plan is None else self.plan["tensors"]
        return [
            {
                **one,
                "block": places[one["name"]]["block"],
                "role": places[one["name"]]["role"],
                "bits": planned.get(one["name"], {}).get("bits"),
            }
            for one in self.evaluated["matrices"]
        ]
