"""What a bundle says of itself: which studies it holds and which files, each with its size and sha256.

`manifest.json` of schema `wb.bundle-1`:

    schema          "wb.bundle-1"
    program         version of the program that made it
    study_version   `vocabulary.STUDY_VERSION` there; results of another one answer other questions
    made            time of making, ISO 8601, UTC
    studies         [{kind, spec, key, model, texts, companion, ended, seconds}]
    files           {name: {bytes, sha256}}, all files of the zip but the manifest

`key` is the hash of kind, spec, `model` (digest of the model's files, or `hub:ID`), `texts` (sha256 of text files by
the key of the spec that names them) and study version, see `jobs.keys`. A `companion` is a result that pages need
beside the one that was asked for, such as the model's sizes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeGuard

from workbench.bundle.spec_check import check_spec
from workbench.bundle.strict import HASH, MANIFEST, Fault, check_name, parse_json
from workbench.errors import shown
from workbench.jobs.keys import TEXT_KEYS, key_of

SCHEMA = "wb.bundle-1"
MANIFEST_LIMIT = 8 * 2**20
MOST_FILES, MOST_STUDIES = 2000, 100


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the bundle: its size in bytes and its hex sha256."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Study:
    """One finished study; fields as in the module's text."""

    kind: str
    spec: dict[str, Any]
    key: str
    model: str
    texts: dict[str, str]
    companion: bool = False
    ended: float | None = None
    seconds: float | None = None

    def computed_key(self, version: int) -> str:
        """The key that follows from what the study says of itself."""
        facts = {"kind": self.kind, "spec": self.spec, "model": self.model, "texts": self.texts, "version": version}
        return key_of(facts)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest; fields as in the module's text."""

    program: str
    study_version: int
    made: str
    studies: tuple[Study, ...]
    files: dict[str, Entry]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "schema": SCHEMA,
            "program": self.program,
            "study_version": self.study_version,
            "made": self.made,
            "studies": [asdict(one) for one in self.studies],
            "files": {name: asdict(entry) for name, entry in sorted(self.files.items())},
        }

    @property
    def total(self) -> int:
        """Bytes of all files."""
        return sum(entry.bytes for entry in self.files.values())


def read_manifest(raw: bytes) -> Manifest:
    """Read and check a manifest.

    Raises:
        Fault: it is no manifest of this schema, or something in it cannot be.
    """
    held = parse_json(raw, MANIFEST)
    if not isinstance(held, dict):
        raise Fault(f"{MANIFEST} holds no object")
    if held.get("schema") != SCHEMA:
        raise Fault(f"its schema is {shown(held.get('schema'))}; this program reads {SCHEMA!r}")
    version, program, made = held.get("study_version"), held.get("program"), held.get("made")
    if type(version) is not int or not isinstance(program, str) or not isinstance(made, str):
        raise Fault(f"{MANIFEST} does not say which version of the program made it, and when")
    files = _files(held.get("files"))
    studies = held.get("studies")
    if not isinstance(studies, list) or not 0 < len(studies) <= MOST_STUDIES:
        raise Fault(f"{MANIFEST} must list 1 to {MOST_STUDIES} studies")
    found = tuple(_study(one) for one in studies)
    if len({one.key for one in found}) < len(found):
        raise Fault(f"{MANIFEST} lists a study twice")
    _check_belonging(found, files)
    return Manifest(program[:40], version, made[:40], found, files)


def _files(listed: Any) -> dict[str, Entry]:
    if not isinstance(listed, dict) or not 0 < len(listed) <= MOST_FILES:
        raise Fault(f"{MANIFEST} must list 1 to {MOST_FILES} files")
    return {name: _entry(name, one) for name, one in listed.items()}


def _entry(name: str, held: Any) -> Entry:
    check_name(name)
    size, digest = (held.get("bytes"), held.get("sha256")) if isinstance(held, dict) else (None, None)
    if name == MANIFEST or type(size) is not int or size < 0:
        raise Fault(f"{MANIFEST} gives {shown(name)} the size {shown(size)}")
    if not isinstance(digest, str) or not HASH.fullmatch(digest):
        raise Fault(f"{MANIFEST} gives {shown(name)} the sha256 {shown(digest)}")
    return Entry(size, digest)


def _study(held: Any) -> Study:
    """One study of the list; its key is not compared here, because it depends on the version."""
    if not isinstance(held, dict):
        raise Fault(f"{MANIFEST} lists a study that is no object")
    kind, key, model, texts = (held.get(name) for name in ("kind", "key", "model", "texts"))
    if not isinstance(kind, str) or not re.fullmatch(r"[a-z][a-z_]{0,39}", kind, re.ASCII):
        raise Fault(f"{MANIFEST} lists a study of kind {shown(kind)}")
    if not isinstance(key, str) or not HASH.fullmatch(key):
        raise Fault(f"{MANIFEST} lists a study with key {shown(key)}")
    if not isinstance(model, str) or not (HASH.fullmatch(model) or model.startswith("hub:")):
        raise Fault(f"{MANIFEST} gives a study the model digest {shown(model)}")
    if not _are_texts(texts):
        raise Fault(f"{MANIFEST} gives a study the texts {shown(texts)}")
    problem = check_spec(held.get("spec"))
    if problem:
        raise Fault(f"the spec of study {kind!r} {problem}")
    times = [_time(held.get(name)) for name in ("ended", "seconds")]
    return Study(kind, held["spec"], key, model, texts, held.get("companion") is True, *times)


def _are_texts(texts: Any) -> TypeGuard[dict[str, str]]:
    return isinstance(texts, dict) and all(
        name in TEXT_KEYS and isinstance(digest, str) and HASH.fullmatch(digest) for name, digest in texts.items()
    )


def _time(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) and 0 <= value < 1e11 else None


def _check_belonging(studies: tuple[Study, ...], files: Mapping[str, Entry]) -> None:
    """Every result belongs to a study of the list, and every study has one."""
    keys = {one.key for one in studies}
    owned = {name.split("/")[1] for name in files if name.startswith("results/")}
    if owned - keys:
        raise Fault(f"it holds a result {shown(min(owned - keys))} that no study of {MANIFEST} has")
    for one in studies:
        if f"results/{one.key}/result.json" not in files:
            raise Fault(f"the result of study {one.kind!r} is missing")
