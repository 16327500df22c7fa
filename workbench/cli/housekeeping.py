"""Commands about the workbench itself: app, methods, jobs, doctor."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli import arguments as words
from workbench.errors import WorkbenchError, unknown
from workbench.settings import PROJECT, cache_folder, demo_folder

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def enrol(app: typer.Typer) -> None:
    """Add the commands to the console script."""
    app.command("app")(start_app)
    for command in (methods, jobs, doctor):
        app.command()(command)


def start_app(
    port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 8501,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    models: Annotated[
        Path | None, typer.Option("--models", help="Folder whose sub-folders are offered as models.")
    ] = None,
) -> None:
    """Start the browser app; it listens on this machine alone unless told otherwise."""
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
    """What metrics, quantizers and attribution methods there are, with their options."""
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
    """The jobs of the browser app: list them, show one, cancel one."""
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


def doctor(as_json: words.AsJson = False) -> None:
    """What this machine has: versions, backend of the kernels, memory, Chromium, the cache folder and its size."""
    found = examine()
    if as_json:
        from workbench.results import dumps

        print(dumps(found))
        return
    for name, value in found.items():
        print(f"{name:12} {value}")


def examine() -> dict[str, Any]:
    """The facts that `doctor` prints."""
    import psutil
    import torch

    import lowbit

    backend = lowbit.choose_backend(torch.zeros(1, device="cuda" if torch.cuda.is_available() else "cpu"))
    folder = cache_folder()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.exists() else 0
    chromium = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
    return {
        "workbench": _version("salience-workbench"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": _version("triton"),
        "transformers": _version("transformers"),
        "streamlit": _version("streamlit"),
        "backend": {"lowbit": backend.name, "reason": backend.reason},
        **_computing(),
        "cores": os.cpu_count(),
        "memory": {"total_bytes": psutil.virtual_memory().total, "available_bytes": psutil.virtual_memory().available},
        "chromium": chromium,
        "demo": (demo_folder() / "model.safetensors").exists(),
        "cache": {"folder": str(folder), "bytes": size, "writable": _writable(folder)},
    }


def _computing() -> dict[str, Any]:
    """Devices and types of numbers: what there is, what is taken and why, and how fast the CPU multiplies."""
    from workbench.model.devices import choose_device, devices, name_of, product_speeds
    from workbench.model.numbers import amx_flags, choose_type

    device, numbers = choose_device(), choose_type(None)
    speeds = {name: f"{2 * speed / 1e9:.0f} GFLOP/s" for name, speed in product_speeds().items()}
    return {
        "devices": {one: name_of(one) for one in devices()},
        "device": {"chosen": device.name, "reason": device.reason},
        "amx": {"flags": list(amx_flags()), "products": speeds},
        "numbers": {"chosen": numbers.name, "reason": numbers.reason},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _writable(folder: Path) -> bool:
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return os.access(there, os.W_OK)
