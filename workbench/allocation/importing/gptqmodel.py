"""A `quantize_config` of GPTQModel: its base and its `dynamic` block of patterns.

Patterns are matched from the start of a module's name, negative ones first, then the first that matches. They are PCRE;
Python's `re` reads what the two have in common and refuses the rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from workbench.allocation.export.subject import SUFFIX
from workbench.allocation.importing.assemble import LEFT, Document, Imported, Wanted, assemble
from workbench.allocation.importing.fields import mapping, truth, whole
from workbench.errors import WorkbenchError, shown

FORM = "GPTQModel configuration"
READ = ("bits", "group_size", "sym", "desc_act")
WHOLE = (*READ, "dynamic", "quant_method", "damp_percent")
Rule = tuple[re.Pattern[str], Mapping[str, Any] | None]


def read(document: Mapping[str, Any], inspected: Document) -> Imported:
    """The plan.

    Raises:
        WorkbenchError: a pattern that cannot be read, a field of the wrong kind, another method than GPTQ.
    """
    method = document.get("quant_method", "gptq")
    if method != "gptq":
        raise WorkbenchError(f"quant_method has value {shown(method)}; a GPTQModel configuration is read for 'gptq'")
    losses = _not_read(document, WHOLE, "the configuration")
    rules = _rules(mapping(document.get("dynamic") or {}, "dynamic"), losses)
    wanted: dict[str, Wanted] = {}
    used: set[str] = set()
    for matrix in inspected["matrices"]:
        module = matrix["name"].removesuffix(SUFFIX)
        rule = next((one for one in rules if one[0].match(module)), None)
        used |= {rule[0].pattern} if rule else set()
        wanted[matrix["name"]] = LEFT if rule and rule[1] is None else _scheme(document, (rule or (None, {}))[1] or {})
    idle = [pattern.pattern for pattern, overrides in rules if overrides is not None and pattern.pattern not in used]
    losses += [f"the pattern {shown(one)} matches no matrix of this model" for one in idle]
    return assemble(wanted, inspected, FORM, losses)


def _rules(dynamic: Mapping[str, Any], losses: list[str]) -> list[Rule]:
    """Patterns with what they override, None for those that leave a module alone; these come first."""
    negative: list[Rule] = []
    positive: list[Rule] = []
    for text, overrides in dynamic.items():
        sign, bare = (text[:2], text[2:]) if text[:2] in ("+:", "-:") else ("+:", text)
        try:
            pattern = re.compile(bare)
        except (re.error, RecursionError) as error:
            raise WorkbenchError(f"the pattern {shown(text)} cannot be read: {error}") from None
        if sign == "-:":
            negative.append((pattern, None))
            continue
        held = mapping(overrides, f"dynamic[{shown(text)}]")
        losses += _not_read(held, READ, f"the pattern {shown(text)}")
        positive.append((pattern, held))
    return negative + positive


def _not_read(document: Mapping[str, Any], known: tuple[str, ...], place: str) -> list[str]:
    other = sorted(set(document) - set(known))
    return [f"not read of {place}: {', '.join(other)}"] if other else []


def _scheme(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> Wanted:
    held = {**base, **overrides}
    options: dict[str, Any] = {"act_order": truth(held, "desc_act", False, "the configuration")}
    damping = held.get("damp_percent")
    if isinstance(damping, float):
        options["damping"] = damping
    return Wanted(
        bits=whole(held, "bits", 4, "the configuration"),
        group_size=whole(held, "group_size", 128, "the configuration"),
        symmetric=truth(held, "sym", True, "the configuration"),
        method="gptq",
        options=options,
    )
