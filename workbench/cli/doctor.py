"""The command `doctor`: what this machine has, for people in aligned lines, for programs as JSON."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import typer

from workbench.cli import arguments as words
from workbench.settings import cache_folder, demo_folder

PACKAGES = ("torch", "triton", "transformers", "streamlit")


def enrol(app: typer.Typer) -> None:
    """Add the command to the console script."""
    app.command()(doctor)


def doctor(as_json: words.AsJson = False) -> None:
    """What this machine has.

    Versions, backend of the kernels, devices, memory, Chromium for the tests, the cache folder and its size.
    """
    found = examine()
    if as_json:
        from workbench.results import dumps

        print(dumps(found))
        return
    for name, value in lines(found):
        print(f"{name:14}{value}")


def lines(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The facts as people read them: a name and a few words each."""
    backend, device, numbers, amx = (found[name] for name in ("backend", "device", "numbers", "amx"))
    memory, cache = found["memory"], found["cache"]
    write = "can be written" if cache["writable"] else "cannot be written: set WORKBENCH_CACHE to another folder"
    told = {
        "python": found["python"],
        **{name: found[name] or "not installed" for name in PACKAGES},
        "kernels": backend["reason"],
        "devices": ", ".join(name if name == kind else f"{name} ({kind})" for name, kind in found["devices"].items()),
        "device": f"{device['chosen']}: {device['reason']}",
        "numbers": f"{numbers['chosen']}: {numbers['reason']}",
        "amx": ", ".join(amx["flags"]) or "none",
        "speed": ", ".join(f"{name} {speed}" for name, speed in amx["products"].items()) + " in matrix products",
        "cores": str(found["cores"]),
        "memory": f"{_gib(memory['total_bytes'])}, {_gib(memory['available_bytes'])} of it free",
        "chromium": found["chromium"] or "not found; only tests of the browser app need it",
        "demo model": "there" if found["demo"] else "missing: start from a checkout, or set WORKBENCH_DEMO",
        "cache": f"{cache['folder']}: {cache['bytes'] / 2**20:.1f} MiB, {write}",
    }
    return [("workbench", found["workbench"] or "not installed"), *told.items()]


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"


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
        **{name: _version(name) for name in PACKAGES[1:]},
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
