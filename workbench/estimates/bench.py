"""Where an estimate is worked out: the model at hand, how fast it runs here, and the texts of a run.

What was measured of a model is kept in the cells under its digest, the device, the type of numbers and the threads, so
that no probe is made twice.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from workbench.estimates import method_probe
from workbench.estimates.probe import probe
from workbench.estimates.shape import Shape, shape_of
from workbench.estimates.units import Units
from workbench.model.load import LoadedModel
from workbench.model.texts import Windows
from workbench.progress import Steps
from workbench.quantizers.driving.schemes import complete_scheme
from workbench.registry import Method, quantizers
from workbench.scheme import Scheme
from workbench.studies.context import Context, cell_key
from workbench.studies.texts import calibration_windows, evaluation_windows

VERSION = 1
"""Raised when the probe measures otherwise."""

Spec = Mapping[str, Any]

_measured: dict[str, Units] = {}


@dataclass
class Bench:
    """One model here and now.

    Attributes:
        loaded: the model.
        context: what the process shares.
        shape: its sizes.
        units: its speed.
        key: under which the speed is kept.
    """

    loaded: LoadedModel
    context: Context
    shape: Shape
    units: Units
    key: str
    _windows: dict[tuple[Any, ...], Windows] = field(default_factory=dict)

    def calibration(self, spec: Spec, tokens: int | None = None) -> Windows:
        """The calibration windows of a spec; `tokens` is the study's own default."""
        return self._cut(calibration_windows, spec.get("calibration"), spec.get("tokens") or tokens, spec.get("window"))

    def evaluation(self, spec: Spec, tokens: int | None = None) -> Windows:
        """The evaluation windows of a spec."""
        return self._cut(evaluation_windows, spec.get("text"), spec.get("tokens") or tokens, spec.get("window"))

    def _cut(self, cut: Any, *asked: Any) -> Windows:
        key = (cut.__name__, *asked)
        if key not in self._windows:
            self._windows[key] = cut(self.loaded, *asked)
        return self._windows[key]

    def scoring(self, method: Method, options: Mapping[str, Any]) -> float:
        """Seconds of scoring every matrix once."""
        name = f"{method.kind} {method.name} {sorted(options.items())}"
        found = self._tried(name, lambda: method_probe.scoring_seconds(method, options, self.shape))
        return self._over_matrices(found, method.cost, options, self.shape.matrices)

    def rounding(self, scheme: Scheme) -> float:
        """Seconds of quantizing every matrix by a method that looks at one at a time."""
        name = f"quantizer {scheme.to_json()}"
        found = self._tried(name, lambda: method_probe.rounding_seconds(scheme, self.shape))
        settings = {**scheme.options, "bits": scheme.bits or 1, "group": max(1, scheme.group_size)}
        return self._over_matrices(found, quantizers.get(scheme.quantizer).cost, settings, self.shape.matrices)

    def _over_matrices(
        self, found: Mapping[str, float], cost: str, settings: Mapping[str, Any], matrices: Sequence[tuple[int, int]]
    ) -> float:
        each = {one: method_probe.scaled(found, cost, settings, *one) for one in set(matrices)}
        return sum(each[one] for one in matrices)

    def _tried(self, name: str, measure: Any) -> Mapping[str, float]:
        if name not in self.units.methods:
            self.units.methods[name] = measure()
            self.context.cells.put_cell(self.key, self.units.to_json())
        return self.units.methods[name]

    def knows_statistics(self, windows: Windows) -> bool:
        """Whether statistics of a text lie in the cache; which ones, only the file itself knows."""
        folder: Path | None = self.context.statistics
        start = f"{self.loaded.identity.digest}-{windows.digest}-"
        return folder is not None and folder.is_dir() and any(folder.glob(f"{start}*"))


def open_bench(loaded: LoadedModel, context: Context) -> Steps[Bench]:
    """The bench of a model; its speed is measured unless that was done before.

    Raises:
        WorkbenchError: the model has no matrix that can be quantized.
    """
    shape = shape_of(loaded)
    key = cell_key(_facts(loaded))
    units = _measured.get(key)
    if units is None:
        kept = context.cells.get_cells([key]).get(key)
        if kept is None:
            units = yield from probe(loaded, shape)
            context.cells.put_cell(key, units.to_json())
        else:
            units = Units.from_json(kept)
        _measured[key] = units
    return Bench(loaded, context, shape, units, key)


def _facts(loaded: LoadedModel) -> dict[str, Any]:
    weight = next(loaded.model.parameters())
    return {
        "estimate": "units",
        "version": VERSION,
        "model": loaded.identity.digest,
        "device": str(loaded.model.device),
        "dtype": str(weight.dtype),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cores": os.cpu_count(),
        "streamed": bool(getattr(loaded, "streamed", False)),
    }


def schemes_of(spec: Spec, quantizer: str, bits: Sequence[int], options: Mapping[str, Any] | None) -> list[Scheme]:
    """One complete scheme a width, as a study's keywords ask for them."""
    group, symmetric = spec.get("group_size", 64), bool(spec.get("symmetric", False))
    return [complete_scheme(Scheme(quantizer, width, group, symmetric, options or {})) for width in dict.fromkeys(bits)]
