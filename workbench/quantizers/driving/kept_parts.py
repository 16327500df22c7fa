"""Finished parts of a run on disk, under a name that holds everything they depend on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from workbench.model.load import LoadedModel
from workbench.model.texts import Windows
from workbench.progress import Steps
from workbench.quantizers.driving import packing
from workbench.quantizers.driving.packing import Part
from workbench.scheme import Scheme
from workbench.trimming import trim

VERSION = 1
"""Raised when a quantizer gives other weights for the same question, so that kept ones are made again."""

KEPT_BYTES = 1_000_000_000
"""What the parts of all runs may take on disk; the least recently used runs go first."""


class KeptParts:
    """The parts of one run.

    Args:
        folder: where runs are kept, a sub-folder each; None keeps nothing.
        question: by `name_of`.
    """

    def __init__(self, folder: Path | None, question: str) -> None:
        self.folder, self.question = folder, question

    def part(self, name: str, steps: Steps[Part]) -> Steps[Part]:
        """The part of that name: read if it is there, else made by these steps and written.

        Raises:
            WorkbenchError: it cannot be written, or whatever the steps refuse.
        """
        path = self.path(name)
        held = None if path is None else packing.load(path)
        if held is not None:
            steps.close()
            with suppress(OSError):
                os.utime(path.parent)  # type: ignore[union-attr]
            return held
        made = yield from steps
        if path is not None and self.folder is not None:
            packing.save(made, path)
            trim(self.folder, KEPT_BYTES, self.question)
        return made

    def path(self, name: str) -> Path | None:
        """Where the part of that name is kept; None where nothing is."""
        return None if self.folder is None else self.folder / self.question / f"{name}.safetensors"


def name_of(
    loaded: LoadedModel,
    assignment: Mapping[str, Scheme],
    windows: Windows | None,
    weights: Mapping[str, Tensor],
    isolated: bool,
) -> str:
    """A hash of the question that a run answers: model, text, schemes, the weights it starts from."""
    facts = {
        "version": VERSION,
        "model": loaded.identity.digest,
        "text": None if windows is None else windows.digest,
        "assignment": {name: scheme.to_json() for name, scheme in assignment.items()},
        "weights": {name: _digest(weight) for name, weight in weights.items()},
        "isolated": isolated,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _digest(weight: Tensor) -> str:
    return hashlib.sha256(weight.detach().float().contiguous().cpu().numpy().tobytes()).hexdigest()
