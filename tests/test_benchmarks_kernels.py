"""The benchmarks of the kernels run, on tiny shapes: what they time is no test, that they can is one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import kernels_cpu
from benchmarks.kernels_timing import Clock, Row, markdown, spread_of

PROJECT = Path(__file__).parents[1]


def test_every_implementation_of_the_cpu_benchmark_gives_the_same_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels_cpu.torch_compiled, "obstacle", lambda device: "not compiled in this test")
    threads = torch.get_num_threads()
    found = list(kernels_cpu.measure(blocks=1, shapes=((64, 256),), rounds=1))
    assert torch.get_num_threads() == threads
    names = [measurement.name for measurement in found]
    for operation in ("4-bit values + errors", "4-bit errors", "error table of five widths"):
        assert f"{operation}, naive eager" in names
        chunked = found[names.index(f"{operation}, chunked")]
        assert chunked.limit is not None
        assert chunked.note.endswith("x naive")
    assert all(measurement.value > 0 for measurement in found if measurement.unit == "s")


def test_the_naive_formulas_are_those_of_the_contract() -> None:
    one = kernels_cpu.layer(16, 256)
    kernels_cpu.torch_requantize.requantize(one[0], 4, kernels_cpu.GROUP, False, one[1], one[2])
    values, _, error = kernels_cpu.naive(one, 4)
    assert (values - one[2]).abs().max() < 1e-2  # a division instead of a product moves a tie by one level
    assert (values != one[2]).float().mean() < 0.01
    expected = kernels_cpu.torch_backend.errors(one[0], 4, kernels_cpu.GROUP, False, one[1]).weighted
    assert expected is not None
    torch.testing.assert_close(error, expected, rtol=0.02, atol=0)


def test_lines_are_shares_of_the_ceiling() -> None:
    clock = Clock(dry=True, budget=10, copy_rate=4e12, product_rate=8e14)
    assert clock.floor(4e6, 0) == pytest.approx(1.0)
    assert clock.floor(4e6, 8e9) == pytest.approx(10.0)
    row = Row("quantize", "lowbit", (8, 8), 4, 0, 20.0, 1.0, 10.0, target=0.7)
    assert row.share == 0.5
    assert "70% MISSED" in row.cells()
    assert markdown([row]).count("\n") == 3
    assert spread_of([1.0] * 10 + [2.0] * 10) == (1.5, 1.0)


def test_buffers_rotate_beyond_the_cache() -> None:
    clock = Clock(dry=False, budget=10)
    assert clock.copies(30e6) * 30e6 > 400e6
    assert clock.copies(1e3) == 64
    assert clock.copies(1e9) == 2


def test_without_a_gpu_the_benchmark_says_so(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    found = _gpu("--out", str(tmp_path))
    assert found.returncode == 2
    assert "there is no GPU; --dry runs the flow without one" in found.stderr


@pytest.mark.slow
def test_dry_run_of_the_gpu_benchmark(tmp_path: Path) -> None:
    found = _gpu("--dry", "--out", str(tmp_path))
    assert found.returncode == 0, found.stderr
    document = json.loads((tmp_path / "kernels_gpu.json").read_text())
    assert document["wrong"] == []
    rows = document["rows"]
    assert {"product", "quantize", "dequantize", "errors", "clip search", "binarize plain"} <= {
        row["operation"] for row in rows
    }
    products = [row for row in rows if row["operation"] == "product" and row["who"] == "lowbit"]
    assert all(row["error"] < 1e-6 for row in products)
    assert (tmp_path / "kernels_gpu.md").read_text().startswith("| operation | who |")


def _gpu(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.kernels_gpu", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=300)
