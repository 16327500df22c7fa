"""Plans made elsewhere, as plans of ours: which form a file has is seen from its content, never from its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.allocation.importing import by_hand, gptqmodel, llama_cpp
from workbench.allocation.importing.assemble import Imported
from workbench.allocation.plan import check_against
from workbench.allocation.reading import decode, load_json, read_plan
from workbench.errors import WorkbenchError

FORMS = (
    "a plan (wb.allocation, JSON)",
    "names and widths by hand (JSON), as in auto-round's layer_config",
    "a GPTQModel quantize_config (JSON with bits and dynamic)",
    "a llama.cpp tensor-type list (pattern=type)",
)

OUR_OWN = "plan in our own format"


def import_plan(raw: bytes, inspected: Mapping[str, Any]) -> Imported:
    """A plan for the inspected model from the bytes of a file.

    Args:
        raw: the file.
        inspected: the document of `inspect`.

    Raises:
        WorkbenchError: none of the forms, or what their readers refuse.
    """
    text = decode(raw)
    if not text.lstrip().startswith(("{", "[", '"')) and llama_cpp.looks_like(text):
        return llama_cpp.read(text, inspected)
    try:
        document = load_json(text)
    except WorkbenchError as error:
        raise WorkbenchError(f"{error}; what is read is {'; '.join(FORMS)}") from None
    if not isinstance(document, dict) or not document:
        raise WorkbenchError(f"the plan is no JSON object with names in it; what is read is {'; '.join(FORMS)}")
    if "schema" in document:
        plan = read_plan(document)
        check_against(plan, inspected["matrices"], inspected["model"])
        return Imported(plan, OUR_OWN, ())
    held = document.get("quantization_config", document)
    if isinstance(held, dict) and ("dynamic" in held or isinstance(held.get("bits"), int)):
        return gptqmodel.read(held, inspected)
    return by_hand.read(document, inspected)
