"""Launch shapes: sound for every operation, the file of a GPU before the rules, a broken file refused."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lowbit import configs, tune
from lowbit.contract import WIDTHS, LowbitError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of configuration files that is forgotten afterwards."""
    monkeypatch.setattr(configs, "FOLDER", tmp_path)
    configs._tuned.cache_clear()
    yield tmp_path
    configs._tuned.cache_clear()


def _power_of_two(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0


@pytest.mark.parametrize("op", configs.OPERATIONS)
def test_every_launch_is_sound(op: str) -> None:
    cases = itertools.product(WIDTHS, (1, 3, 4, 16, 33, 128, 5000), (1, 32, 100, 128, 4096, 14336), (None, 80, 90, 100))
    for bits, rows, group, capability in cases:
        if op == "gemv" and rows > 4:
            continue
        shape = configs.launch_shape(
            op, bits=bits, rows=rows, columns=14336, group=group, out=4096, capability=capability
        )
        assert _power_of_two(shape.num_warps)
        assert shape.num_warps <= 32
        assert _power_of_two(shape.block_rows)
        assert _power_of_two(shape.block_inputs)
        assert shape.split >= 1
        if op in configs.PASS_OPERATIONS:
            assert shape.block_columns >= group
            assert _power_of_two(shape.block_columns)


def test_passes_keep_their_tile_small_and_long_groups_take_more_warps() -> None:
    assert configs.launch_shape("quantize", bits=4, rows=9, group=128) == configs.LaunchShape(
        num_warps=4, block_rows=16, block_columns=128
    )
    assert configs.launch_shape("quantize", bits=4, rows=9, group=16384).num_warps == 32


def test_gemv_shares_the_columns_where_rows_are_few() -> None:
    few = configs.launch_shape("gemv", bits=4, rows=1, columns=14336, out=512)
    many = configs.launch_shape("gemv", bits=4, rows=1, columns=4096, out=14336)
    assert few.split > 1
    assert many.split == 1


def test_a_file_of_the_gpu_comes_before_the_rules(folder: Path) -> None:
    (folder / "sm_90.json").write_text(json.dumps({"launches": {"matmul/4/16": {"num_warps": 8, "block_rows": 32}}}))
    tuned = configs.launch_shape("matmul", bits=4, rows=9, capability=90)
    assert (tuned.num_warps, tuned.block_rows, tuned.block_inputs) == (8, 32, 16)
    for other in ({"bits": 2, "rows": 9, "capability": 90}, {"bits": 4, "rows": 9, "capability": 80}):
        assert configs.launch_shape("matmul", **other).num_warps == 4


@pytest.mark.parametrize("text", ["{", "[]", '{"launches": {"matmul/4/16": {"warps": 8}}}', '{"launches": [1]}'])
def test_a_broken_file_is_refused(text: str, folder: Path) -> None:
    (folder / "sm_90.json").write_text(text)
    with pytest.raises(LowbitError, match=r"launch configurations in sm_90.json cannot be read"):
        configs.launch_shape("matmul", bits=4, rows=9, capability=90)


def test_an_unknown_operation_is_refused() -> None:
    with pytest.raises(LowbitError, match="no launch of 'fold'; choose one of: quantize"):
        configs.launch_shape("fold", bits=4, rows=1)


def test_rows_fall_into_classes() -> None:
    assert [configs.row_bucket(rows) for rows in (1, 2, 5, 16, 17, 128, 900)] == [1, 4, 16, 16, 64, 128, 128]
    assert configs.entry_name("quantize", 4, 7, 100) == "quantize/4/128"
    assert configs.entry_name("matmul", 4, 7, 100) == "matmul/4/16"


def test_a_cpu_has_no_compute_capability() -> None:
    assert configs.capability_of(torch.device("cpu")) is None


def test_tuning_keeps_what_is_clearly_faster_and_survives_what_cannot_run(folder: Path) -> None:
    def timer(call: tune.Call) -> float:
        shape = call()
        assert isinstance(shape, configs.LaunchShape)
        if shape.num_warps == 32:
            raise RuntimeError("out of resources")
        return {4: 1.0, 8: 0.99, 16: 0.5}[shape.num_warps]

    def launch() -> configs.LaunchShape:
        return configs.launch_shape("matmul", bits=4, rows=9, capability=90)

    few = tune.Task("matmul/4/16", launch, [{"num_warps": 8}])
    many = tune.Task("matmul/4/16", launch, [{"num_warps": warps} for warps in (32, 8, 16)])
    assert tune.tune(iter([few]), timer) == {}
    entries = tune.tune(iter([many]), timer)
    assert entries == {"matmul/4/16": {"num_warps": 16}}
    assert launch().num_warps == 4
    tune.write(entries, 90, "a GPU", folder)
    configs._tuned.cache_clear()
    assert launch().num_warps == 16


def test_every_candidate_is_a_launch_shape() -> None:
    for candidate in (*tune.pass_candidates(), *tune.gemv_candidates(), *tune.matmul_candidates(64)):
        configs.LaunchShape(**candidate)


def test_every_tuned_launch_runs_under_the_name_that_its_launcher_looks_up(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: set[str] = set()
    real = configs.entry_name

    def entry_name(*arguments: object) -> str:
        name = real(*arguments)  # type: ignore[arg-type]
        asked.add(name)
        return name

    monkeypatch.setattr(tune, "WIDTHS", (4,))
    monkeypatch.setattr(tune, "GROUPS", (64,))
    monkeypatch.setattr(tune, "INPUTS", {"gemv": (1,), "matmul": (16,)})
    for task in tune.tasks(device, (16, 128)):
        with monkeypatch.context() as patch:
            patch.setattr(configs, "entry_name", entry_name)
            task.call()
        assert task.name in asked


def test_tuning_without_a_gpu_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert tune.main([]) == 2
    assert "measured on a GPU, and there is none" in capsys.readouterr().err
