"""Whatever a name, a manifest or a damaged file holds: it is taken as it is meant, or refused in one sentence."""

from __future__ import annotations

import string
import zipfile
from contextlib import suppress
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import pytest
from forged import Forgery, Machine
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.bundle.manifest import SCHEMA, read_manifest
from workbench.bundle.opening import look_into
from workbench.bundle.spec_check import check_spec
from workbench.bundle.strict import Fault, check_name
from workbench.errors import WorkbenchError
from workbench.results import dumps
from workbench.ui.words import summary

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = ("metric", "method", "quantizer", "quantizers", "bits", "scheme", "schemes", "prompt", "points", "plan")
SPECS = st.fixed_dictionaries({"model": JSON}, optional=dict.fromkeys(KEYS, JSON))
PARTS = st.sampled_from(
    ["..", ".", "", "results", "statistics", "a" * 64, "x.json", "t.parquet", "~", "C:", "con", "é"]
)
NAMES = st.lists(PARTS, max_size=5).map("/".join) | st.text(string.printable, max_size=40)


@given(NAMES)
def test_a_name_that_is_taken_stays_inside_on_every_system(name: str) -> None:
    try:
        check_name(name)
    except Fault:
        return
    for kind in (PurePosixPath, PureWindowsPath):
        path = kind(name)
        assert not path.is_absolute()
        assert not path.drive
        assert ".." not in path.parts
        assert path.suffix in (".json", ".parquet", ".safetensors")


@given(JSON | st.fixed_dictionaries({"schema": st.just(SCHEMA)}, optional=dict.fromkeys(
    ("study_version", "program", "made", "studies", "files"), JSON)))  # fmt: skip
def test_a_manifest_is_read_or_refused(document: Any) -> None:
    with suppress(Fault):  # any other exception is a defect
        assert read_manifest(dumps(document).encode()).studies


@given(st.binary(max_size=200))
def test_bytes_that_are_no_manifest_are_refused(raw: bytes) -> None:
    with pytest.raises(Fault):
        read_manifest(raw)


@given(SPECS)
def test_a_spec_that_is_taken_can_be_listed(spec: dict[str, Any]) -> None:
    if check_spec(spec) is None:
        assert isinstance(summary(spec), str)


@settings(max_examples=100, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_after_one_flipped_bit_all_is_as_it_was_packed_or_nothing_is_there(
    good_bundle: Path, tmp_path_factory: pytest.TempPathFactory, place: float, bit: int
) -> None:
    raw, folder = bytearray(good_bundle.read_bytes()), tmp_path_factory.mktemp("damaged")
    raw[int(place * len(raw))] ^= 1 << bit
    path, machine = folder / "damaged.zip", Machine(folder / "near")
    path.write_bytes(raw)
    try:
        opened = machine.open(path)
    except WorkbenchError:
        assert machine.state()[0] == {}
        return
    # the bit lies in a time or another field that says nothing about the contents
    with zipfile.ZipFile(good_bundle) as whole:
        names = [name for name in whole.namelist() if name.startswith("results/")]
        assert all((machine.cache / name).read_bytes() == whole.read(name) for name in names)
    assert opened.manifest.studies == look_into(good_bundle).studies


def test_the_forgery_helper_seals(good_bundle: Path, tmp_path: Path) -> None:
    forgery = Forgery(good_bundle, tmp_path)
    forgery.seal()
    assert look_into(forgery.write()).studies == look_into(good_bundle).studies
