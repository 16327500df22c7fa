"""The one client of the job store that all browser sessions of this process share, and what a session remembers.

Streamlit's session state holds identifiers, choices and small dicts only; results are read from disk when they are
drawn.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.jobs.client import Client
from workbench.ui.memory import limited

ANEW = 1.0
"""Seconds after which the methods are read again."""


class NotReady(WorkbenchError):
    """The worker has not yet published what a page needs; the app's frame waits and runs the page again."""


@st.cache_resource(show_spinner=False)
def client() -> Client:
    """The client, made once a process; making it starts the worker if there is none."""
    made = Client()
    made.ensure_worker()
    return made


def descriptions(kind: str) -> dict[str, dict[str, Any]]:
    """What the methods of a kind say of themselves, by name: `salience`, `quantizers` or `attribution`.

    Raises:
        NotReady: the worker is still starting and has never published its methods on this computer.
    """
    listed = _methods().get(kind, [])
    if not listed:
        _methods.clear()
        raise NotReady("The worker is starting and has not listed its methods yet.")
    return {method["name"]: method for method in listed}


@st.cache_resource(show_spinner=False, ttl=ANEW)
def _methods() -> dict[str, list[dict[str, Any]]]:
    """What the worker has published, read once for all the controls of a run."""
    return client().methods()


def ask(kind: str, spec: dict[str, Any], priority: int, slot: str) -> None:
    """Submit a study from a button's callback; a refusal (too many jobs, a full disk) is kept for `refusal`."""
    remember(f"refused-{slot}", None)
    try:
        client().submit(kind, limited(spec), priority)
    except WorkbenchError as error:
        remember(f"refused-{slot}", str(error))


def refusal(slot: str) -> str | None:
    """Why the study of that slot could not be asked for, if it could not."""
    return recall(f"refused-{slot}")


def cancel(identifier: str) -> None:
    """Cancel a job from a button's callback."""
    client().cancel(identifier)


def remember(slot: str, value: Any) -> None:
    """Keep a small JSON value for this browser session under a name that no widget uses."""
    st.session_state[f"_{slot}"] = value


def recall(slot: str, default: Any = None) -> Any:
    """What `remember` kept."""
    return st.session_state.get(f"_{slot}", default)
