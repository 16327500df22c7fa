"""The measured part of a sensitivity table: rounds of windows, and in each the cells that are not yet decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from workbench.allocation.items import Choice, Item
from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix, read_weight
from workbench.model.texts import Windows
from workbench.progress import Steps, within
from workbench.quantizers.driver import Quantized
from workbench.quantizers.weight import QuantizedWeight
from workbench.scheme import Scheme
from workbench.studies.choice import quantize_assignment
from workbench.studies.context import Context
from workbench.studies.sensitivity_cells import Cell, Kept, read_cell
from workbench.studies.sensitivity_parts import SweepWork, parts_of, spread_round
from workbench.studies.single_changes import Change, Effect, Ground, single_changes, spread_order
from workbench.studies.stopping import Place, Stop, rounds_of
from workbench.studies.streamed_changes import streamed_changes


@dataclass(frozen=True)
class Outcome:
    """What a sweep did.

    Attributes:
        computed: keys of the cells for which anything was measured.
        counts: key -> windows that the table uses of a cell.
    """

    computed: set[str]
    counts: dict[str, int]


class Sweep:
    """Measures cells and keeps them, batch by batch.

    Args:
        loaded: the model.
        windows: the calibration text; its windows are used in the order of `spread_order`.
        matrices: all matrices of the table.
        cells: the cells of the table.
        kept: what there is of them by key; what is measured is added to it.
        by: `isolated` or `spared`.
        measure: `loss` or `kl`: what the rule looks at.
        stop: the rule.
        context: holds the store.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        windows: Windows,
        matrices: Sequence[Matrix],
        cells: Sequence[Cell],
        kept: Kept,
        *,
        by: str,
        measure: str,
        stop: Stop,
        context: Context,
    ) -> None:
        self._loaded, self._windows, self._matrices, self._cells = loaded, windows, list(matrices), list(cells)
        self._kept, self._by, self._measure, self._stop, self._context = kept, by, measure, stop, context
        self._work = SweepWork(windows, self._matrices, self._cells, by, measure)
        self._ids = windows.ids[spread_order(len(windows.ids))]
        self._weights: dict[int | None, Mapping[str, QuantizedWeight]] = {}  # by width
        self._computed: set[str] = set()
        self._counts: dict[str, int] = {cell.key: 0 for cell in cells}

    def run(self) -> Steps[Outcome]:
        """Round after round, until every cell is decided."""
        total = len(self._ids)
        rounds = [total] if self._stop.precision is None else rounds_of(total)
        going = list(self._cells)
        for place, end in enumerate(rounds):
            steps = self._round(going, end)
            yield from within(steps, place, place + 1, len(rounds))
            self._counts |= {cell.key: end for cell in going}
            going = self._undecided(going) if end < total else []
            if not going:
                break
        return Outcome(self._computed, self._counts)

    def bring(self, going: Sequence[Cell], end: int) -> Steps[None]:
        """Bring cells to `end` windows; those that the store holds so far are left alone."""
        for place, ((start, _), group) in enumerate((behind := self._behind(going, end)).items()):
            steps = self._measure_group(group, start, end)
            yield from within(steps, place, place + 1, len(behind))

    def _round(self, going: Sequence[Cell], end: int) -> Steps[None]:
        """One round: what others have made is taken from the store, the rest is measured here."""
        parts = parts_of(self._behind(going, end), end)
        self._computed |= yield from spread_round(self._loaded, self._work, parts, self._kept, self._context)
        yield from self.bring(going, end)

    def _behind(self, going: Sequence[Cell], end: int) -> dict[tuple[int, int | None], list[Cell]]:
        """The cells that have seen fewer windows, by how many, and by width where they share what lies beneath."""
        behind: dict[tuple[int, int | None], list[Cell]] = {}
        for cell in going:
            start = len(self._kept.get(cell.key, {}).get(self._measure, ()))
            if start < end:
                # spared cells of one scheme share what lies beneath them; isolated ones all lie on the full model
                behind.setdefault((start, cell.scheme.bits if self._by == "spared" else None), []).append(cell)
        return behind

    def _measure_group(self, group: Sequence[Cell], start: int, end: int) -> Steps[None]:
        schemes = list({cell.scheme.bits: cell.scheme for cell in group}.values())
        for place, scheme in enumerate(schemes):
            yield from within(self._quantize(scheme), 0.1 * place, 0.1 * (place + 1), len(schemes))
        by_key = {cell.key: cell for cell in group}
        spared = self._by == "spared"

        def keep(change: Change, effect: Effect) -> None:
            self._add(by_key[change.key], effect, -1.0 if spared else 1.0)

        base = Quantized(self._weights[schemes[0].bits]).dense() if spared else {}
        ground = Ground(self._loaded, self._ids[start:end], base, divergence=self._measure == "kl")
        measure = streamed_changes if self._loaded.streamed else single_changes
        yield from within(measure(ground, [self._change(cell) for cell in group], keep), 0.1, 1.0)

    def _change(self, cell: Cell) -> Change:
        matrix = cell.matrix

        def weight() -> torch.Tensor:
            if self._by == "spared":
                return read_weight(self._loaded.model, matrix)
            return self._weights[cell.scheme.bits][matrix.name].dequantize(torch.float32)

        return Change(cell.key, matrix, weight, f"{cell.scheme.label}: {matrix.name}")

    def _quantize(self, scheme: Scheme) -> Steps[None]:
        """The weights of all matrices under a scheme: fed by the full model, unless all are quantized together."""
        if scheme.bits not in self._weights:
            assignment = {matrix.name: scheme for matrix in self._matrices}
            steps = quantize_assignment(
                self._loaded, assignment, self._windows, self._context, isolated=self._by == "isolated"
            )
            self._weights[scheme.bits] = (yield from steps).weights

    def _add(self, cell: Cell, effect: Effect, sign: float) -> None:
        stored = self._weights[cell.scheme.bits][cell.matrix.name].stored_bits
        held = self._kept.get(cell.key, {})
        start = len(held.get(self._measure, ()))
        more: dict[str, Any] = {"stored_bits": stored}
        for name, part in (("loss", effect.loss), ("kl", effect.kl)):
            former = held.get(name, [])
            new = [] if part is None else (sign * part).tolist()
            more[name] = former if len(former) >= start + len(new) else [*former[:start], *new]
        self._kept[cell.key] = more
        self._context.cells.put_cell(cell.key, self._kept[cell.key])
        self._computed.add(cell.key)

    def _undecided(self, going: Sequence[Cell]) -> list[Cell]:
        total = len(self._ids)
        seen = {cell.key: self._kept[cell.key][self._measure][: self._counts[cell.key]] for cell in self._cells}
        known = {
            key: part for key, part in seen.items() if read_cell({"of": part}, "of", None, total).value is not None
        }
        if self._stop.budgets is None:
            return [cell for cell in going if cell.key in known and not self._stop.is_near(known[cell.key], total)]
        places = {
            cell.key: (cell.matrix.name, self._choice(cell, known[cell.key]))
            for cell in self._cells
            if cell.key in known
        }
        if not places:
            return []
        still = self._stop.open_choices(self._items(places), {places[key]: known[key] for key in places}, total)
        return [cell for cell in self._cells if places.get(cell.key) in still]

    def _choice(self, cell: Cell, part: Sequence[float]) -> Choice:
        scheme, size = cell.scheme, round(self._kept[cell.key]["stored_bits"] * cell.matrix.parameters)
        value = sum(part) / len(part)
        return Choice(scheme.quantizer, int(scheme.bits or 0), scheme.group_size, scheme.symmetric, size, value)

    def _items(self, places: Mapping[str, Place]) -> list[Item]:
        items = []
        for matrix in self._matrices:
            own = [choice for name, choice in places.values() if name == matrix.name]
            if own:
                items.append(Item(matrix.name, matrix.parameters, tuple(sorted(own, key=lambda one: one.size))))
        return items
