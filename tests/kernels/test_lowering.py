"""Every kernel compiles for GPUs that are not here, within its budget; what is wrong is said.

Compiling needs a process in which Triton is no interpreter, so the command line itself is what runs here.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from lowbit import lowering
from lowbit.compiler import Report, compile_variant
from lowbit.contract import LowbitError
from lowbit.variants import Variant

PACKAGE = Path(lowering.__file__).parent
QUICK = "4 bit asymmetric, group 128"
KEYS = ("name", "config", "registers", "spill_bytes", "shared_bytes", "instructions")
REPORT = Report("quantize", "4 bit", 48, 0, 1024, 600, 0, 2)


def _lowering(*arguments: str) -> subprocess.CompletedProcess[str]:
    # the command line must drop the variable itself: the tests of this folder set it
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "lowbit.lowering", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)


def test_two_kernels_compile_within_their_budget() -> None:
    found = _lowering("--arch", "90", "--json", "--only", QUICK)
    assert found.returncode == 0, found.stderr
    document = json.loads(found.stdout)
    assert {kernel["name"] for kernel in document["kernels"]} == {"quantize", "dequantize"}
    for kernel in document["kernels"]:
        assert all(key in kernel for key in KEYS)
        assert kernel["spill_bytes"] == 0
        assert 0 < kernel["registers"] <= 64
        assert kernel["instructions"] > 100
        assert kernel["wide_loads"] > 0
    assert document["triton"]
    assert document["assembler"]


@pytest.mark.slow
@pytest.mark.parametrize("arch", lowering.ARCHITECTURES)
def test_all_kernels_compile_without_spills(arch: int) -> None:
    found = _lowering("--arch", str(arch), "--json")
    assert found.returncode == 0, found.stderr
    kernels = json.loads(found.stdout)["kernels"]
    assert sum(kernel["spill_bytes"] for kernel in kernels) == 0
    assert {f"{kernel['name']}: {kernel['config']}" for kernel in kernels} == set(
        lowering.read_budget(lowering.BUDGET, arch)
    )


@pytest.mark.slow
def test_a_smaller_budget_fails_and_names_the_kernel(tmp_path: Path) -> None:
    budget = tmp_path / "budget.json"
    key = f"dequantize: {QUICK}"
    budget.write_text(json.dumps({"sm_90": {key: {"registers": 16, "shared_bytes": 2**16}}}))
    found = _lowering("--only", key, "--budget", str(budget))
    assert found.returncode == 1
    assert re.search(rf"error: {key} uses \d+ registers, its budget is 16", found.stderr)
    assert f"quantize: {QUICK} has no budget" not in found.stderr


def test_what_is_compiled_is_every_kernel_that_is_launched() -> None:
    """Kernels end in `_kernel` and are launched as `name[...]`; `variants` must name each of them."""
    launched, listed = set(), ""
    for path in PACKAGE.glob("triton_*.py"):
        tree = ast.parse(path.read_text())
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        launched |= {function.name for function in functions if function.name.endswith("_kernel")}
        listed += "".join(ast.unparse(node) for node in functions if not node.name.endswith("_kernel"))
        listed += "".join(ast.unparse(node) for node in tree.body if isinstance(node, (ast.Assign, ast.ClassDef)))
    assert launched
    assert {name for name in launched if name not in listed} == set()


def _said(asm: str = "", limit: dict[str, int] | None = None, *, exact: bool = False, **report: int) -> list[str]:
    variant = Variant("quantize", "4 bit", None, {}, {}, exact=exact, matrix=not exact)
    return lowering.complaints(variant, SimpleNamespace(asm={"ptx": asm}), replace(REPORT, **report), limit)


def test_what_is_wrong_is_said() -> None:
    assert _said(matrix_instructions=4) == []
    assert _said(matrix_instructions=4, spill_bytes=8) == ["quantize: 4 bit keeps 8 bytes a thread in local memory"]
    assert _said() == ["quantize: 4 bit was to use tensor cores and does not"]
    assert _said("div.full.f32 fma.rn.f32", exact=True) == [
        "quantize: 4 bit makes codes with div.full, which rounds otherwise than the contract",
        "quantize: 4 bit makes codes with fma.rn, which rounds otherwise than the contract",
    ]
    assert _said("div.rn.f32", {"registers": 48, "shared_bytes": 512}, exact=True) == [
        "quantize: 4 bit uses 1024 shared bytes, its budget is 512"
    ]


def test_budgets_are_rounded_up_and_kept_by_architecture(tmp_path: Path) -> None:
    path = tmp_path / "budget.json"
    lowering.write_budget(path, 80, [replace(REPORT, registers=250)])
    lowering.write_budget(path, 90, [REPORT])
    assert lowering.read_budget(path, 80) == {REPORT.key: {"registers": 255, "shared_bytes": 1024}}
    assert lowering.read_budget(path, 90) == {REPORT.key: {"registers": 48, "shared_bytes": 1024}}


@pytest.mark.parametrize(("text", "sentence"), [(None, "cannot be read"), ("{", "no list"), ("[]", "no list")])
def test_a_bad_budget_is_refused(text: str | None, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "budget.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(LowbitError, match=sentence):
        lowering.read_budget(path, 90)


def test_an_interpreted_kernel_is_refused() -> None:
    with pytest.raises(
        LowbitError, match="quantize: x cannot be compiled: triton was imported with TRITON_INTERPRET=1"
    ):
        compile_variant(Variant("quantize", "x", lambda: None, {}, {}), 90)
