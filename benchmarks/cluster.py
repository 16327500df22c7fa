"""Sweeps over Ray on this machine: cells per second with two workers against one, and the app while a sweep runs."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.app import PAGES, load, rerun_of, server
from benchmarks.measurement import Measurement

SPEC = {"model": "demo", "bits": [2, 3, 4, 8], "tokens": 4096}
LONG = [
    {"model": "demo", "bits": [2, 3, 4, 8], "tokens": 65536, "measure": "kl", "window": window}
    for window in (256, 224, 192, 160, 128, 96)
]
"""About a minute each: more than the pages take."""
STARTING = 600.0
"""Seconds that workers have to start on a busy machine."""


def measure() -> Iterator[Measurement]:
    """One worker of one thread, two of them, and the server of the app beside two."""
    if importlib.util.find_spec("ray") is None:
        print("no Ray: the cluster is not measured")
        return
    one, two = speed(1), speed(2)
    yield Measurement("a cell with one worker, warm", 1000 / one, "ms", None, load(f"{one:.2f} cells a second"))
    yield Measurement("a cell with two workers, warm", 1000 / two, "ms", None, load(f"{two:.2f} cells a second"))
    note = load(f"{two / one:.2f} times as fast")
    yield Measurement("time of two workers over that of one", one / two, "", 1 / 1.6, note)
    yield from app_beside_a_sweep()


def speed(workers: int) -> float:
    """Cells per second from when every worker has made its first part to the last cell."""
    import torch

    from workbench.cluster.run import start
    from workbench.cluster.wish import Wish
    from workbench.progress import run
    from workbench.studies.context import CellsInMemory, Context

    torch.set_num_threads(1)
    arrived: list[float] = []
    warm: list[float] = []
    crews: list[Any] = []

    class Timed(CellsInMemory):
        def put_cell(self, key: str, value: Any) -> None:
            arrived.append(time.perf_counter())
            super().put_cell(key, value)

    def look(_: object) -> None:
        rows = crews[0].rows() if crews else []
        if not warm and len(rows) == workers and all(row["parts"] for row in rows):
            warm.append(time.perf_counter())

    run(start("sensitivity", SPEC, Context(Timed()), Wish("local", workers, threads=1), watch=crews.append), look)
    after = [moment for moment in arrived if moment > warm[0]]
    return len(after) / (after[-1] - warm[0])


def app_beside_a_sweep() -> Iterator[Measurement]:
    """Memory of the server and the time of reruns while two workers sweep."""
    from workbench.jobs.client import Client

    with tempfile.TemporaryDirectory() as folder, wished(WORKBENCH_RAY="local", WORKBENCH_WORKERS="2"):
        client = Client(Path(folder))
        try:
            with server(Path(folder)) as (port, process):
                sweeps = [client.submit("sensitivity", spec).id for spec in LONG]
                for name in PAGES:
                    wait_until_working(client, sweeps)
                    yield rerun_of(name, port, process, " under a sweep")
                memory = process.memory_info().rss / 2**20
                going = wait_until_working(client, sweeps)
                note = f"in sweep {sweeps.index(going) + 1} of {len(sweeps)}"
                yield Measurement("memory of the UI process under a sweep", memory, "MB", 300.0, note)
                for one in reversed(sweeps):
                    client.cancel(one)
                asked = time.perf_counter()
                while client.job(going).active:
                    time.sleep(0.05)
                yield Measurement(
                    "cancel of the sweep until it has ended", time.perf_counter() - asked, "s", 10.0, load("")
                )
        finally:
            client.stop()


def wait_until_working(client: Any, sweeps: Sequence[str]) -> str:
    """Return when workers have made something for a sweep that is not at its end: its job."""
    deadline = time.perf_counter() + STARTING
    while time.perf_counter() < deadline:
        held = [client.job(one) for one in sweeps]
        failed = next((one for one in held if one.state not in ("queued", "running", "done")), None)
        if failed is not None or not any(one.active for one in held):
            raise RuntimeError(f"no sweep runs any more: {failed.error if failed else 'all are done'}")
        for one in held:
            if one.state == "running" and [row for row in client.workers(one.id) if row["parts"]]:
                return one.id
        time.sleep(0.2)
    raise RuntimeError(f"no worker has made anything in {STARTING:.0f} seconds")


@contextlib.contextmanager
def wished(**values: str) -> Iterator[None]:
    """Variables of the environment for the body, which the worker process inherits."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        left = psutil.Process().children(recursive=True)
        psutil.wait_procs(left, timeout=10)
