"""Compute what the pages open with on the embedded model, and put it into `data/demo/results/`, with the descriptions of the methods.

Run by a maintainer after `tools/make_demo.py`, and whenever `STUDY_VERSION` changes. The results are found by the same
key as any other: a hash of the question, the model's files and the version of the studies, so that none of them can be
shown for anything else. A slow test computes them anew and compares.

    python tools/make_results.py
"""

from __future__ import annotations

import shutil

import workbench
from workbench import results, studies
from workbench.jobs.keys import study_key
from workbench.jobs.shelf import METHODS
from workbench.registry import describe_all
from workbench.settings import demo_folder
from workbench.studies.context import Context
from workbench.ui.defaults import every_opening


def main() -> None:
    folder = demo_folder() / "results"
    shutil.rmtree(folder, ignore_errors=True)
    context = Context()
    folder.mkdir(parents=True)
    (folder / METHODS).write_text(results.dumps(describe_all()), encoding="utf-8")
    for kind, spec in every_opening():
        result = workbench.run(studies.start(kind, spec, context))
        results.save(result, folder / study_key(kind, spec))
        size = sum(path.stat().st_size for path in (folder / study_key(kind, spec)).iterdir())
        print(f"{kind:15} {size / 1024:8.1f} kB")


if __name__ == "__main__":
    main()
