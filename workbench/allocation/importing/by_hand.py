"""A plan written by hand, or auto-round's `layer_config`: names of matrices to widths.

`{"model.layers.0.mlp.down_proj": 8, "default": {"bits": 4, "group_size": 64}}`. A value is a width, or an object with
`bits` and, where they differ from the default, `group_size`, `symmetric` (or `sym`), `method` and `options`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.allocation.export.subject import SUFFIX
from workbench.allocation.importing.assemble import Document, Imported, Wanted, assemble
from workbench.allocation.importing.fields import mapping, no_such_matrix, truth, whole
from workbench.errors import WorkbenchError, shown

FORM = "plan by hand"
DEFAULT = "default"
READ = ("bits", "group_size", "symmetric", "sym", "method", "options")
SILENT = {"data_type": "int", "act_bits": 16}
"""Fields of auto-round that say, with this value, what every plan here means anyway."""


def read(document: Mapping[str, Any], inspected: Document) -> Imported:
    """The plan.

    Raises:
        WorkbenchError: a name that the model does not have, or a field of the wrong kind.
    """
    losses: list[str] = []
    names = [matrix["name"] for matrix in inspected["matrices"]]
    given = {name: value for name, value in document.items() if name != DEFAULT}
    usual = _one(document[DEFAULT], Wanted(4), DEFAULT, losses) if DEFAULT in document else None
    wanted = dict.fromkeys(names, usual) if usual is not None else {}
    for name, value in given.items():
        full = name if name in names else f"{name}{SUFFIX}"
        if full not in names:
            raise no_such_matrix(name, names)
        wanted[full] = _one(value, usual or Wanted(4), shown(name), losses)
    return assemble({name: one for name, one in wanted.items() if one is not None}, inspected, FORM, losses)


def _one(value: Any, usual: Wanted, place: str, losses: list[str]) -> Wanted:
    if isinstance(value, int):
        value = {"bits": value}
    held = mapping(value, place)
    other = sorted(name for name in held if name not in READ and SILENT.get(name) != held[name])
    if other:
        losses.append(f"not read: {', '.join(other)} (first of {place})")
    method, options = held.get("method", usual.method), held.get("options", usual.options)
    if not isinstance(method, str):
        raise WorkbenchError(f"method of {place} has value {shown(method)}; it should be a name")
    symmetric = truth(held, "sym", usual.symmetric, place) if "sym" in held else usual.symmetric
    return Wanted(
        bits=whole(held, "bits", usual.bits, place),
        group_size=whole(held, "group_size", usual.group_size, place),
        symmetric=truth(held, "symmetric", symmetric, place),
        method=method,
        options=dict(mapping(options, f"options of {place}")),
    )
