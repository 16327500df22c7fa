"""What a run costs on models of 7B to 70B: the tables of docs/scale.md, and how far the model behind them holds.

python -m benchmarks.scale_model                 # print the tables
python -m benchmarks.scale_model --measure       # first measure cells and a two-worker run here (needs Ray)
python -m benchmarks.scale_model --write         # put the tables into docs/scale.md
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measurement import Measurement
from benchmarks.scale_tables import predicted_parts, replayed, tables

MEASURED = Path(__file__).with_name("scale_measured.json")
DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "scale.md"


def filled(text: str, made: dict[str, str]) -> str:
    """The document with every table between its marks."""
    for name, table in made.items():
        start, stop = f"<!-- {name}: start (benchmarks/scale_model.py) -->", f"<!-- {name}: end -->"
        pattern = re.compile(f"{re.escape(start)}.*?{re.escape(stop)}", re.DOTALL)
        if not pattern.search(text):
            raise SystemExit(f"docs/scale.md has no place for the table {name!r}")
        text = pattern.sub(lambda _, body=f"{start}\n{table}\n{stop}": body, text)
    return text


def read_measured() -> dict[str, Any]:
    """What was measured last, of single cells and of a two-worker run."""
    return json.loads(MEASURED.read_text(encoding="utf-8"))


def measure() -> Iterator[Measurement]:
    """For `python -m benchmarks`: how far predicted and measured cells, and simulated and real run, are apart."""
    held = read_measured()
    for one in held["cells"]:
        ratio = sum(predicted_parts(one)) / sum(one["parts"])
        yield Measurement(
            f"scale model, cells of {one['model']}", max(ratio, 1 / ratio), "x", 1.5, "predicted, measured"
        )
    if held["two_workers"]:
        ratio = replayed(held["two_workers"]) / held["two_workers"]["makespan"]
        yield Measurement("scale model, two-worker run", max(ratio, 1 / ratio), "x", 1.25, "simulated, measured")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", action="store_true", help="measure cells and a two-worker run on this machine")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/scale.md")
    given = parser.parse_args()
    if given.measure:
        from benchmarks.scale_measuring import measure_here

        MEASURED.write_text(json.dumps(measure_here(), indent=1) + "\n", encoding="utf-8")
    made = tables(read_measured())
    for name, table in made.items():
        print(f"{name}\n{table}\n")
    if given.write:
        DOCUMENT.write_text(filled(DOCUMENT.read_text(encoding="utf-8"), made), encoding="utf-8")


if __name__ == "__main__":
    main()
