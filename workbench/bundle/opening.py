"""Opening a bundle: everything is checked in a folder of its own, then all of it is taken in, or nothing."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from workbench import __version__
from workbench.bundle.archive import Archive, Report, open_archive
from workbench.bundle.contents import check_contents
from workbench.bundle.manifest import Manifest
from workbench.bundle.strict import Fault
from workbench.bundle.taking import Opened, take_in
from workbench.errors import WorkbenchError, shown
from workbench.jobs.shelf import Shelf, cache_limit
from workbench.jobs.store import Store
from workbench.jobs.trouble import unwritable
from workbench.vocabulary import STUDY_VERSION

SIZE_LIMIT = 4 * 2**30
"""Bytes that the files of a bundle may take at most, unless more is allowed."""

SPARE = 2**26
"""Bytes that are left free on the disk."""


def look_into(path: Path, limit: int = SIZE_LIMIT) -> Manifest:
    """The manifest of a bundle, its outside checked, nothing else read.

    Raises:
        WorkbenchError: it is no bundle that can be opened.
    """
    try:
        _check_file(path)
        with open_archive(path, limit) as archive:
            _check_studies(archive.manifest)
            return archive.manifest
    except (Fault, OSError) as error:
        raise _refusal(path.name, error) from error


def open_bundle(
    path: Path,
    *,
    store: Store,
    shelf: Shelf,
    limit: int = SIZE_LIMIT,
    report: Report | None = None,
    name: str | None = None,
) -> Opened:
    """Check a bundle and take its results, cells and statistics into a cache folder.

    Results and cells that are here already stay as they are. Opening a bundle twice changes nothing.

    Args:
        path: the zip.
        store: takes the cells and the finished jobs.
        shelf: takes the results.
        limit: most bytes that the bundle's files may take.
        report: called with bytes done and bytes in all.
        name: what messages call the bundle; by default the file's own name.

    Raises:
        WorkbenchError: anything about it is wrong, or the disk is full; the cache folder is then as it was.
    """
    cache = shelf.folder.parent
    try:
        _check_file(path)
        with open_archive(path, limit) as archive:
            _check_studies(archive.manifest)
            return _unpack(archive, cache, store, shelf, report)
    except Fault as fault:
        raise _refusal(name or path.name, fault) from fault
    except OSError as error:
        raise unwritable(cache, error.strerror or error) from error


def _check_file(path: Path) -> None:
    try:
        if not path.is_file():
            raise Fault("there is no such file")
        with path.open("rb"):
            pass
    except (OSError, ValueError) as error:
        raise Fault(f"it cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _check_studies(manifest: Manifest) -> None:
    """Results of this version of the studies, each under the key that its question has."""
    if manifest.study_version != STUDY_VERSION:
        raise Fault(
            f"its results are of version {manifest.study_version} of the studies (program {shown(manifest.program)}), "
            f"this program computes version {STUDY_VERSION} (program {__version__}); use the same program on both sides"
        )
    for one in manifest.studies:
        computed = one.computed_key(manifest.study_version)
        if computed != one.key:
            raise Fault(f"the key of study {one.kind!r} is {one.key[:12]}…, its question has {computed[:12]}…")
    held = sum(entry.bytes for name, entry in manifest.files.items() if name.startswith("results/"))
    if held > cache_limit():
        raise Fault(f"its results take {held:,} bytes; WORKBENCH_CACHE_LIMIT allows {cache_limit():,}")


def _refusal(name: str, reason: object) -> WorkbenchError:
    return WorkbenchError(f"the bundle {shown(name)} was not opened: {reason}")


def _unpack(archive: Archive, cache: Path, store: Store, shelf: Shelf, report: Report | None) -> Opened:
    cache.mkdir(parents=True, exist_ok=True)
    needed, free = archive.manifest.total + SPARE, shutil.disk_usage(cache).free
    if needed > free:
        raise Fault(f"it needs {needed:,} bytes on the disk of {shown(str(cache))}, where {free:,} are free")
    # In the cache folder, so that taking in is renaming; TemporaryDirectory removes it whatever happens.
    with tempfile.TemporaryDirectory(prefix=".bundle-", dir=cache) as folder:
        archive.extract(Path(folder), report)
        cells = check_contents(Path(folder), list(archive.manifest.files))
        return take_in(Path(folder), archive.manifest, cells, store, shelf)
