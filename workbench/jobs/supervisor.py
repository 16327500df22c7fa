"""Starts the worker process of a cache folder and notices when it has gone.

A cache folder has one worker, whichever app started it: a second app on the same folder uses the first one's, and
starts its own when that one ends. A worker ends with the app that started it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import BinaryIO

from workbench import settings
from workbench.jobs.locks import held, worker_lock
from workbench.jobs.store import Store
from workbench.jobs.trouble import unwritable

LOG_LIMIT = 1_000_000
"""Bytes after which a worker starts a new log; the one before is kept as `worker.log.1`."""

STOP_WAIT = 2.0


class Supervisor:
    """The worker of one cache folder, as seen from one app.

    Args:
        store: the job store; its folder is the cache folder.
        program: module with the studies to run, for tests; the workbench's own when None.
    """

    def __init__(self, store: Store, program: str | None = None) -> None:
        self.store = store
        self.folder = store.path.parent
        self.program = program
        self.wanted = False
        """Whether this app has asked for a worker; `workbench jobs list` never does."""
        self._process: subprocess.Popen[bytes] | None = None
        self._mutex = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Process id of the worker that this app started, while it lives."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def ensure(self) -> None:
        """Start a worker unless the cache folder has one.

        Raises:
            WorkbenchError: the cache folder cannot be written.
        """
        with self._mutex:
            self.wanted = True
            if self.pid is not None or self._died_at_start() or not self._settle():
                return
            self._process = self._start()

    def tend(self) -> None:
        """Set right what a worker that has gone left behind; start another where this app has asked for one."""
        if self.wanted:
            self.ensure()
        else:
            self._settle()

    def stop(self) -> None:
        """End the worker that this app started; its job becomes interrupted."""
        with self._mutex:
            self.wanted = False
            process, self._process = self._process, None
            if process is None:
                return
            process.terminate()
            try:
                process.wait(STOP_WAIT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self._settle()

    def _settle(self) -> bool:
        """Whether the cache folder has no worker; jobs that still count as running are interrupted then."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with held(worker_lock(self.folder)) as free:
                if free:
                    self.store.recover()
                return free
        except OSError as error:
            raise unwritable(self.folder, error.strerror or error) from error

    def _died_at_start(self) -> bool:
        """Whether our worker ended before it could work; what waits is failed with the reason, then.

        Another start would end the same way; it is tried when the next job is submitted.
        """
        process, self._process = self._process, None
        if process is None or process.returncode == 0:
            return False
        told = self.store.read("worker") or {}
        mine = told.get("pid") == process.pid
        if mine and told.get("ready"):
            return False
        trouble = (told.get("trouble") if mine else None) or f"it ended with status {process.returncode}"
        self.store.fail_queued(f"the worker process could not start: {trouble}")
        return True

    def _start(self) -> subprocess.Popen[bytes]:
        """Start the process in a session of its own, so that Ctrl-C in the app's terminal does not reach it.

        Not `multiprocessing`: Streamlit makes the app's script the main module, and a spawned child would run it again.
        """
        command = [sys.executable, "-m", "workbench.jobs.worker", str(self.store.path), str(os.getpid())]
        command += [self.program] if self.program is not None else []
        paths = [str(settings.PROJECT), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        try:
            with _open_log(self.folder / "worker.log") as log:
                return subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    start_new_session=True,
                )
        except OSError as error:
            raise unwritable(self.folder, error.strerror or error) from error


def _open_log(path: Path) -> BinaryIO:
    """The log for appending, begun anew when it has grown too long."""
    if path.exists() and path.stat().st_size > LOG_LIMIT:
        os.replace(path, path.with_name(path.name + ".1"))
    return path.open("ab")
