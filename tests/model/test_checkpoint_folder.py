"""A folder that is whole or not there; codes in words of 32 bits, against the library that reads them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.model.checkpoint.folder import check_room, new_folder
from workbench.model.checkpoint.int32_words import pack_words


def fill(out: Path, failure: BaseException | None = None) -> None:
    with new_folder(out) as folder:
        (folder / "half").write_text("written")
        if failure is not None:
            raise failure


def test_a_folder_gets_its_name_when_all_is_in_it(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out") as folder:
        assert not (tmp_path / "out").exists()
        (folder / "file").write_text("whole")
    assert (tmp_path / "out" / "file").read_text() == "whole"
    assert os.listdir(tmp_path) == ["out"]
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o777 & ~_umask()


def _umask() -> int:
    held = os.umask(0)
    os.umask(held)
    return held


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("defect")])
def test_whatever_fails_nothing_is_left(tmp_path: Path, failure: BaseException) -> None:
    expected = WorkbenchError if isinstance(failure, OSError) else type(failure)
    with pytest.raises(expected) as caught:
        fill(tmp_path / "out", failure)
    assert os.listdir(tmp_path) == []
    if isinstance(failure, OSError):
        assert "No space left on device; nothing of it is left" in str(caught.value)


@pytest.mark.parametrize("kind", ["folder", "file", "dangling link"])
def test_a_place_that_is_taken_is_refused_and_left_as_it_is(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    {"folder": out.mkdir, "file": out.touch, "dangling link": lambda: out.symlink_to("nowhere")}[kind]()
    with pytest.raises(WorkbenchError, match="is there already"):
        fill(out)
    assert os.listdir(tmp_path) == ["out"]


def test_a_place_that_is_taken_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "out"
    making = new_folder(out)
    (making.__enter__() / "mine").touch()
    out.mkdir()
    with pytest.raises(WorkbenchError, match="is there already"):
        making.__exit__(None, None, None)
    assert os.listdir(tmp_path) == ["out"]
    assert os.listdir(out) == []


def test_a_folder_that_is_not_there_around_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match="its folder is not there"):
        fill(tmp_path / "no" / "out")


def test_more_bytes_than_are_free_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match="takes 1,000,000,000,000,000,000 bytes"):
        check_room(tmp_path / "out", 10**18)


def test_what_a_killed_process_left_is_removed_by_the_next_run_and_a_living_ones_is_not(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from workbench.model.checkpoint.folder import new_folder\n"
        "with new_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').touch(); print('ready', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        left = os.listdir(tmp_path)
        assert len(left) == 1
        assert left[0].startswith(".out.partial-")
        fill(tmp_path / "out")
        assert sorted(os.listdir(tmp_path)) == sorted([*left, "out"])  # the living one's stays
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    (tmp_path / "out" / "half").unlink()
    (tmp_path / "out").rmdir()
    time.sleep(0.01)
    fill(tmp_path / "out")
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("columns", [32, 64, 172, 7])
def test_codes_are_packed_as_the_library_packs_them(bits: int, columns: int) -> None:
    pack = pytest.importorskip("compressed_tensors.compressors.pack_quantized.helpers", reason="no compressed-tensors")
    torch.manual_seed(bits)
    codes = torch.randint(0, 2**bits, (5, columns), dtype=torch.uint8)
    theirs = pack.pack_to_int32((codes.to(torch.int16) - 2 ** (bits - 1)).to(torch.int8), bits)
    assert torch.equal(pack_words(codes, bits), theirs)


def test_three_bit_codes_straddle_words_lowest_bit_first() -> None:
    codes = torch.tensor([[*range(8), 7, 6, 5, 4, 3]], dtype=torch.uint8)
    held = sum(int(code) << (3 * place) for place, code in enumerate(codes[0]))
    words = pack_words(codes, 3)[0].tolist()
    assert [word % 2**32 for word in words] == [held % 2**32, held >> 32]
