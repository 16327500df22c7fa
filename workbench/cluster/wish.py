"""What is asked of a cluster: where it is, how many workers, what each of them gets. No Ray and no torch here."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from workbench.errors import WorkbenchError, shown

AUTO, LOCAL = "auto", "local"
ADDRESS = re.compile(r"(?:ray://)?([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]):(\d{1,5})")
MOST_WORKERS = 4096


@dataclass(frozen=True)
class Wish:
    """One run's wish.

    Attributes:
        address: `local` starts Ray on this machine for the run, `auto` takes the cluster that this machine belongs to,
            else `host:port` or `ray://host:port`.
        workers: how many; None for as many as there is room for.
        gpus: GPUs of a worker; a fraction lets several share one.
        threads: CPU threads of a worker; one when None.
    """

    address: str
    workers: int | None = None
    gpus: float = 0.0
    threads: int | None = None

    def check(self) -> Wish:
        """Itself.

        Raises:
            WorkbenchError: an address, a number of workers or a share of a GPU that cannot be.
        """
        read = ADDRESS.fullmatch(self.address)
        if self.address not in (AUTO, LOCAL) and (read is None or not 0 < int(read[2]) < 65536):
            raise WorkbenchError(
                f"--ray has value {shown(self.address)}; choose {LOCAL}, {AUTO}, or an address such as "
                "10.0.0.5:6379 or ray://10.0.0.5:10001"
            )
        if self.workers is not None and not 1 <= self.workers <= MOST_WORKERS:
            raise WorkbenchError(f"--workers has value {self.workers}; choose 1 to {MOST_WORKERS}")
        whole = self.gpus == int(self.gpus)
        if self.gpus < 0 or (self.gpus > 1 and not whole):
            raise WorkbenchError(
                f"--gpus-per-worker has value {self.gpus:g}; choose 0 for none, a fraction of one, or a whole number"
            )
        return self

    @property
    def host_and_port(self) -> tuple[str, int] | None:
        """Where the cluster should listen; None for `local` and `auto`."""
        read = ADDRESS.fullmatch(self.address)
        return None if read is None else (read[1].strip("[]"), int(read[2]))


def from_environment() -> Wish | None:
    """The wish of the app: `WORKBENCH_RAY`, with `WORKBENCH_WORKERS` and `WORKBENCH_GPUS_PER_WORKER`; None for none.

    Raises:
        WorkbenchError: one of them has a value that cannot be.
    """
    address = os.environ.get("WORKBENCH_RAY", "").strip()
    if not address:
        return None
    workers = _number("WORKBENCH_WORKERS", r"[1-9]\d{0,3}", "a whole number of at least 1")
    gpus = _number("WORKBENCH_GPUS_PER_WORKER", r"\d{1,3}(?:\.\d{1,4})?", "a number such as 1 or 0.5")
    return Wish(address, None if workers is None else int(workers), gpus or 0.0).check()


def _number(name: str, form: str, choices: str) -> float | None:
    given = os.environ.get(name, "").strip()
    if given and not re.fullmatch(form, given):
        raise WorkbenchError(f"{name} has value {shown(given)}; write {choices}")
    return float(given) if given else None
