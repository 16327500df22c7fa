"""Runs a study for a command: threads, seed, progress on stderr, the result on stdout and into a file."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workbench.cli import arguments as words
from workbench.cli.interrupting import heeding_interrupts
from workbench.cli.keeping import keeping
from workbench.cli.output import check_out, deliver
from workbench.cli.sweeping import Gpus, Limit, Ray, Sweep, Workers, read_sweep
from workbench.progress import Progress, Steps, run
from workbench.settings import cache_folder

if TYPE_CHECKING:
    from workbench.results import Result
    from workbench.studies.context import Context


@dataclass
class Run:
    """One command's run: the options that all computing commands share.

    Attributes:
        as_json: whether stdout gets one JSON document.
        seed: seed of torch's generator.
        threads: CPU threads, `WORKBENCH_THREADS` or all cores but one when None.
        quiet: no progress.
        memory_limit: a size as it was written.
        estimate: whether to say what the run would need in place of running.
        sweep: memory limit, and workers on Ray, as read.
        interrupted: whether a search was ended, so that a longer one might have found better.
    """

    as_json: words.AsJson = False
    seed: words.Seed = 0
    threads: words.Threads = None
    quiet: words.Quiet = False
    memory_limit: Limit = None
    estimate: words.Estimate = False
    sweep: Sweep = field(init=False)
    interrupted: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.sweep = self.read_sweep()

    def read_sweep(self) -> Sweep:
        """How the study is run."""
        return read_sweep(memory_limit=self.memory_limit)

    def context(self) -> Context:
        """A context whose cells and statistics lie in the cache folder."""
        from workbench.jobs.store import Store
        from workbench.studies.context import Context

        folder = cache_folder()
        store = Store(folder / "workbench.sqlite")
        return Context(store, folder / "statistics", self.sweep.memory_limit)

    def study(self, kind: str, spec: Mapping[str, Any]) -> Result:
        """Run a study of `workbench.studies` to its end; its result is kept where the app finds it."""
        self.prepare([(kind, spec)])
        from workbench import studies

        context, limit, wish = self.context(), self.sweep.memory_limit, self.sweep.wish
        asked = spec if limit is None else {**spec, "memory_limit": limit}
        if wish is None:
            steps = studies.start(kind, asked, context)
        else:
            from workbench.cluster.run import start

            steps = start(kind, asked, context, wish, seed=self.seed)
        with keeping(kind, spec, context.cells, self.seed) as keep, heeding_interrupts(context.hurry):
            result = self.steps(steps)
            self.interrupted = context.hurry.asked
            return result if self.interrupted else keep(result)

    def prepare(self, questions: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Threads and seed, before anything computes; where an estimate is asked for, it is told and the command ends.

        Args:
            questions: kind and spec of what is about to be computed.
        """
        import torch

        from workbench.jobs.limits import thread_count

        torch.set_num_threads(self.threads or thread_count())
        torch.manual_seed(self.seed)
        if self.estimate:
            from workbench.cli.foretelling import foretell

            foretell(self, questions)

    def leave(self) -> None:
        """End the command as an interrupted one if it was, once its result is delivered.

        Raises:
            KeyboardInterrupt: it was.
        """
        if self.interrupted:
            raise KeyboardInterrupt

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
        """Run with a progress bar on stderr, if that is a terminal."""
        if self.quiet:
            return run(steps)
        from tqdm import tqdm

        form = "{percentage:3.0f}% |{bar:30}| {elapsed} {desc}"
        with tqdm(
            total=100.0,
            file=sys.stderr,
            bar_format=form,
            leave=False,
            dynamic_ncols=True,
            mininterval=0.2,
            miniters=0,  # else steps of no width after a wide one would not be shown
            disable=None,
        ) as bar:

            def show(progress: Progress) -> None:
                bar.set_description_str(progress.note, refresh=False)
                bar.update(100.0 * progress.done / (progress.total or 1) - bar.n)

            return run(steps, show)


@dataclass
class TableRun(Run):
    """A run whose result is a table, which can also be written to a file."""

    out: words.Out = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_out(self.out)

    def answer(self, kind: str, spec: Mapping[str, Any], table: str) -> None:
        """Run a study and deliver it; `table` is what csv, parquet and people get."""
        self.deliver(self.study(kind, spec), table)
        self.leave()

    def deliver(self, result: Result, table: str) -> None:
        """Print a result, and write it where that was asked for."""
        deliver(result, table, as_json=self.as_json, out=self.out)


@dataclass
class SweepRun(TableRun):
    """The same, on workers of Ray where that is wished for."""

    ray: Ray = None
    workers: Workers = None
    gpus_per_worker: Gpus = 0.0

    def read_sweep(self) -> Sweep:
        """How the study is run."""
        own = {"ray": self.ray, "workers": self.workers, "gpus_per_worker": self.gpus_per_worker}
        return read_sweep(memory_limit=self.memory_limit, threads=self.threads, **own)
