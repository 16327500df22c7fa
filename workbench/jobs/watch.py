"""A thread beside the worker's work that ends the process when it has to end: parent gone, or a cancel ignored."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading

from workbench.errors import WorkbenchError
from workbench.jobs.store import Store

INTERVAL = 0.5
GRACE = 3.0
"""Seconds that a study has to answer a cancel before the process is ended under it."""

HARD_STOP = 3
"""Exit status of a worker that ended itself because a study did not answer."""

log = logging.getLogger(__name__)


class Watch(threading.Thread):
    """Looks twice a second whether the parent lives and whether the current job ignores its cancel.

    The kernel's own signal at a parent's death (`PR_SET_PDEATHSIG`) is not used: it is sent when the *thread* that
    started the process ends, and Streamlit runs every script in a thread of its own.
    """

    def __init__(self, store: Store, parent: int) -> None:
        super().__init__(name="watch", daemon=True)
        self.store = store
        self.parent = parent
        self.current: str | None = None
        """Id of the job that runs, set by the worker."""

    def run(self) -> None:
        """Watch until the process ends."""
        pause = threading.Event()
        while not pause.wait(INTERVAL):
            if os.getppid() != self.parent:
                log.info("the program that started this worker has ended")
                os._exit(0)
            if self._ignored():
                # Where it hangs is worth knowing; the loaded model goes with the process.
                faulthandler.dump_traceback(sys.stderr)
                os._exit(HARD_STOP)

    def _ignored(self) -> bool:
        """Whether the current job was asked to stop, did not, and is now marked as cancelled."""
        job = self.current
        try:
            return job is not None and self.store.cancel_ignored(job, GRACE) and self.store.finish(job, "cancelled")
        except WorkbenchError as error:  # a store that is busy or full: looked at again in half a second
            log.warning("%s", error)
            return False
