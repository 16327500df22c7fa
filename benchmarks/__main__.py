"""Run every benchmark and print one table: what was measured, its limit, and whether that holds.

python -m benchmarks                 # everything
python -m benchmarks command studies # only those
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import json
import os
import platform
from collections.abc import Iterable
from pathlib import Path

from benchmarks.measurement import Measurement

PARTS = (
    "command",
    "kernels_cpu",
    "studies",
    "gradients",
    "sensitivity",
    "quantizers",
    "attribution",
    "estimates",
    "app",
    "cluster",
    "streaming",
    "streaming_limits",
    "scale_model",
)
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"which of: {', '.join(PARTS)}")
    chosen = parser.parse_args().parts or PARTS
    unknown = [part for part in chosen if part not in PARTS]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; choose among: {', '.join(PARTS)}")
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    found: list[Measurement] = []
    for part in chosen:
        for measurement in importlib.import_module(f"benchmarks.{part}").measure():
            print(measurement, flush=True)
            found.append(measurement)
    write(found)


def write(found: Iterable[Measurement]) -> None:
    """The figures as JSON, with the machine and its load, one file a run."""
    RESULTS.mkdir(exist_ok=True)
    now = dt.datetime.now(dt.UTC)
    document = {
        "when": now.isoformat(timespec="seconds"),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "measurements": [measurement.to_json() for measurement in found],
    }
    path = RESULTS / f"{now:%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(document, indent=1) + "\n")
    print(f"written to benchmarks/results/{path.name}")


if __name__ == "__main__":
    main()
