"""How a command's study is run: a memory limit, and a wish for workers on Ray; nothing of it changes the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from workbench.cluster.wish import Wish
from workbench.errors import WorkbenchError
from workbench.sizes import parse_size

Limit = Annotated[
    str | None,
    typer.Option(
        "--memory-limit",
        metavar="SIZE",
        help="What weights and the work on them may take, such as 4GiB, beside 0.4 to 0.6 GiB of Python's own; a "
        "larger model is read block by block [what is free].",
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Spread over workers of Ray: local, auto, HOST:PORT or ray://HOST:PORT [this process alone].",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", metavar="N", help="Workers on Ray, each with the model [as many as there is room for]."),
]
Gpus = Annotated[
    float, typer.Option("--gpus-per-worker", metavar="F", help="GPUs of a worker; a fraction to share one.")
]


@dataclass(frozen=True)
class Sweep:
    """How a study is run.

    Attributes:
        memory_limit: bytes; None for the memory that is free.
        wish: workers on Ray; None for this process alone.
    """

    memory_limit: int | None = None
    wish: Wish | None = None


def read_sweep(
    *,
    memory_limit: str | None = None,
    ray: str | None = None,
    workers: int | None = None,
    gpus_per_worker: float = 0.0,
    threads: int | None = None,
) -> Sweep:
    """The options as a `Sweep`.

    Raises:
        WorkbenchError: no size, no address, a number that cannot be, or workers without `--ray`.
    """
    limit = None if memory_limit is None else parse_size(memory_limit, "--memory-limit")
    if ray is None:
        for flag, idle in (("--workers", workers is None), ("--gpus-per-worker", gpus_per_worker == 0)):
            if not idle:
                raise WorkbenchError(f"{flag} was given without --ray; add --ray local, --ray auto or an address")
        return Sweep(limit)
    return Sweep(limit, Wish(ray, workers, gpus_per_worker, threads).check())
