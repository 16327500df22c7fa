"""What the Input attribution page asks about: one prompt, one target, several methods, two models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workbench.ui import attribution_cost, defaults, study
from workbench.ui.attribution import View
from workbench.ui.attribution_trial import MODELS, Trial
from workbench.ui.defaults import Explained, Question, Spec, Texts
from workbench.ui.study import Shown
from workbench.ui.tokens import Span


@dataclass(frozen=True)
class Case:
    """The choices of the page.

    Attributes:
        model: its name.
        prompt: the text.
        explained: what is explained.
        methods: method -> its options; the first is the one in detail.
        scheme: of the quantized model.
        texts: that its quantizer may read.
        view: how maps are drawn.
    """

    model: str
    prompt: str
    explained: Explained
    methods: Mapping[str, Spec]
    scheme: Spec
    texts: Texts
    view: View

    @property
    def main(self) -> str:
        """The method in detail."""
        return next(iter(self.methods))

    @property
    def others(self) -> list[str]:
        """The methods beside it."""
        return list(self.methods)[1:]

    def question(self, method: str, *, quantized: bool = False) -> Question:
        """What a method says of the prompt."""
        asked = {"explained": self.explained, "method": method, "options": self.methods.get(method, {})}
        scheme = self.scheme if quantized else None
        return defaults.attribute(self.model, self.prompt, **asked, scheme=scheme, texts=self.texts)

    def ask(self, method: str, *, slot: str, quantized: bool = False) -> Shown | None:
        """Ask for one map; what takes long waits for its button."""
        cost = attribution_cost.expected(method, self.methods.get(method, {}), self.prompt)
        return study.study(
            *self.question(method, quantized=quantized),
            label=f"attribution by {method}{' in the quantized model' if quantized else ''}",
            slot=slot,
            auto=cost is None or cost.starts_by_itself,
            estimate=cost.words if cost else None,
        )

    def trial(self, trial: Trial, marked: Sequence[Span]) -> Question:
        """How good the maps of all methods are."""
        asked = {
            "group": list(trial.group) or None,
            "other_group": list(trial.other_group) or None,
            "marked": [list(span) for span in marked] or None,
            "measure": trial.measure,
            "checks": trial.checks,
        }
        scheme = None if trial.model == next(iter(MODELS)) else self.scheme
        return defaults.compare_attribution(
            self.model,
            self.prompt,
            methods=self.methods,
            explained=self.explained,
            scheme=scheme,
            texts=self.texts,
            **asked,
        )
