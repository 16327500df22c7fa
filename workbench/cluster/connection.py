"""Ray itself: found or missed, started on this machine or connected to, within a time that is said."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

from workbench.cluster.wish import AUTO, LOCAL, Wish
from workbench.errors import WorkbenchError, shown
from workbench.progress import Progress, Steps

PATIENCE = 20
"""Seconds that a cluster has to answer."""

OBJECTS = 100 * 2**20
"""Bytes of the object store of a local cluster: parts and cells are small."""

QUIET: Mapping[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}


def import_ray() -> Any:
    """The package `ray`.

    Raises:
        WorkbenchError: it is not installed.
    """
    # nothing about a run is sent anywhere, and no message of Ray's mixes with the answer on stdout and stderr
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")  # no GPU asked for, none seen
    try:
        import ray
    except ImportError as error:
        raise WorkbenchError(
            'Ray is not installed, and --ray needs it: pip install "salience-workbench[cluster]" on every machine'
        ) from error
    return ray


class Connection:
    """A connection to Ray; what it has started itself, it also ends."""

    def __init__(self, ray: Any, ours: bool) -> None:
        self.ray = ray
        self._ours = ours

    def close(self) -> None:
        """Disconnect, and stop a local cluster that was started here; actors of this program end with it."""
        if self._ours:
            self._ours = False
            self.ray.shutdown()


def connect(wish: Wish, cores: int) -> Steps[Connection]:
    """Connect as wished, looking up from waiting a few times a second.

    Args:
        wish: checked.
        cores: CPU slots that a local cluster offers.

    Raises:
        WorkbenchError: Ray is not installed, nothing answers in time, or what answers is another version of Ray.
    """
    ray = import_ray()
    if ray.is_initialized():
        return Connection(ray, ours=False)
    yield Progress(0, 1, "starting Ray" if wish.address == LOCAL else f"connecting to Ray at {wish.address}")
    if wish.address == LOCAL:
        ray.init(
            address=LOCAL,
            num_cpus=cores,
            include_dashboard=False,
            object_store_memory=OBJECTS,
            **QUIET,
        )
        return Connection(ray, ours=True)
    _knock(wish)
    yield from _within_patience(lambda: ray.init(address=wish.address, **QUIET), wish)
    return Connection(ray, ours=True)


def _knock(wish: Wish) -> None:
    """Refuse an address where nothing listens; Ray itself would try again for a minute and end the process."""
    where = wish.host_and_port
    if where is None:
        return
    try:
        socket.create_connection(where, timeout=PATIENCE).close()
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise WorkbenchError(
            f"no Ray cluster answers at {shown(wish.address)} ({reason}; waited {PATIENCE} seconds at most)"
        ) from error


def _within_patience(begin: Callable[[], Any], wish: Wish) -> Steps[None]:
    """Run in a thread that is left behind when it does not come back: nothing else stops a connection of Ray's."""
    failed: list[BaseException] = []

    def attempt() -> None:
        try:
            begin()
        except BaseException as error:  # noqa: BLE001  # handed over to the caller's thread
            failed.append(error)

    thread = threading.Thread(target=attempt, name="ray-connect", daemon=True)
    thread.start()
    for tick in range(PATIENCE * 4):
        thread.join(0.25)
        if not thread.is_alive():
            break
        yield Progress(tick, PATIENCE * 4, f"connecting to Ray at {wish.address}")
    if thread.is_alive():
        raise WorkbenchError(
            f"{shown(wish.address)} does not answer as a Ray cluster within {PATIENCE} seconds; give the address that"
            " `ray start --head` printed"
        )
    if failed:
        raise _explained(failed[0], wish) from failed[0]


def _explained(error: BaseException, wish: Wish) -> WorkbenchError:
    if wish.address == AUTO:
        return WorkbenchError(
            f"this machine belongs to no Ray cluster (looked for {PATIENCE} seconds at most): start one with `ray start"
            " --head`, give its address with --ray, or choose --ray local"
        )
    first = " ".join(str(error).split())[:200]
    return WorkbenchError(f"the Ray cluster at {shown(wish.address)} refuses: {first}")
