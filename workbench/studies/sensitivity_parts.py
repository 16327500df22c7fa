"""The cells of a sensitivity table as parts that others can make: a part is one matrix at all its widths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix
from workbench.model.texts import Windows
from workbench.progress import Progress, Steps
from workbench.studies.context import Context
from workbench.studies.parts import Bench, Part
from workbench.studies.sensitivity_cells import Cell, Kept
from workbench.studies.stopping import Stop


@dataclass(frozen=True, eq=False)
class SweepWork:
    """Measured cells; a part is asked for as its keys and the number of windows that it is brought to.

    Attributes:
        windows: the calibration text.
        matrices: all matrices of the table.
        cells: all its cells.
        by: `isolated` or `spared`.
        measure: `loss` or `kl`.
    """

    windows: Windows
    matrices: Sequence[Matrix]
    cells: Sequence[Cell]
    by: str
    measure: str

    def open(self, loaded: LoadedModel, context: Context) -> Steps[Bench]:
        """A sweep whose quantized weights stay between parts."""
        from workbench.studies.sensitivity_sweep import Sweep

        yield Progress(0, 1, "making ready")
        kept: Kept = {}
        named = {cell.key: cell for cell in self.cells}
        sweep = Sweep(
            loaded,
            self.windows,
            self.matrices,
            self.cells,
            kept,
            by=self.by,
            measure=self.measure,
            stop=Stop(),
            context=context,
        )

        def make(asks: Sequence[tuple[tuple[str, ...], int]]) -> Steps[None]:
            ends = {end for _, end in asks}
            for end in sorted(ends):
                keys = [key for mine, its_end in asks if its_end == end for key in mine]
                kept.update(context.cells.get_cells(keys))
                yield from sweep.bring([named[key] for key in keys], end)

        return make


@dataclass(frozen=True, eq=False)
class WholeWork:
    """Cells that are one number for the whole text; a part is asked for as the keys of one width.

    Attributes:
        windows: the calibration text.
        matrices: all matrices of the table.
        cells: all its cells.
        kind: `joint-path`, `second-order` or `output`.
        nodes: points of the path.
    """

    windows: Windows
    matrices: Sequence[Matrix]
    cells: Sequence[Cell]
    kind: str
    nodes: int

    def open(self, loaded: LoadedModel, context: Context) -> Steps[Bench]:
        """The same sweep over gradients or statistics as alone."""
        from workbench.studies.sensitivity_whole import WholeText

        yield Progress(0, 1, "making ready")
        whole = WholeText(loaded, self.windows, self.matrices, self.kind, self.nodes, context)
        named = {cell.key: cell for cell in self.cells}

        def make(asks: Sequence[tuple[str, ...]]) -> Steps[None]:
            for keys in asks:
                yield from whole.run([named[key] for key in keys], {})

        return make

    def spread(self, loaded: LoadedModel, missing: Sequence[Cell], context: Context) -> Steps[Kept]:
        """Have missing cells made, if there is a crew; returns what the store then has of them."""
        if context.crew is None or not missing:
            return {}
        widths: dict[Any, list[Cell]] = {}
        for cell in missing:
            widths.setdefault(cell.scheme.bits, []).append(cell)
        parts = []
        for group in widths.values():
            keys = tuple(cell.key for cell in group)
            parts.append(Part(keys, keys, f"{self.kind}, {group[0].scheme.label}"))
        yield from context.spread(loaded, self, parts)
        return context.cells.get_cells([cell.key for cell in missing])


def parts_of(behind: Mapping[tuple[int, int | None], Iterable[Cell]], end: int) -> list[Part]:
    """The parts of one round: of every matrix the cells that have seen the same windows.

    Args:
        behind: windows seen so far, and the width where cells of one width share what lies beneath -> cells.
        end: windows to bring them to.
    """
    groups: dict[tuple[int, int | None, str], list[Cell]] = {}
    for (start, beneath), cells in behind.items():
        for cell in cells:
            groups.setdefault((start, beneath, cell.matrix.name), []).append(cell)
    parts = []
    for (_, _, name), cells in groups.items():
        keys = tuple(cell.key for cell in cells)
        parts.append(Part(keys, (keys, end), name))
    return parts


def spread_round(
    loaded: LoadedModel, work: SweepWork, parts: Sequence[Part], kept: Kept, context: Context
) -> Steps[set[str]]:
    """Have the parts of a round made, if there is a crew, and take over their cells; returns those that are new."""
    if context.crew is None:
        return set()
    yield from context.spread(loaded, work, parts)
    found = context.cells.get_cells([key for part in parts for key in part.keys])
    new = {key for key, cell in found.items() if cell != kept.get(key)}
    kept.update(found)
    return new
