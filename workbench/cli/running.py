"""Runs a study for a command: threads, seed, progress on stderr, the result on stdout and into a file."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.cli.keeping import keeping
from workbench.cli.sweeping import ALONE, Sweep
from workbench.errors import WorkbenchError
from workbench.progress import Progress, Steps, run
from workbench.settings import cache_folder

if TYPE_CHECKING:
    from workbench.results import Result
    from workbench.studies.context import Context

ENDINGS = (".csv", ".parquet", ".json")


class Run:
    """One command's run: settings that all computing commands share.

    Args:
        seed: seed of torch's generator.
        threads: CPU threads, `WORKBENCH_THREADS` or all cores but one when None.
        quiet: no progress.
        sweep: memory limit, and workers on Ray.
    """

    def __init__(self, seed: int = 0, threads: int | None = None, quiet: bool = False, sweep: Sweep = ALONE) -> None:
        self.seed = seed
        self.threads = threads
        self.quiet = quiet
        self.sweep = sweep

    def context(self) -> Context:
        """A context whose cells and statistics lie in the cache folder."""
        from workbench.jobs.store import Store
        from workbench.studies.context import Context

        folder = cache_folder()
        store = Store(folder / "workbench.sqlite")
        return Context(store, folder / "statistics", self.sweep.memory_limit)

    def study(self, kind: str, spec: Mapping[str, Any]) -> Result:
        """Run a study of `workbench.studies` to its end; its result is kept where the app finds it."""
        self.prepare()
        from workbench import studies

        context, limit, wish = self.context(), self.sweep.memory_limit, self.sweep.wish
        asked = spec if limit is None else {**spec, "memory_limit": limit}
        if wish is None:
            steps = studies.start(kind, asked, context)
        else:
            from workbench.cluster.run import start

            steps = start(kind, asked, context, wish, seed=self.seed)
        with keeping(kind, spec, context.cells, self.seed) as keep:
            return keep(self.steps(steps))

    def prepare(self) -> None:
        """Threads and seed, before anything computes."""
        import torch

        from workbench.jobs.limits import thread_count

        torch.set_num_threads(self.threads or thread_count())
        torch.manual_seed(self.seed)

    def provenance(self) -> dict[str, Any]:
        """Which program computes, on what: what a plan records of its making."""
        import torch
        import transformers

        from workbench import __version__
        from workbench.model.devices import placed

        return {
            "tool": f"workbench {__version__}",
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "device": placed()["device"],
            "threads": torch.get_num_threads(),
            "seed": self.seed,
        }

    def steps(self, steps: Steps[Any]) -> Any:
        """Run with a progress bar on stderr."""
        if self.quiet:
            return run(steps)
        from tqdm import tqdm

        form = "{percentage:3.0f}% |{bar:30}| {elapsed} {desc}"
        with tqdm(
            total=100.0, file=sys.stderr, bar_format=form, leave=False, dynamic_ncols=True, mininterval=0.2
        ) as bar:

            def show(progress: Progress) -> None:
                bar.set_description_str(progress.note, refresh=False)
                bar.update(100.0 * progress.done / (progress.total or 1) - bar.n)

            return run(steps, show)


def check_out(path: Path | None) -> None:
    """Refuse an output file that cannot be written, before anything is computed.

    Raises:
        WorkbenchError: another ending, or a folder that is not there or not writable.
    """
    if path is None:
        return
    if path.suffix not in ENDINGS:
        raise WorkbenchError(f"--out has value {str(path)[:80]!r}; its ending must be one of: {', '.join(ENDINGS)}")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise WorkbenchError(f"--out has value {str(path)[:80]!r}; its folder is not there or cannot be written to")


def deliver(result: Result, table: str, *, as_json: bool, out: Path | None) -> None:
    """Print a result and write it; `table` is what csv, parquet and people get."""
    if out is not None:
        write(result, table, out)
    if as_json:
        from workbench.results import dumps

        print(dumps(result.document))
    elif out is None:
        print_for_people(result, table)
    else:
        print(f"written to {out}", file=sys.stderr)


def write(result: Result, table: str, path: Path) -> None:
    """Write a result as the ending of the file says."""
    from workbench.results import dumps

    frame = result.tables[table]
    # the facts of the run travel inside a parquet file: model digest, text, window
    frame.attrs = {"document": dumps({k: v for k, v in result.document.items() if k not in ("cells", "matrices")})}
    writers: dict[str, Callable[[Path], Any]] = {
        ".json": lambda to: to.write_text(dumps(result.document) + "\n", encoding="utf-8"),
        ".csv": lambda to: frame.to_csv(to, index=False),
        ".parquet": lambda to: frame.to_parquet(to, index=False),
    }
    put_file("the result", path, writers[path.suffix])


def put_file(what: str, path: Path, write_to: Callable[[Path], Any]) -> None:
    """Write to a temporary name first, then rename, so that a full disk leaves no half file.

    Raises:
        WorkbenchError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial{path.suffix}")
    try:
        write_to(partial)
        partial.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)[:120]
        where = str(path) if len(str(path)) <= 80 else f"...{str(path)[-77:]}"
        raise WorkbenchError(f"{what} could not be written to {where!r}: {reason}") from error
    finally:
        with suppress(OSError):  # gone already; or a read-only folder, which refuses this too and holds no remains
            partial.unlink()


def print_for_people(result: Result, table: str) -> None:
    """The table, then the single numbers of the document."""
    print(result.tables[table].to_string(index=False, float_format=lambda value: f"{value:.5g}"))
    print()
    for key, value in result.document.items():
        if isinstance(value, float):
            print(f"{key}: {value:.6g}")
        elif isinstance(value, (int, str)):
            print(f"{key}: {value}")
