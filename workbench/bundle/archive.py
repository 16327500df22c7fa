"""Reading a zip that somebody else made: what it declares is checked first, then every byte is counted and hashed.

No file is written whose name, kind, size or ratio was not checked, and none grows beyond its declared size. The zip
module's own `extract` is not used: names are ours, and files are plain.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from workbench.bundle.manifest import MANIFEST_LIMIT, MOST_FILES, Entry, Manifest, read_manifest
from workbench.bundle.strict import MANIFEST, Fault, check_name
from workbench.errors import shown

RATIO = 100
"""Most times that a file may grow when it is decompressed; JSON of numbers grows about tenfold."""

SLACK = 2**16
"""Bytes below which a file may grow as it likes."""

CHUNK = 2**20
MOST_AT_ONCE = 2**22
"""Longest piece that is read at once; the list of 2000 files takes a tenth of it."""

ENCRYPTED = 0x1
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeDecodeError, ValueError, RuntimeError)
"""What the zip module raises for a file that is not as it should be."""

Report = Callable[[int, int], None]
"""Called with the bytes that are done and those of the whole."""


class _Careful(io.FileIO):
    """A file of which no more than `MOST_AT_ONCE` bytes are read at once.

    The zip module reads the list of all files in one piece, as long as the zip says that it is.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        """As any file, or `BadZipFile`."""
        if size is None or size < 0:
            size = max(0, os.fstat(self.fileno()).st_size - self.tell())
        if size > MOST_AT_ONCE:
            raise zipfile.BadZipFile("its list of files is too long")
        return super().read(size) or b""


@dataclass(frozen=True)
class Archive:
    """An open bundle whose outside is checked: names, kinds and declared sizes fit the manifest."""

    zip: zipfile.ZipFile
    manifest: Manifest

    def extract(self, folder: Path, report: Report | None = None) -> None:
        """Write all files below a folder that is empty.

        Raises:
            Fault: a file is not what the manifest promises.
            OSError: the disk is full, or the folder cannot be written.
        """
        done = 0
        for name, entry in self.manifest.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as out:
                _copy(self.zip, name, entry, out)
            done += entry.bytes
            if report is not None:
                report(done, self.manifest.total)


@contextmanager
def open_archive(path: Path, limit: int) -> Iterator[Archive]:
    """Open a bundle and check its outside; nothing but the manifest is decompressed.

    Args:
        path: the file.
        limit: most bytes that its files may take.

    Raises:
        Fault: it is no zip, or no bundle, or too large.
    """
    with _Careful(path) as file:
        try:
            opened = zipfile.ZipFile(file)
        except DAMAGED as error:
            raise Fault("it is no zip file, or was cut short") from error
        listed = _listed(opened, limit)
        manifest = read_manifest(_read_manifest(opened, listed))
        _check_sizes(manifest, listed)
        yield Archive(opened, manifest)


def _listed(opened: zipfile.ZipFile, limit: int) -> dict[str, zipfile.ZipInfo]:
    """The zip's own list, checked."""
    entries = opened.infolist()
    if len(entries) > MOST_FILES:
        raise Fault(f"it holds {len(entries)} files; at most {MOST_FILES} are read")
    names = [info.orig_filename for info in entries]
    counts = Counter(name.lower() for name in names)  # some file systems know no upper and lower case
    twice = next((name for name in names if counts[name.lower()] > 1), None)
    if twice is not None:
        raise Fault(f"it holds {shown(twice)} twice")
    for info in entries:
        _check_entry(info)
    total = sum(info.file_size for info in entries)
    if total > limit:
        raise Fault(f"its files take {total:,} bytes; at most {limit:,} are read (--max-size)")
    return {info.orig_filename: info for info in entries}


def _check_entry(info: zipfile.ZipInfo) -> None:
    """One line of the zip's list: a plain file with a name of ours that does not grow out of nothing."""
    name = info.orig_filename
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        raise Fault(f"it holds a link, {shown(name)}")
    check_name(name)
    if kind not in (0, stat.S_IFREG) or info.is_dir() or info.filename != name:
        raise Fault(f"it holds {shown(name)}, which is no plain file")
    if info.flag_bits & ENCRYPTED:
        raise Fault(f"it holds an encrypted file, {shown(name)}")
    if info.compress_type not in METHODS:
        raise Fault(f"it holds {shown(name)} compressed by method {info.compress_type}; stored and deflated are read")
    if info.file_size > SLACK and info.file_size > RATIO * max(1, info.compress_size):
        raise Fault(
            f"its file {shown(name)} would grow from {info.compress_size:,} to {info.file_size:,} bytes, more than "
            f"{RATIO} times"
        )


def _read_manifest(opened: zipfile.ZipFile, listed: dict[str, zipfile.ZipInfo]) -> bytes:
    info = listed.get(MANIFEST)
    if info is None:
        raise Fault(f"it has no {MANIFEST}: `workbench bundle create` makes bundles")
    if info.file_size > MANIFEST_LIMIT:
        raise Fault(f"its {MANIFEST} has {info.file_size:,} bytes; at most {MANIFEST_LIMIT:,} are read")
    try:
        with opened.open(MANIFEST) as stream:
            return stream.read(MANIFEST_LIMIT)
    except DAMAGED as error:
        raise Fault(f"its {MANIFEST} is damaged") from error


def _check_sizes(manifest: Manifest, listed: dict[str, zipfile.ZipInfo]) -> None:
    """The files of the zip are those of the manifest, none more and none less, with the same sizes."""
    held = set(listed) - {MANIFEST}
    for name in sorted(held ^ set(manifest.files)):
        where = f"is not in its {MANIFEST}" if name in held else f"is in its {MANIFEST} alone"
        raise Fault(f"the file {shown(name)} {where}")
    for name, entry in manifest.files.items():
        if listed[name].file_size != entry.bytes:
            raise Fault(f"its file {shown(name)} has {listed[name].file_size:,} bytes, promised are {entry.bytes:,}")


def _copy(opened: zipfile.ZipFile, name: str, entry: Entry, out: IO[bytes]) -> None:
    """Copy one file, counting and hashing what is really there."""
    digest, count = hashlib.sha256(), 0
    try:
        with opened.open(name) as stream:
            while chunk := stream.read(CHUNK):
                count += len(chunk)
                if count > entry.bytes:
                    raise Fault(f"its file {shown(name)} is longer than the {entry.bytes:,} bytes that it declares")
                digest.update(chunk)
                out.write(chunk)
    except DAMAGED as error:
        raise Fault(f"its file {shown(name)} is damaged or has another size than it declares") from error
    if count != entry.bytes:
        raise Fault(f"its file {shown(name)} has {count:,} bytes, promised are {entry.bytes:,}")
    if digest.hexdigest() != entry.sha256:
        raise Fault(f"its file {shown(name)} has sha256 {digest.hexdigest()[:12]}…, promised is {entry.sha256[:12]}…")
