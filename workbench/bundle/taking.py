"""Taking a checked bundle in: each file gets its place, the jobs are listed, or all of it is undone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import __version__, results
from workbench.bundle.local import Names, local_spec, unknown_here
from workbench.bundle.manifest import Manifest, Study
from workbench.jobs.adopted import Finished, adopting
from workbench.jobs.keys import study_key
from workbench.jobs.shelf import Shelf, cache_limit
from workbench.jobs.store import Store
from workbench.trimming import trim


@dataclass(frozen=True)
class Opened:
    """What came of opening a bundle.

    Attributes:
        manifest: of the bundle.
        keys: under which this machine finds the results, in the order of the manifest's studies.
        fresh: how many of the results were not here before.
        cells: how many cells were not here before.
        away: models that are not on this machine; their results are shown, nothing new can be computed about them.
    """

    manifest: Manifest
    keys: tuple[str, ...]
    fresh: int
    cells: int
    away: tuple[str, ...]

    @property
    def other_program(self) -> str | None:
        """The version of the program that made it, when it is another one."""
        return None if self.manifest.program == __version__ else self.manifest.program


@dataclass(frozen=True)
class _Taken:
    """One study on its way in: what it is asked as here, under which key, and whether its model is not here."""

    study: Study
    spec: dict[str, Any]
    key: str
    carried: Mapping[str, Names]


def take_in(folder: Path, manifest: Manifest, cells: dict[str, Any], store: Store, shelf: Shelf) -> Opened:
    """Rename everything into its place while the store's changes wait to be made; undo all of it on any error.

    Args:
        folder: the files of the bundle, checked; below the cache folder, so that renaming is enough.
        manifest: of the bundle.
        cells: key -> value.
        store: takes cells and jobs.
        shelf: takes results.

    Raises:
        WorkbenchError: the store cannot be written.
        OSError: a folder cannot be written.
    """
    taken = [_taken(one) for one in manifest.studies]
    known = len(store.get_cells(cells))
    fresh = {one.key for one in taken if shelf.folder_of(one.key) is None}
    asked = [one for one in taken if not one.study.companion]
    jobs = [_finished(one, manifest) for one in asked if one.key in fresh or not _is_listed(one.key, store)]
    carried = _carried(taken)
    with ExitStack() as undo:
        with adopting(store, jobs, cells=cells, carried=carried):
            for one in taken:
                keys = dict.fromkeys((one.key, one.study.key))
                _place(folder / "results" / one.study.key, [shelf.folder / key for key in keys], undo)
            for path in sorted((folder / "statistics").glob("*.safetensors")):
                _move(path, shelf.folder.parent / "statistics" / path.name, undo)
        undo.pop_all()
    trim(shelf.folder, cache_limit(), asked[0].key if asked else taken[0].key)
    return Opened(manifest, tuple(one.key for one in taken), len(fresh), len(cells) - known, tuple(carried))


def _taken(study: Study) -> _Taken:
    spec = local_spec(study)
    return _Taken(study, spec, study_key(study.kind, spec), unknown_here(spec))


def _is_listed(key: str, store: Store) -> bool:
    job = store.latest(key)
    return job is not None and job.state == "done"


def _finished(taken: _Taken, manifest: Manifest) -> Finished:
    study = taken.study
    note = f"opened from a bundle made {manifest.made} by program {manifest.program}"
    return Finished(study.kind, taken.spec, taken.key, study.seconds, study.ended, note, "bundle")


def _carried(taken: Sequence[_Taken]) -> dict[str, Names]:
    """The models that are not here, each with the texts of all its studies."""
    carried: dict[str, Names] = {}
    for one in taken:
        for model, texts in one.carried.items():
            carried[model] = {**carried.get(model, {}), **texts}
    return carried


def _place(source: Path, targets: Sequence[Path], undo: ExitStack) -> None:
    """Put a result under each of its keys; where there is one already it stays."""
    for target in targets:
        if (target / results.DOCUMENT).is_file():
            continue
        copied = source.with_name(f"{source.name}-copy")
        shutil.copytree(source, copied)
        shutil.rmtree(target, ignore_errors=True)  # remains without a document are no result
        _move(copied, target, undo)


def _move(source: Path, target: Path, undo: ExitStack) -> None:
    """Rename, to be undone when a later step fails; what is there already stays."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(source, target)
    undo.callback(shutil.rmtree if target.is_dir() else os.unlink, target)
