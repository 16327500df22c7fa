"""The browser app with security headers and a worker that lives as long as the server: `streamlit run asgi.py`."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workbench.errors import WorkbenchError
from workbench.jobs.client import Client
from workbench.ui.navigation import TITLES, pages_go_through_app
from workbench.ui.session import client

log = logging.getLogger(__name__)

POLICY = {
    "default-src": "'self'",
    # Streamlit's front end and Plotly make functions from text
    "script-src": "'self' 'unsafe-inline' 'unsafe-eval' 'wasm-unsafe-eval' blob:",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "connect-src": "'self' ws://127.0.0.1:* ws://localhost:*",
    "worker-src": "'self' blob:",
    "frame-src": "'none'",
    "frame-ancestors": "'none'",
    "form-action": "'self'",
    "base-uri": "'self'",
    "object-src": "'none'",
}
"""What a page may load and do: nothing from another server, whatever text a prompt or a model holds."""

HEADERS = {
    "content-security-policy": "; ".join(f"{name} {value}" for name, value in POLICY.items()),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}


class SecurityHeaders:
    """Adds `HEADERS` to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its answer back with the headers."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await self.app(scope, receive, send_with_headers)


async def not_here(_: Request) -> Response:
    """Answer a page that looks for the server below its own address: not here, and no error either.

    Opened at `/jobs`, Streamlit's page first asks `/jobs/_stcore/health` and takes any answer but success for a hint
    to look one level up. Its own 404 makes the browser report two errors; status 300 does not.
    """
    return Response(status_code=300)


def start_worker() -> Client | None:
    """The pages' client with its worker; None where there can be none, which the pages then explain."""
    try:
        return client()
    except WorkbenchError as error:
        log.warning("%s", error)
        return None


@asynccontextmanager
async def lifespan(_: st.App) -> AsyncIterator[dict[str, Any]]:
    """Start the worker with the server, so that the first page need not wait for it, and end it with the server."""
    pages_go_through_app()
    shared = await run_in_threadpool(start_worker)
    try:
        yield {}
    finally:
        if shared is not None:
            await run_in_threadpool(shared.stop)


app = st.App(
    Path(__file__).with_name("app.py"),
    lifespan=lifespan,
    routes=[Route(f"/{page}/_stcore/{probe}", not_here) for page in TITLES for probe in ("health", "host-config")],
    middleware=[Middleware(SecurityHeaders)],
)
