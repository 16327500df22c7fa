"""Writing a bundle: the results of finished jobs with the cells that they stand on, and what pages need beside them."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import __version__, results
from workbench.bundle.archive import CHUNK, RATIO, SLACK
from workbench.bundle.manifest import Entry, Manifest, Study, read_manifest
from workbench.bundle.strict import CELLS, ENDINGS, MANIFEST, check_name
from workbench.errors import WorkbenchError, shown
from workbench.jobs.job import Job
from workbench.jobs.keys import key_facts, key_of
from workbench.jobs.shelf import Shelf
from workbench.jobs.store import Store
from workbench.vocabulary import STUDY_VERSION

LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""Time of every file in the zip."""

PLAIN_FILE = 0o100644 << 16
Source = Path | bytes
"""Where the content of a file of the bundle comes from."""


@dataclass(frozen=True)
class Made:
    """What was written: the manifest, how many cells go along, and the size of the file in bytes."""

    manifest: Manifest
    cells: int
    bytes: int


def create(target: Path, jobs: Sequence[Job], *, store: Store, shelf: Shelf, statistics: Path | None = None) -> Made:
    """Write a bundle of finished jobs; the file is either whole or absent.

    Quantized weights do not go along: they are as large as the model, and are made again from the statistics.

    Args:
        target: the zip to write; a file that is there is replaced.
        jobs: the jobs; of each model the result `inspect` goes along when there is one, because pages need it.
        store: holds the cells.
        shelf: holds the results.
        statistics: folder of statistics, when those of the jobs' models are to go along; they are large.

    Raises:
        WorkbenchError: a job is not done, its result is gone, its model or text is another one now, or the file cannot
            be written.
    """
    studies = list({one.key: one for one in map(_study_of, jobs)}.values())
    studies += _companions(studies, shelf)
    cells = store.get_cells(sorted({key for one in studies for key in shelf.cells_of(one.key)}))
    sources: dict[str, Source] = dict(_result_files(studies, shelf))
    sources |= _statistics_files(statistics, _weights_digests(studies, shelf))
    if cells:
        sources[CELLS] = results.dumps(cells).encode("utf-8")
    try:
        with tempfile.TemporaryDirectory(prefix=".bundle-", dir=target.parent) as folder:
            partial = Path(folder) / "bundle.zip"
            manifest = _write(partial, studies, sources)
            size = partial.stat().st_size
            os.replace(partial, target)
    except OSError as error:
        reason = error.strerror or str(error)[:80]
        raise WorkbenchError(f"the bundle {shown(str(target))} could not be written: {reason}") from error
    return Made(manifest, len(cells), size)


def _study_of(job: Job) -> Study:
    """A finished job as a study of the manifest.

    Raises:
        WorkbenchError: it is not done, or its key says that its model or texts were others.
    """
    if job.state != "done":
        raise WorkbenchError(f"job {shown(job.id)} is {job.state}; only finished ones can be bundled")
    study = _study(job.kind, job.spec)
    if study.key != job.key:
        raise WorkbenchError(
            f"job {shown(job.id)} was about other files than those that are there now: its model, its text or the "
            "program has changed since; run it again"
        )
    seconds = None if job.started is None or job.ended is None else job.ended - job.started
    return Study(study.kind, study.spec, study.key, study.model, study.texts, False, job.ended, seconds)


def _study(kind: str, spec: dict[str, Any], *, companion: bool = False) -> Study:
    facts = key_facts(kind, spec)
    return Study(kind, spec, key_of(facts), str(facts["model"]), facts["texts"], companion)


def _companions(studies: Sequence[Study], shelf: Shelf) -> list[Study]:
    """The sizes of each model, as pages ask for them, where they are known and do not go along already."""
    found = {}
    for model in dict.fromkeys(one.spec["model"] for one in studies):
        sizes = _study("inspect", {"model": model, "allow_download": False}, companion=True)
        if shelf.folder_of(sizes.key) is not None:
            found[sizes.key] = sizes
    return [one for key, one in found.items() if key not in {study.key for study in studies}]


def _result_files(studies: Iterable[Study], shelf: Shelf) -> Iterator[tuple[str, Path]]:
    """Name in the bundle and path of every file of the results.

    Raises:
        WorkbenchError: a result is no longer on disk.
    """
    for one in studies:
        folder = shelf.folder_of(one.key)
        if folder is None:
            raise WorkbenchError(f"the result of {one.kind!r} about {shown(one.spec['model'])} is no longer on disk")
        for path in sorted(folder.iterdir()):
            if path.suffix in ENDINGS:
                yield f"results/{one.key}/{path.name}", path


def _weights_digests(studies: Iterable[Study], shelf: Shelf) -> set[str]:
    """The models' digests as statistics are named by; results write them into their documents."""
    held = (shelf.load(one.key) for one in studies)
    models = (found.document.get("model") for found in held if found is not None)
    return {str(model["digest"]) for model in models if isinstance(model, dict) and model.get("digest")}


def _statistics_files(folder: Path | None, digests: set[str]) -> dict[str, Path]:
    if folder is None or not folder.is_dir():
        return {}
    files = (path for path in sorted(folder.glob("*.safetensors")) if path.name.split("-")[0] in digests)
    return {f"statistics/{path.name}": path for path in files}


def _write(path: Path, studies: Sequence[Study], sources: dict[str, Source]) -> Manifest:
    """Write the zip, the manifest last: sizes and digests are those of what was written."""
    files: dict[str, Entry] = {}
    with zipfile.ZipFile(path, "w", allowZip64=True) as out:
        for name, source in sources.items():
            check_name(name)
            files[name] = _put(out, name, source)
        made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        manifest = Manifest(__version__, STUDY_VERSION, made, tuple(studies), files)
        raw = results.dumps(manifest.to_json()).encode("utf-8")
        read_manifest(raw)  # what `open` would refuse is not written
        _put(out, MANIFEST, raw)
    return manifest


def _put(out: zipfile.ZipFile, name: str, source: Source) -> Entry:
    """Write one file; JSON is compressed, unless it repeats itself so much that it would look like a zip bomb."""
    info = zipfile.ZipInfo(name, LONG_AGO)
    info.external_attr = PLAIN_FILE
    if name.endswith(".json"):
        raw = source if isinstance(source, bytes) else source.read_bytes()
        dense = len(raw) > SLACK and len(raw) * 2 > RATIO * len(zlib.compress(raw))
        info.compress_type = zipfile.ZIP_STORED if dense else zipfile.ZIP_DEFLATED
        out.writestr(info, raw)
        return Entry(len(raw), hashlib.sha256(raw).hexdigest())
    assert isinstance(source, Path)
    digest, count = hashlib.sha256(), 0
    with source.open("rb") as stream, out.open(info, "w", force_zip64=True) as packed:
        while chunk := stream.read(CHUNK):
            packed.write(chunk)
            digest.update(chunk)
            count += len(chunk)
    return Entry(count, digest.hexdigest())
