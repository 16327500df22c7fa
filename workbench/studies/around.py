"""What single changes of a plan cost with all else as the plan has it: where sums over tables fail, these still tell.

A table of isolated changes is taken at the full model and one of shares along the way to a uniform one; a plan lies
somewhere else, and what a step from it costs depends on where it lies.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch

from workbench.allocation.items import Choice, Item, SchemeKey
from workbench.allocation.plan import Plan, to_document
from workbench.allocation.ties import TiedItem
from workbench.model.matrices import Matrix, read_weight
from workbench.progress import Steps, within
from workbench.quantizers.driver import Quantized
from workbench.scheme import UNTOUCHED, Scheme
from workbench.studies.choice import find_matrices, quantize_assignment, read_assignment
from workbench.studies.context import cell_key
from workbench.studies.plan_meter import PlanMeter
from workbench.studies.single_changes import Change, Effect, Ground, single_changes, spread_order
from workbench.vocabulary import STUDY_VERSION

WINDOWS = 8
"""Windows that single changes are measured on: they say what to try, all windows say what is taken."""

Values = dict[tuple[str, SchemeKey], float]
"""Rise of the loss by matrix and scheme, nats a token."""


def values_around(
    meter: PlanMeter, plan: Plan, items: Sequence[Item], scheme_of: Callable[[Choice], Scheme]
) -> Steps[Values]:
    """The rise of the loss for every choice of every matrix, each alone, the rest as in the plan; 0 for its own ones.

    A plan that was looked at before is read from the store. Weights of a method that reads calibration text are those
    that it gives under the full model.

    Args:
        meter: the text, its first windows in `spread_order`, and the store.
        plan: the plan.
        items: one a matrix; those that a person has locked are not changed.
        scheme_of: a choice as the quantizers are asked for it.
    """
    asked = {(item.name, choice.scheme): scheme_of(choice) for item in items for choice in item.choices}
    held = read_assignment(meter.full.loaded, None, to_document(plan)) or {}
    locked = {item.name for item in items if item.locked}
    others = {place: one for place, one in asked.items() if one != held[place[0]] and place[0] not in locked}
    key = _key(meter, held, list(others.values()))
    kept = meter.context.cells.get_cells([key]).get(key)
    if kept is None:
        kept = {"values": (yield from _measure(meter, held, others))}
        meter.context.cells.put_cell(key, kept)
    return dict.fromkeys(asked, 0.0) | dict(zip(others, kept["values"], strict=True))


def revalued(items: Sequence[Item], values: Values) -> tuple[Item, ...]:
    """The items with other values, their choices in the order that they had; tied ones have the sum of their parts."""
    return tuple(dataclasses.replace(item, choices=tuple(_choices(item, values))) for item in items)


def _choices(item: Item, values: Values) -> list[Choice]:
    parts = [part.name for part in item.parts] if isinstance(item, TiedItem) else [item.name]
    sums = [sum(values[name, choice.scheme] for name in parts) for choice in item.choices]
    return [dataclasses.replace(choice, value=value) for choice, value in zip(item.choices, sums, strict=True)]


def _measure(
    meter: PlanMeter, held: dict[str, Scheme], others: dict[tuple[str, SchemeKey], Scheme]
) -> Steps[list[float]]:
    """A number a change, in their order."""
    loaded = meter.full.loaded
    matrices = {matrix.name: matrix for matrix in find_matrices(loaded)}
    base = yield from within(quantize_assignment(loaded, held, meter.seen, meter.context), 0.0, 0.1)
    schemes = {key: scheme for (_, key), scheme in others.items()}
    weights = yield from within(_weights(meter, list(matrices), schemes), 0.1, 0.2)
    changes = [
        Change(str(place), matrices[name], _weight(loaded.model, matrices[name], weights.get(key)), f"around: {name}")
        for place, (name, key) in enumerate(others)
    ]
    ids = meter.full.windows.ids
    ids, sums = ids[spread_order(len(ids))][:WINDOWS], dict.fromkeys(map(str, range(len(changes))), 0.0)

    def keep(change: Change, effect: Effect) -> None:
        sums[change.key] += float(effect.loss.nan_to_num(torch.inf).sum()) / len(ids)

    yield from within(single_changes(Ground(loaded, ids, base.dense()), changes, keep), 0.2, 1.0)
    return [min(value, WORST) for value in sums.values()]


WORST = 1e6
"""Nats that stand for a loss that is not finite: JSON knows no infinity."""


def _weights(
    meter: PlanMeter, names: Sequence[str], schemes: dict[SchemeKey, Scheme]
) -> Steps[dict[SchemeKey, Quantized]]:
    """All matrices under every scheme but that of untouched ones."""
    found: dict[SchemeKey, Quantized] = {}
    for place, (key, scheme) in enumerate(schemes.items()):
        if scheme.bits != UNTOUCHED:
            assignment = dict.fromkeys(names, scheme)
            steps = quantize_assignment(meter.full.loaded, assignment, meter.seen, meter.context, isolated=True)
            found[key] = yield from within(steps, place, place + 1, len(schemes))
    return found


def _weight(model: Any, matrix: Matrix, quantized: Quantized | None) -> Callable[[], torch.Tensor]:
    if quantized is None:
        return lambda: read_weight(model, matrix)
    return lambda: quantized.weights[matrix.name].dequantize(torch.float32)


def _key(meter: PlanMeter, held: dict[str, Scheme], others: Sequence[Scheme]) -> str:
    return cell_key(
        {
            "study": "around a plan",
            "version": STUDY_VERSION,
            "model": meter.full.loaded.identity.digest,
            "windows": [meter.full.windows.digest, WINDOWS],
            "calibration": None if meter.seen is None else meter.seen.digest,
            "assignment": {name: scheme.to_json() for name, scheme in held.items()},
            "changes": [scheme.to_json() for scheme in others],
        }
    )
