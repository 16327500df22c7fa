"""A machine of its own, and bundles as somebody might forge them."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workbench.bundle.create import create
from workbench.bundle.opening import open_bundle
from workbench.bundle.taking import Opened
from workbench.jobs.client import Client
from workbench.jobs.store import canonical


class Machine:
    """A cache folder with all that looks at it."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.client = Client(cache)
        self.store, self.shelf = self.client.store, self.client.shelf

    def pack(self, target: Path, **wishes: Any) -> Path:
        """The bundle of the job that was finished last."""
        create(target, self.client.recent(1), store=self.store, shelf=self.shelf, **wishes)
        return target

    def open(self, path: Path, **wishes: Any) -> Opened:
        return open_bundle(path, store=self.store, shelf=self.shelf, **wishes)

    def cells(self) -> dict[str, Any]:
        return {row["key"]: json.loads(row["value"]) for row in self.store.rows("select key, value from cell")}

    def state(self) -> Any:
        """Everything that opening a bundle may change."""
        files = {
            str(path.relative_to(self.cache)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.cache.rglob("*"))
            if path.is_file() and not path.name.startswith("workbench.sqlite")
        }
        if not self.store.path.exists():
            return files, {}, [], {}  # nobody has asked the store yet, which takes longer than all the rest
        return files, self.cells(), [job.id for job in self.client.recent()], self.client.carried()


class Forgery:
    """A bundle that is read, changed and written again; digests and sizes are made to fit unless a test says not."""

    def __init__(self, path: Path, folder: Path) -> None:
        with zipfile.ZipFile(path) as opened:
            self.files = {name: opened.read(name) for name in opened.namelist()}
        self.manifest = json.loads(self.files.pop("manifest.json"))
        self.folder = folder
        self.key = self.manifest["studies"][0]["key"]

    @property
    def study(self) -> dict[str, Any]:
        """The study that was asked for, as the manifest has it."""
        return self.manifest["studies"][0]

    def seal(self) -> None:
        """Make keys, sizes and digests those of what is there."""
        for study in self.manifest["studies"]:
            facts = {name: study[name] for name in ("kind", "spec", "model", "texts")}
            old = study["key"]
            study["key"] = hashlib.sha256(
                canonical({**facts, "version": self.manifest["study_version"]}).encode()
            ).hexdigest()
            self.files = {name.replace(old, study["key"]): raw for name, raw in self.files.items()}
        self.manifest["files"] = {name: entry(raw) for name, raw in self.files.items()}

    @contextmanager
    def zip(self, method: int = zipfile.ZIP_STORED) -> Iterator[tuple[Path, zipfile.ZipFile]]:
        """The file, with the manifest and the files in it; more may be written in the body."""
        path = self.folder / "forged.zip"
        with zipfile.ZipFile(path, "w", method) as out:
            out.writestr("manifest.json", json.dumps(self.manifest))
            for one, raw in self.files.items():
                out.writestr(one, raw)
            yield path, out

    def write(self, method: int = zipfile.ZIP_STORED) -> Path:
        with self.zip(method) as (path, _):
            return path


def entry(raw: bytes) -> dict[str, Any]:
    """A file's line in the manifest."""
    return {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
