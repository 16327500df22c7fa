"""Quantizers beside the published loops, and whole runs over the embedded model as a user starts them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import workbench
from benchmarks import quantizers_awq, quantizers_billm, quantizers_gptq
from benchmarks.measurement import Measurement
from workbench.model.matrices import quantizable_matrices
from workbench.quantizers.driver import quantize_model
from workbench.quantizers.driving.schemes import complete_scheme
from workbench.scheme import Scheme
from workbench.studies.context import Context
from workbench.studies.texts import calibration_windows

WHOLE = {"gptq": (3, 20.0), "awq": (3, 40.0), "billm": (None, 60.0)}
"""Quantizer -> width, and seconds that a run over the embedded model may take."""


def measure() -> Iterator[Measurement]:
    """One measurement after the other."""
    for part in (quantizers_gptq, quantizers_awq, quantizers_billm):
        yield from part.measure()
    yield from whole_model()


def whole_model() -> Iterator[Measurement]:
    """The driver's walk over the embedded model, statistics included; wall clock, nothing read from disk."""
    model = Context().model("demo")
    windows = calibration_windows(model, None, None, None)
    for name, (bits, limit) in WHOLE.items():
        scheme = complete_scheme(Scheme(name, bits))
        started = time.perf_counter()
        workbench.run(quantize_model(model, {m.name: scheme for m in quantizable_matrices(model.model)}, windows))
        seconds = time.perf_counter() - started
        yield Measurement(f"{name} of the whole embedded model", seconds, "s", limit, f"{windows.tokens} tokens")
