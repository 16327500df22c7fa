"""Commands about the workbench itself: app, methods, jobs."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli import arguments as words
from workbench.errors import WorkbenchError, unknown
from workbench.settings import PROJECT

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def enrol(app: typer.Typer) -> None:
    """Add the commands to the console script."""
    app.command("app")(start_app)
    for command in (methods, jobs):
        app.command()(command)


def start_app(
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen on.")] = 8501,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    models: Annotated[
        Path | None, typer.Option("--models", help="Folder whose sub-folders are offered as models.")
    ] = None,
) -> None:
    """Start the browser app.

    It listens on this machine alone unless told otherwise.
    """
    if models is not None:
        if not models.is_dir():
            raise WorkbenchError(f"--models has value {str(models)[:80]!r}, which is not a folder")
        os.environ["WORKBENCH_MODELS"] = str(models.resolve())
    entry = PROJECT / "asgi.py"
    if not entry.exists():
        raise WorkbenchError("the browser app is not installed here; start it from a checkout of the project")
    command = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        str(entry),
        f"--server.port={port}",
        f"--server.address={host}",
    ]
    if host not in LOOPBACK:
        print(
            f"workbench: listening on {host}: anybody who reaches this port can use the app; "
            "prefer an SSH tunnel or an authenticating proxy",
            file=sys.stderr,
        )
        command.append(f'--server.allowedHosts=["{host}","localhost","127.0.0.1"]')
    os.chdir(PROJECT)
    os.execv(sys.executable, command)


def methods(
    kind: Annotated[str | None, typer.Argument(help="salience, quantizers or attribution; all when left out.")] = None,
    as_json: words.AsJson = False,
) -> None:
    """List all methods, with their options.

    Salience metrics, quantizers and attribution methods.
    """
    from workbench.registry import KINDS, describe_all

    if kind is not None and kind not in KINDS:
        raise unknown("kind of method", kind, tuple(KINDS))
    described = {name: found for name, found in describe_all().items() if kind in (None, name)}
    if as_json:
        from workbench.results import dumps

        print(dumps(described))
        return
    for name, found in described.items():
        print(f"{name}:")
        for method in found:
            print(f"  {method['name']:24} {method['summary']}  [{method['reference']}]")
            for option in method["options"]:
                choices = f" ({', '.join(option['choices'])})" if option["choices"] else ""
                print(f"      --option {option['name']}={option['default']}{choices}")


def jobs(
    action: Annotated[str, typer.Argument(help="list, show or cancel.")] = "list",
    job: Annotated[str | None, typer.Argument(help="The job's id, for show and cancel.")] = None,
    as_json: words.AsJson = False,
) -> None:
    """List, show or cancel jobs of the browser app.

    What commands computed is listed too.
    """
    from workbench.jobs.client import Client
    from workbench.results import dumps

    if action not in ("list", "show", "cancel"):
        raise unknown("action", action, ("list", "show", "cancel"))
    client = Client()
    if action == "list":
        found = [asdict(held) for held in client.recent(100)]
        print(dumps({"jobs": found}) if as_json else "\n".join(_job_line(held) for held in found) or "no jobs")
        return
    if job is None:
        raise WorkbenchError(f"`workbench jobs {action}` needs the id of a job; `workbench jobs list` shows them")
    held = asdict(client.cancel(job) if action == "cancel" else client.job(job))
    held["estimate"] = _estimate(client, held)
    print(dumps(held) if as_json else "\n".join(filter(None, (_job_line(held), held["estimate"]))))


def _estimate(client: Any, job: dict[str, Any]) -> str | None:
    """What was expected of the last run of this question and what it took, in words; None before it ended."""
    from workbench.estimates.record import read_record, record_key

    key = record_key(job["kind"], job["spec"])
    found = read_record(client.store.get_cells([key]).get(key))
    return None if found is None else found.words


def _job_line(job: dict[str, Any]) -> str:
    share = 100 * job["done"] / (job["total"] or 1)
    return (
        f"{job['id']}  {job['state']:12} {share:4.0f} %  {job['kind']:14} {job.get('error') or job.get('note') or ''}"
    )
