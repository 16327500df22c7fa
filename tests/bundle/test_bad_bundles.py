"""A bundle that is not as it should be is refused in one sentence, and the machine is as it was before."""

from __future__ import annotations

import os
import pickle
import stat
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from forged import Forgery, Machine

from workbench import vocabulary
from workbench.bundle import archive, opening, taking
from workbench.errors import WorkbenchError

LOUD = pickle.dumps({"a": 1})
BOMB = 8_000_000
Patch = pytest.MonkeyPatch
Change = Callable[[Forgery], None]


def refused(machine: Machine, path: Path, match: str, **wishes: Any) -> None:
    """Opening ends in one sentence and leaves everything as it was."""
    before = machine.state()
    with pytest.raises(WorkbenchError, match=match) as caught:
        machine.open(path, **wishes)
    told = str(caught.value)
    assert "\n" not in told
    assert not told.endswith(".")
    assert len(told) < 700
    assert machine.state() == before
    assert not list(machine.cache.glob(".bundle-*"))


def test_the_forgery_itself_is_a_good_bundle(near: Machine, forgery: Forgery) -> None:
    forgery.seal()
    assert near.open(forgery.write()).fresh == 2


@pytest.mark.parametrize(
    "name",
    [
        "../evil.json",
        "results/../../evil.json",
        "/etc/evil.json",
        "C:/evil.json",
        "results\\evil.json",
        "results//result.json",
        "evil.json",
        "results/KEY/.hidden.json",
        "results/KEY/deeper/table.parquet",
        "results/KEY/model.pkl",
        "results/KEY/model.bin",
        "results/KEY/",
        "statistics/one.json",
        "workbench.sqlite",
    ],
)
def test_names_that_lead_elsewhere(near: Machine, forgery: Forgery, name: str) -> None:
    forgery.files[name.replace("KEY", forgery.key)] = b"{}"
    forgery.seal()
    refused(near, forgery.write(), "it holds a file named")


def test_a_name_that_leads_elsewhere_beside_those_of_the_manifest(near: Machine, forgery: Forgery) -> None:
    with forgery.zip() as (path, out):
        out.writestr("../evil.json", b"{}")
    refused(near, path, "it holds a file named")


def test_a_link(near: Machine, forgery: Forgery) -> None:
    info = zipfile.ZipInfo(f"results/{forgery.key}/table.parquet")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with forgery.zip() as (path, out):
        out.writestr(info, "/etc/passwd")
    refused(near, path, "it holds a link")


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFCHR, stat.S_IFDIR])
def test_no_plain_file(near: Machine, forgery: Forgery, kind: int) -> None:
    info = zipfile.ZipInfo(f"results/{forgery.key}/table.parquet")
    info.external_attr = (kind | 0o777) << 16
    with forgery.zip() as (path, out):
        out.writestr(info, b"")
    refused(near, path, "which is no plain file")


@pytest.mark.parametrize("twin", ["cells.json", "manifest.json", "CELLS.json"])
def test_a_name_twice(near: Machine, forgery: Forgery, twin: str) -> None:
    with forgery.zip() as (path, out), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the zip module's own about the name
        out.writestr(twin, b"{}")
    refused(near, path, "twice")


def test_a_bomb_that_says_so(near: Machine, forgery: Forgery) -> None:
    forgery.files[f"results/{forgery.key}/zeros.safetensors"] = bytes(BOMB)
    forgery.seal()
    refused(near, forgery.write(zipfile.ZIP_DEFLATED), "would grow from .* more than 100 times")


def test_more_than_is_allowed(near: Machine, forgery: Forgery, monkeypatch: pytest.MonkeyPatch) -> None:
    forgery.files[f"results/{forgery.key}/noise.safetensors"] = os.urandom(200_000)
    forgery.seal()
    path = forgery.write()
    refused(near, path, "at most 100,000 are read", limit=100_000)
    monkeypatch.setenv("WORKBENCH_CACHE_LIMIT", "100k")
    refused(near, path, "WORKBENCH_CACHE_LIMIT allows 100,000")


@pytest.mark.parametrize("claimed", [1000, BOMB])
def test_a_bomb_that_lies_about_its_size(near: Machine, forgery: Forgery, claimed: int) -> None:
    name = f"results/{forgery.key}/zeros.safetensors"
    forgery.files[name] = bytes(claimed)
    forgery.seal()
    del forgery.files[name]
    with forgery.zip(zipfile.ZIP_DEFLATED) as (path, out):
        out.writestr(name, bytes(BOMB))
        out.filelist[-1].file_size = claimed
        out.filelist[-1].compress_size = out.filelist[-1].compress_size if claimed == 1000 else BOMB // 50
    refused(near, path, "damaged or has another size|no zip file")


@pytest.mark.parametrize("digest", ["0" * 64, "short", 7])
def test_a_wrong_digest(near: Machine, forgery: Forgery, digest: Any) -> None:
    forgery.manifest["files"]["cells.json"]["sha256"] = digest
    refused(near, forgery.write(), "'cells.json' (has|the) sha256|gives 'cells.json' the sha256")


@pytest.mark.parametrize("size", [5, -1, 2.0, "many", None])
def test_a_wrong_size(near: Machine, forgery: Forgery, size: Any) -> None:
    forgery.manifest["files"]["cells.json"]["bytes"] = size
    refused(near, forgery.write(), "promised are 5|gives 'cells.json' the size")


def test_other_contents_than_those_that_were_packed(near: Machine, forgery: Forgery) -> None:
    raw = forgery.files["cells.json"]
    forgery.files["cells.json"] = raw.replace(b"0.25", b"0.26")
    refused(near, forgery.write(), "'cells.json' has sha256")


CHANGES: dict[str, tuple[Change, str]] = {
    "schema": (lambda one: one.manifest.update(schema="wb.bundle-2"), "its schema is 'wb.bundle-2'"),
    "no schema": (lambda one: one.manifest.pop("schema"), "its schema is None"),
    "no version": (lambda one: one.manifest.pop("program"), "does not say which version"),
    "no studies": (lambda one: one.manifest.update(studies=[]), "must list 1 to 100 studies"),
    "a study twice": (lambda one: one.manifest["studies"].append(one.study), "lists a study twice"),
    "no object": (lambda one: one.manifest.update(studies=[7]), "a study that is no object"),
    "kind": (lambda one: one.study.update(kind="../x"), "a study of kind"),
    "key": (lambda one: one.study.update(key="abc"), "a study with key"),
    "another key": (lambda one: one.study["spec"].update(window=128), "its question has"),
    "model digest": (lambda one: one.study.update(model=None), "the model digest None"),
    "texts": (lambda one: one.study.update(texts={"prompt": "0" * 64}), "the texts"),
    "no model": (lambda one: one.study["spec"].pop("model"), "names no model"),
    "scheme": (lambda one: one.study["spec"].update(scheme={"bits": 3}), "has scheme"),
    "bits": (lambda one: one.study["spec"].update(scheme=dict.fromkeys(SCHEME, 5)), "cannot be read|has scheme"),
    "window": (lambda one: one.study["spec"].update(window="wide"), "has window 'wide'"),
    "plan": (lambda one: one.study["spec"].update(plan={"a": 1}), "cannot be read"),
    "points": (lambda one: one.study["spec"].update(points=[{"scheme": None}]), "has points"),
    "file alone": (lambda one: one.files.pop("cells.json"), "'cells.json' is in its manifest.json alone"),
    "file more": (lambda one: one.manifest["files"].pop("cells.json"), "'cells.json' is not in its manifest.json"),
}
SCHEME = ("quantizer", "bits", "group_size", "symmetric", "options")


@pytest.mark.parametrize("change", CHANGES)
def test_a_manifest_that_is_not_right(near: Machine, forgery: Forgery, change: str) -> None:
    make, sentence = CHANGES[change]
    make(forgery)
    refused(near, forgery.write(), sentence)


@pytest.mark.parametrize("owned", [True, False])
def test_a_result_without_its_study_and_the_other_way_round(near: Machine, forgery: Forgery, owned: bool) -> None:
    if owned:
        forgery.manifest["studies"].pop()
    else:
        del forgery.files[f"results/{forgery.key}/result.json"]
    forgery.seal()
    refused(near, forgery.write(), "that no study of manifest.json has|the result of study 'sensitivity' is missing")


def test_results_of_other_studies(near: Machine, forgery: Forgery) -> None:
    forgery.manifest["study_version"] = vocabulary.STUDY_VERSION + 1
    forgery.seal()
    version = vocabulary.STUDY_VERSION
    refused(near, forgery.write(), f"of version {version + 1} of the studies .* computes version {version}")


def test_another_program_of_the_same_studies_is_said(near: Machine, forgery: Forgery) -> None:
    forgery.manifest["program"] = "0.0.9"
    assert near.open(forgery.write()).other_program == "0.0.9"


def parquet(column: pa.Array, path: Path) -> bytes:
    pq.write_table(pa.table({"a": column}), path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("cells.parquet", LOUD),
        ("cells.parquet", b"PAR1 and no more"),
        ("scores.safetensors", LOUD),
        ("scores.safetensors", b"\xff" * 64),
        ("result.json", LOUD),
        ("result.json", b"[1, 2]"),
        ("result.json", b'{"format": 99, "document": {}}'),
        ("result.json", b'{"format": 1, "document": {"a": NaN}}'),
        ("result.json", b'{"format": 1, "format": 1, "document": {}}'),
        ("result.json", b"[" * 100_000),
        ("cells.json", b'["no key"]'),
        ("other.json", b"{}"),
    ],
)
def test_contents_that_are_not_what_their_ending_says(near: Machine, forgery: Forgery, name: str, raw: bytes) -> None:
    forgery.files[f"results/{forgery.key}/{name}"] = raw
    forgery.seal()
    refused(near, forgery.write(), "no parquet|no safetensors|no JSON|no result of format|no result has")


@pytest.mark.parametrize(
    ("column", "sentence"),
    [
        (pa.array([b"raw"]), "of type binary"),
        (pa.array([{"a": 1}]), "of type struct"),
        (pa.array(["x" * 1000] * 3_000_000).dictionary_encode(), "bytes of text"),
        (pa.array([None] * 21_000_000, pa.int8()), "at most 20,000,000 are read"),
    ],
)
def test_tables_of_other_columns_or_of_too_much(
    near: Machine, forgery: Forgery, column: pa.Array, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.bundle.contents.TABLE_BYTES", 2**28)
    forgery.files[f"results/{forgery.key}/cells.parquet"] = parquet(column, tmp_path / "table.parquet")
    forgery.seal()
    refused(near, forgery.write(), sentence)


@pytest.mark.parametrize("raw", [b"[]", b'{"short": 1}', LOUD])
def test_cells_that_are_none(near: Machine, forgery: Forgery, raw: bytes) -> None:
    forgery.files["cells.json"] = raw
    forgery.seal()
    refused(near, forgery.write(), "holds no cells|no JSON")


@pytest.mark.parametrize("keep", [0, 10, -400, -30])
def test_a_zip_that_was_cut_short(near: Machine, good_bundle: Path, keep: int, tmp_path: Path) -> None:
    cut = tmp_path / "cut.zip"
    cut.write_bytes(good_bundle.read_bytes()[:keep])
    refused(near, cut, "no zip file, or was cut short")


def test_what_is_no_bundle(near: Machine, tmp_path: Path) -> None:
    other = tmp_path / "notes.zip"
    other.write_text("no zip at all")
    refused(near, other, "'notes.zip' was not opened: it is no zip file")
    refused(near, tmp_path / "nowhere.zip", "there is no such file")
    refused(near, tmp_path, "there is no such file")
    with zipfile.ZipFile(other, "w"):
        pass
    refused(near, other, "it has no manifest.json: `workbench bundle create` makes bundles")


def test_a_list_of_files_that_would_fill_the_memory(near: Machine, tmp_path: Path) -> None:
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as out:
        for number in range(2001):
            out.writestr(f"statistics/{number:0240d}.safetensors", b"")
    refused(near, path, "it holds 2001 files; at most 2000 are read")
    size = 2**22 + 1
    end = b"PK\x05\x06" + bytes(4) + (1).to_bytes(2, "little") * 2 + size.to_bytes(4, "little") + bytes(6)
    path.write_bytes(bytes(size) + end)
    refused(near, path, "it is no zip file")


def test_encrypted_and_strangely_compressed_files(near: Machine, forgery: Forgery) -> None:
    with forgery.zip() as (path, out):
        out.filelist[-1].flag_bits |= 1
    refused(near, path, "an encrypted file")
    with forgery.zip() as (path, out):
        out.writestr("statistics/a.safetensors", b"a", zipfile.ZIP_LZMA)
    refused(near, path, "compressed by method 14")


def test_a_disk_that_runs_full_while_unpacking(
    near: Machine, good_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, done = archive._copy, []

    def fill(*given: Any) -> None:
        done.append(given)
        if len(done) > 2:
            raise OSError(28, "No space left on device")
        copy(*given)

    monkeypatch.setattr(archive, "_copy", fill)
    refused(near, good_bundle, r"cannot be written \(No space left on device\).*free space")
    assert len(done) == 3


def test_a_disk_that_runs_full_while_taking_in(
    near: Machine, good_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move, done = taking._move, []

    def fill(*given: Any) -> None:
        done.append(given)
        if len(done) > 1:
            raise OSError(28, "No space left on device")
        move(*given)

    monkeypatch.setattr(taking, "_move", fill)
    refused(near, good_bundle, r"cannot be written \(No space left on device\)")
    assert len(done) == 2, "the first result was in its place, and went again"


def test_a_disk_that_is_too_small(near: Machine, good_bundle: Path, monkeypatch: Patch) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(opening.shutil, "disk_usage", lambda _: usage)
    near.cache.mkdir()
    refused(near, good_bundle, "where 1,000 are free")
