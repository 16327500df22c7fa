"""Options of methods that travel in one flag: whose each of them is, and what to say of one that nobody has."""

from __future__ import annotations

from typing import Any

from workbench.errors import WorkbenchError


def split_options(options: dict[str, str], method: str) -> tuple[dict[str, str], dict[str, str]]:
    """Options of the attribution method, and the rest, which the quantizer must know."""
    from workbench.registry import attribution

    known = {option.name for option in attribution.get(method).options}
    return (
        {name: value for name, value in options.items() if name in known},
        {name: value for name, value in options.items() if name not in known},
    )


def refuse_stray(options: dict[str, str], spec: dict[str, Any]) -> None:
    """Refuse options that no method knows where there is no quantizer that could.

    Raises:
        WorkbenchError: there are some.
    """
    if options and spec["scheme"] is None:
        raise WorkbenchError(
            f"--option has value {next(iter(options))[:80]!r}, which none of the attribution methods has; `workbench"
            " methods attribution` lists their options"
        )
