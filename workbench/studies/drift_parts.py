"""The rows of `drift` as cells: a prompt explained before is read, and the others can be made elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

from workbench.model.load import LoadedModel
from workbench.model.overlay import overlay
from workbench.model.texts import Windows
from workbench.progress import Steps, within
from workbench.registry import attribution
from workbench.results import finite
from workbench.studies.choice import Assignment, quantize_assignment
from workbench.studies.context import Context, cell_key
from workbench.studies.drift_rows import Asked, row
from workbench.studies.parts import Bench, Part
from workbench.vocabulary import STUDY_VERSION


@dataclass(frozen=True)
class Wanted:
    """What is asked of every prompt, as of `drift`; `other` are the options of another draw, None for no chance."""

    method: str
    settings: Mapping[str, Any]
    other: Mapping[str, Any] | None
    target: str | None
    contrast: str | None
    top_k: int


@dataclass(frozen=True, eq=False)
class PromptWork:
    """Rows of prompts; a part is asked for as a key and a prompt.

    Attributes:
        wanted: what is asked.
        assignment: what is held against the full model, None for the model itself.
        seen: calibration text, None where no quantizer reads one.
    """

    wanted: Wanted
    assignment: Assignment | None
    seen: Windows | None

    def open(self, loaded: LoadedModel, context: Context) -> Steps[Bench]:
        """The quantized weights."""
        weights = yield from self._weights(loaded, context)

        def make(asks: Sequence[tuple[str, str]]) -> Steps[None]:
            asked = {key: self.ask(loaded, text) for key, text in asks}
            yield from self._answer(loaded, asked, weights, context)

        return make

    def rows(self, loaded: LoadedModel, prompts: Sequence[str], context: Context) -> Steps[list[dict[str, Any]]]:
        """A row a prompt, numbered; prompts are looked at before anything is computed.

        Raises:
            WorkbenchError: a prompt that cannot be explained, or whatever the method or a quantizer refuses.
        """
        keys = [self._key(loaded, text) for text in prompts]
        known = context.cells.get_cells(keys)
        missing = {key: text for key, text in zip(keys, prompts, strict=True) if key not in known}
        asked = {key: self.ask(loaded, text) for key, text in missing.items()}
        parts = [Part((key,), (key, text), f"prompt {keys.index(key) + 1}") for key, text in missing.items()]
        yield from context.spread(loaded, self, parts)
        known = context.cells.get_cells(keys)
        left = {key: one for key, one in asked.items() if key not in known}
        if left:
            weights = yield from within(self._weights(loaded, context), 0.0, 0.2)
            yield from within(self._answer(loaded, left, weights, context), 0.2, 1.0)
            known = context.cells.get_cells(keys)
        return [{**known[key], "number": place} for place, key in enumerate(keys)]

    def ask(self, loaded: LoadedModel, text: str) -> Asked:
        """One prompt as a question."""
        from workbench.studies.drift import ask

        wanted = self.wanted
        method = attribution.get(wanted.method)
        return ask(loaded, text, wanted.target, wanted.contrast, method, wanted.settings, wanted.other)

    def _weights(self, loaded: LoadedModel, context: Context) -> Steps[Mapping[str, Any] | None]:
        if self.assignment is None:
            return None
        return (yield from quantize_assignment(loaded, self.assignment, self.seen, context)).dense()

    def _answer(
        self, loaded: LoadedModel, asked: Mapping[str, Asked], weights: Mapping[str, Any] | None, context: Context
    ) -> Steps[None]:
        """Explain every prompt in both models and keep its row."""
        from workbench.studies.drift import noise_floors, sides

        questions, top_k = list(asked.values()), self.wanted.top_k
        full = yield from within(sides(questions, "the full model"), 0.0, 0.4)
        floors = yield from within(noise_floors(questions, full, top_k), 0.4, 0.6)
        with overlay(loaded.model, weights) if weights is not None else nullcontext():
            quantized = yield from within(sides(questions, "the quantized model"), 0.6, 1.0)
        for key, one, before, after, floor in zip(asked, questions, full, quantized, floors, strict=True):
            context.cells.put_cell(key, finite(row(0, one, before, after, floor, top_k)))

    def _key(self, loaded: LoadedModel, prompt: str) -> str:
        schemes = None if self.assignment is None else {k: one.to_json() for k, one in self.assignment.items()}
        return cell_key(
            {
                "study": "drift",
                "version": STUDY_VERSION,
                "model": loaded.identity.digest,
                "prompt": prompt,
                "wanted": asdict(self.wanted),
                "assignment": schemes,
                "calibration": None if self.seen is None else self.seen.digest,
            }
        )
