"""Whether the spec of a study that came from elsewhere has the form that pages and lists rely on.

Pages draw specs in words and take choices over from them; a spec that is no spec would break the list of jobs, not only
its own row. Which keys a study of a kind takes is left to the study: this looks at the form of those that are known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workbench.allocation.plan import read_plan
from workbench.errors import WorkbenchError, shown
from workbench.jobs.store import canonical
from workbench.scheme import Scheme

LONGEST = 2**20
"""Most characters of a spec as JSON."""

MOST_CHARACTERS = 1000
SHAPE = {"quantizer", "bits", "group_size", "symmetric", "options"}


def check_spec(spec: Any) -> str | None:
    """What is wrong with a spec, as the end of a sentence; None when nothing is."""
    if not isinstance(spec, dict) or not isinstance(spec.get("model"), str) or not spec["model"]:
        return "names no model"
    try:
        if len(canonical(spec)) > LONGEST:
            return f"is longer than {LONGEST} characters"
        for name, value in spec.items():
            if value is not None and name in FORMS and not FORMS[name](value):
                return f"has {name} {shown(value)}"
    except (WorkbenchError, RecursionError, ValueError, TypeError, KeyError) as error:
        return f"cannot be read ({shown(str(error))})"
    return None


def _line(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MOST_CHARACTERS and value.isprintable()


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _whole(value: Any) -> bool:
    return type(value) is int


def _number(value: Any) -> bool:
    return type(value) in (int, float)


def _list_of(form: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and len(value) > 0 and all(form(one) for one in value)


def _bits(value: Any) -> bool:
    return _whole(value) or (isinstance(value, list) and all(_whole(one) for one in value))


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _object(value: Any) -> bool:
    return isinstance(value, dict)


def _scheme(value: Any) -> bool:
    """A scheme with all its fields; raises `WorkbenchError` for widths and groups that there are not."""
    if not isinstance(value, dict) or set(value) != SHAPE:
        return False
    fields_right = _line(value["quantizer"]) and _flag(value["symmetric"]) and _object(value["options"])
    return fields_right and Scheme.from_json(value).label != ""


def _point(value: Any) -> bool:
    if not isinstance(value, dict) or not _line(value.get("label")):
        return False
    return all(value.get(name) is None or FORMS[name](value[name]) for name in ("scheme", "plan"))


def _plan(value: Any) -> bool:
    """A plan by its own schema, which raises `WorkbenchError`."""
    return isinstance(value, dict) and read_plan(value) is not None


FORMS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("model", "calibration", "text", "text2", "metric", "quantizer", "matrix", "measure", "by"), _line),
    **dict.fromkeys(("method", "mask_scope", "solver"), _line),
    **dict.fromkeys(("prompt", "target", "contrast", "second"), _text),
    **dict.fromkeys(("tokens", "window", "group_size", "nodes", "seed"), _whole),
    **dict.fromkeys(("top", "precision", "budget"), _number),
    **dict.fromkeys(("symmetric", "allow_download"), _flag),
    "bits": _bits,
    "options": _object,
    "scheme": _scheme,
    "schemes": _list_of(_scheme),
    "points": _list_of(_point),
    "plan": _plan,
    "prompts": lambda value: isinstance(value, list) and all(_text(one) for one in value),
    "methods": _list_of(_line),
    "quantizers": _list_of(_line),
}
"""Key of a spec -> whether a value that is not None has its form."""
