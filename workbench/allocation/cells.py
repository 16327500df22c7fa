"""From the rows of a sensitivity table to the items of a solver."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from workbench.allocation.items import Choice, Item, SchemeKey
from workbench.allocation.schema import AFFINE_METHODS
from workbench.errors import WorkbenchError, shown
from workbench.scheme import UNTOUCHED, WIDTHS, affine_stored_bits

Shapes = Mapping[str, tuple[int, ...]]

_SPOKEN = {"measure": "measures", "by": "ways of measuring", "identity": "models", "calibration": "texts"}


def read_items(
    cells: Iterable[Mapping[str, Any]],
    *,
    matrices: Sequence[Mapping[str, Any]] | None = None,
    widths: Collection[int] | None = None,
    envelope: bool = False,
) -> tuple[Item, ...]:
    """Items from the rows of a sensitivity table.

    A value is taken as it was measured: below zero where quantizing happened to help, and not always falling as bits
    are added, since it carries the noise of its text. A null value (the loss was not finite there) takes that scheme of
    that matrix out of the choices. Nothing else is changed unless `envelope` is asked for.

    Args:
        cells: rows with `matrix`, `bits`, `group_size`, `quantizer`, `symmetric`, `value`, `parameters`, `stored_bits`.
        matrices: `name` and `shape` `[out, in]` of every matrix of the model; the table must then be about just these,
            and its rows may lack `parameters`, and `stored_bits` where the shape alone fixes them.
        widths: only these widths.
        envelope: replace each matrix's values by the nearest ones, in least squares, that do not rise as its size grows
            (isotonic regression). Noise can no longer make fewer bits look better than more; values that were out of
            order become their mean.

    Raises:
        WorkbenchError: a field that is missing or wrong, a cell given twice, other matrices than the model's, a matrix
            without any value.
    """
    shapes = {matrix["name"]: tuple(matrix["shape"]) for matrix in matrices or ()}
    found: dict[str, dict[SchemeKey, Choice]] = {}
    sizes: dict[str, int] = {}
    for cell in cells:
        name, numel, choice = _read_cell(cell, shapes)
        if sizes.setdefault(name, numel) != numel:
            raise WorkbenchError(f"{shown(name)} has {sizes[name]} parameters in one cell and {numel} in another")
        if choice.scheme in found.setdefault(name, {}):
            raise WorkbenchError(
                f"the cell of {shown(name)} at {choice.bits} bits stands twice in the sensitivity table"
            )
        found[name][choice.scheme] = choice
    _check_names(list(found), list(shapes) if matrices is not None else list(found))
    return tuple(_item(name, sizes[name], held.values(), widths, envelope) for name, held in found.items())


def rows_of(document: Any) -> list[Mapping[str, Any]]:
    """The rows of a sensitivity document, as `workbench sensitivity --json` prints it.

    Raises:
        WorkbenchError: it is no such document.
    """
    rows = document.get("cells") if isinstance(document, Mapping) else None
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise WorkbenchError("a sensitivity table should be a JSON object whose 'cells' is a list of objects")
    return rows


def options_of(document: Mapping[str, Any], quantizer: str) -> dict[str, Any]:
    """The options under which a quantizer's cells of a sensitivity document were measured.

    A document of one quantizer holds its `options`; a joined one (see `join`) holds them by quantizer.
    """
    return dict((document.get("options_of") or {}).get(quantizer, document.get("options") or {}))


def join(documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One sensitivity document of several quantizers' ones, of one model, text and way of measuring.

    Raises:
        WorkbenchError: they differ in what makes values comparable, or measure one quantizer under two sets of options.
    """
    first = documents[0]
    options: dict[str, Any] = {}
    for document in documents:
        for fact in ("measure", "by", "identity", "calibration"):
            if document.get(fact) != first.get(fact):
                raise WorkbenchError(
                    f"sensitivity tables of different {_SPOKEN[fact]} cannot be joined; measure them alike"
                )
        for name in dict.fromkeys(str(row.get("quantizer")) for row in rows_of(document)):
            held = options_of(document, name)
            if options.setdefault(name, held) != held:
                raise WorkbenchError(f"the quantizer {shown(name)} was measured under two sets of options")
    rows = [row for document in documents for row in rows_of(document)]
    return {**first, "options": {}, "options_of": options, "cells": rows}


def _read_cell(cell: Mapping[str, Any], shapes: Shapes) -> tuple[str, int, Choice]:
    """The matrix of a cell, its number of weights and the choice; a null value is read as infinity."""
    name = _field(cell, "matrix", str)
    bits = int(_field(cell, "bits", Integral))
    if bits not in (*WIDTHS, UNTOUCHED):
        raise WorkbenchError(
            f"the cell of {shown(name)} has bits {bits}; choose one of: 1, 2, 3, 4, 8 (16 leaves it as it is)"
        )
    numel = _numel(cell, name, shapes)
    scheme = (
        _field(cell, "quantizer", str),
        bits,
        int(_field(cell, "group_size", Integral)),
        bool(_field({"symmetric": False, **cell}, "symmetric", bool)),
    )
    unknown = "value" in cell and cell["value"] is None
    value = math.inf if unknown else _finite(cell, "value")
    return name, numel, Choice(*scheme, round(_stored_bits(cell, scheme, shapes.get(name)) * numel), value)


def _numel(cell: Mapping[str, Any], name: str, shapes: Shapes) -> int:
    known = math.prod(shapes[name]) if name in shapes else None
    numel = int(_field({"parameters": known, **cell} if known else cell, "parameters", Integral))
    if numel < 1 or (known and numel != known):
        expected = known or "a positive number"
        raise WorkbenchError(f"the cell of {shown(name)} has {numel} parameters; it should be {expected}")
    return numel


def _stored_bits(cell: Mapping[str, Any], scheme: SchemeKey, shape: tuple[int, ...] | None) -> float:
    quantizer, bits, group_size, symmetric = scheme
    if "stored_bits" not in cell and shape and AFFINE_METHODS.get(quantizer) == 0:
        return affine_stored_bits(shape[0], shape[1], bits, group_size, symmetric)
    stored = _finite(cell, "stored_bits")
    if stored <= 0:
        raise WorkbenchError(
            f"'stored_bits' has value {stored} in the cell of {shown(cell['matrix'])}; it should be above zero"
        )
    return stored


def _field(cell: Mapping[str, Any], name: str, kind: type) -> Any:
    """A field of a cell, of the expected kind; true and false are no numbers here."""
    if name not in cell:
        held = ", ".join(map(str, cell))[:200]
        raise WorkbenchError(f"a cell of the sensitivity table lacks {name!r}; it has: {held}")
    value = cell[name].item() if hasattr(cell[name], "item") else cell[name]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise WorkbenchError(f"{name!r} has value {shown(value)} in a cell of the sensitivity table")
    return value


def _finite(cell: Mapping[str, Any], name: str) -> float:
    number = float(_field(cell, name, Real))
    if not math.isfinite(number):
        raise WorkbenchError(
            f"{name!r} has value {number} in the cell of {shown(cell['matrix'])}; write null for what is not known"
        )
    return number


def _check_names(found: list[str], wanted: list[str]) -> None:
    if not found:
        raise WorkbenchError("the sensitivity table has no cells")
    strange = [name for name in found if name not in set(wanted)]
    if strange:
        raise WorkbenchError(
            f"the sensitivity table is about a matrix that the model does not have: {shown(strange[0])}"
        )
    lacking = [name for name in wanted if name not in set(found)]
    if lacking:
        raise WorkbenchError(
            f"the sensitivity table lacks {len(lacking)} of the {len(wanted)} matrices, first {shown(lacking[0])}"
        )


def _item(name: str, numel: int, choices: Iterable[Choice], widths: Collection[int] | None, envelope: bool) -> Item:
    measured = [choice for choice in choices if widths is None or choice.bits in widths]
    known = tuple(sorted((c for c in measured if c.value < math.inf), key=lambda c: (c.size, c.value)))
    if not known:
        asked = "any width" if widths is None else f"widths {', '.join(map(str, sorted(widths)))}"
        raise WorkbenchError(f"the sensitivity table has no value of {shown(name)} at {asked}")
    return Item(name, numel, _monotone(known) if envelope else known)


def _monotone(choices: tuple[Choice, ...]) -> tuple[Choice, ...]:
    # Imported here because it takes half a second, and a page that needs no envelope should not wait.
    from scipy.optimize import isotonic_regression

    fitted = isotonic_regression([choice.value for choice in choices], increasing=False).x
    return tuple(dataclasses.replace(c, value=float(v)) for c, v in zip(choices, fitted, strict=True))
