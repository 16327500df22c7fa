"""Questions about costs: quality of a choice, of many, of each matrix at each width, and which plan is worth them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from workbench.ui.defaults.choices import (
    DEMO,
    WIDTHS,
    Question,
    Spec,
    Texts,
    calibration_of,
    compared_schemes,
    family_of,
    short_label,
    spec_of,
    uniform_points,
)

BUDGETS = (2.75, 3.0, 3.5, 4.25, 5.0)
"""Stored bits per weight along which plans are made at first."""

RULES = ("wanda", "activation")
WAYS = ("isolated", "joint-path")
REFINED_FOR = 30
"""Seconds that may be spent on measured swaps at first."""

GUARD_METHOD = "linearised"
NODES = 4


@dataclass(frozen=True, slots=True)
class Mix:
    """What a plan may choose from for each matrix.

    Attributes:
        quantizers: whose grids may be mixed.
        widths: of them all; each quantizer takes those that it has.
        group_size: columns a scale, -1 for whole rows.
        symmetric: grids without zero point.
        options: of each quantizer, those that differ from its defaults.
    """

    quantizers: tuple[str, ...] = ("rtn",)
    widths: tuple[int, ...] = WIDTHS
    group_size: int = 64
    symmetric: bool = False
    options: Mapping[str, Spec] = field(default_factory=dict)

    def spec(self) -> Spec:
        """The keys of a study that decides."""
        grid = {"group_size": self.group_size, "symmetric": self.symmetric}
        settings = {name: dict(one) for name, one in self.options.items() if one}
        return {"quantizers": list(self.quantizers), "bits": sorted(self.widths), **grid, "options": settings}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a plan must keep besides its budget.

    Attributes:
        floor: least width of all matrices that are not locked, None for none.
        ceiling: most width of them.
        fused: whether matrices that engines fuse must be alike.
        locks: matrix -> width that is fixed.
    """

    floor: int | None = None
    ceiling: int | None = None
    fused: bool = False
    locks: Mapping[str, int] = field(default_factory=dict)

    def spec(self) -> Spec:
        """The keys of a study that decides."""
        return {"locks": dict(self.locks), "floor": self.floor, "ceiling": self.ceiling, "ties": self.ties}

    @property
    def ties(self) -> list[str]:
        """The ties in the studies' words."""
        return ["fused"] if self.fused else []


@dataclass(frozen=True, slots=True)
class Guard:
    """What a plan must not lose.

    Attributes:
        max_kl: most divergence from the full model, nats a token; None for any.
        min_agreement: least rank correlation of attribution maps; None for any.
        method: attribution method of those maps.
        prompts: texts that they are drawn for.
    """

    max_kl: float | None = None
    min_agreement: float | None = None
    method: str = GUARD_METHOD
    prompts: tuple[str, ...] = ()

    def spec(self) -> Spec:
        """The keys of the study; without maps it reads no prompts."""
        compared = [] if self.min_agreement is None else list(self.prompts)
        known = {"max_kl": self.max_kl, "min_agreement": self.min_agreement, "method": self.method}
        return {**known, "prompts": compared}


def quality(model: str = DEMO, texts: Texts | None = None, *, schemes: Sequence[Spec] | None = None) -> Question:
    """Quality against size of the same schemes, each under the name that it has in the table of errors."""
    chosen = schemes if schemes is not None else compared_schemes()
    return tradeoff(model, texts, points=[{"label": short_label(one), "scheme": one} for one in chosen])


def evaluate(
    model: str = DEMO, texts: Texts | None = None, *, scheme: Spec | None = None, plan: Spec | None = None
) -> Question:
    """Quality of one choice of quantization on the evaluation text."""
    texts = texts or Texts()
    return "evaluate", spec_of(model, **calibration_of(texts), text=texts.text, scheme=scheme, plan=plan)


def sensitivity(
    model: str = DEMO,
    texts: Texts | None = None,
    *,
    scheme: Spec | None = None,
    widths: Sequence[int] = WIDTHS,
    measure: str = "loss",
    by: str = "isolated",
) -> Question:
    """What each matrix costs at each width; of `scheme` all but its bits is used."""
    texts, family = texts or Texts(), family_of(scheme)
    asked = {"bits": sorted(widths), "measure": measure, "by": by, "precision": None, "budgets": None, "nodes": NODES}
    return "sensitivity", spec_of(model, **calibration_of(texts), **family, **asked)


def tradeoff(model: str = DEMO, texts: Texts | None = None, *, points: Sequence[Spec] | None = None) -> Question:
    """Quality against size for several choices; each point is `{"label", "scheme"}` or `{"label", "plan"}`."""
    texts = texts or Texts()
    chosen = list(points) if points is not None else uniform_points()
    return "tradeoff", spec_of(model, **calibration_of(texts), text=texts.text, points=chosen)


def allocate(
    model: str = DEMO,
    texts: Texts | None = None,
    *,
    budget: float | str = 4.0,
    mix: Mix | None = None,
    limits: Limits | None = None,
    ways: Sequence[str] = WAYS,
    refine_seconds: float = REFINED_FOR,
) -> Question:
    """Which plan measuring decides on for a budget: stored bits per weight, or as text a file's size."""
    size = {"budget": None, "file_bytes": budget} if isinstance(budget, str) else {"budget": budget, "file_bytes": None}
    asked = {**size, "ways": list(ways), "refine_seconds": refine_seconds, "solver": "milp", "cells": None}
    kept = {**(mix or Mix()).spec(), **(limits or Limits()).spec()}
    return "allocate", spec_of(model, **calibration_of(texts or Texts()), **asked, **kept)


def guarded(
    model: str = DEMO,
    texts: Texts | None = None,
    *,
    guard: Guard,
    budget: float | None = None,
    mix: Mix | None = None,
    limits: Limits | None = None,
    by: str = "isolated",
) -> Question:
    """The plan of fewest bits that keeps a ceiling on divergence and a floor under the agreement of maps."""
    kept = {**(mix or Mix()).spec(), **(limits or Limits()).spec(), "budget": budget, "by": by, "cells": None}
    return "guarded", spec_of(model, **calibration_of(texts or Texts()), **guard.spec(), **kept)


def front(
    model: str = DEMO,
    texts: Texts | None = None,
    *,
    budgets: Sequence[float] = BUDGETS,
    mix: Mix | None = None,
    fused: bool = False,
    ways: Sequence[str] = WAYS,
    rules: Sequence[str] = RULES,
    refine_seconds: float = 0,
) -> Question:
    """Plans along a range of budgets, uniform ones and rules of thumb, all measured on the evaluation text."""
    texts = texts or Texts()
    asked = {"budgets": sorted(budgets), "ways": list(ways), "ties": Limits(fused=fused).ties, "rules": list(rules)}
    kept = {**(mix or Mix()).spec(), "refine_seconds": refine_seconds, "cells": None}
    return "front", spec_of(model, **calibration_of(texts), text=texts.text, **asked, **kept)
