"""Salience Workbench: which weights and which input tokens of a language model matter, and what taking bits away costs.

In a notebook: `import workbench; model = workbench.load("demo"); workbench.run(workbench.studies.inspect(model))`.
Importing this package imports no torch; the names below are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError
from workbench.progress import Progress, run

if TYPE_CHECKING:
    from workbench import studies
    from workbench.model.load import load

__version__ = "0.1.0"
__all__ = ["Progress", "WorkbenchError", "__version__", "load", "run", "studies"]


def __getattr__(name: str) -> Any:
    """Load the heavy parts on first use, so that `workbench --help` and the pages never pay for torch."""
    if name == "load":
        return importlib.import_module("workbench.model.load").load
    if name == "studies":
        return importlib.import_module("workbench.studies")
    raise AttributeError(f"module 'workbench' has no attribute {name!r}")
