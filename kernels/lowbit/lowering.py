"""Compile every kernel for a GPU that is not here, and hold what the compiler reports against a budget.

    python -m lowbit.lowering --arch 90 --json

The wheel of Triton carries the assembler and the disassembler, so registers, spilled bytes, shared memory and machine
instructions are known without a GPU, a driver or a CUDA toolkit. These are compiler reports, not timings.

A kernel fails if it keeps anything in local memory, needs more than its budget, uses a fused or approximate operation
where it makes codes, or was to use tensor cores and does not.
"""

# A command line prints:
# ruff: noqa: T201

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lowbit.compiler import Report, compile_variant, report
from lowbit.contract import LowbitError
from lowbit.variants import Variant

ARCHITECTURES = (80, 90)
BUDGET = Path(__file__).parent / "lowering_budget.json"
INEXACT = ("div.full", "div.approx", "fma.rn")
"""Instructions that change codes: see `lowbit.contract`."""
REGISTER_STEP, SHARED_STEP = 16, 1024
"""A budget is what was measured, rounded up to these, so that another patch release of the compiler fits."""


def all_variants(arch: int) -> list[Variant]:
    """The variants of every Triton module of the package, in the order of module names."""
    names = sorted(
        info.name for info in pkgutil.iter_modules([str(Path(__file__).parent)]) if info.name.startswith("triton_")
    )
    modules = [importlib.import_module(f"lowbit.{name}") for name in names]
    found = [variant for module in modules if hasattr(module, "variants") for variant in module.variants(arch)]
    repeated = {variant.key for variant in found if sum(other.key == variant.key for other in found) > 1}
    if repeated:
        raise LowbitError(f"two kernels to compile have one name: {sorted(repeated)[0]}")
    return found


def complaints(variant: Variant, compiled: Any, found: Report, limit: Mapping[str, int] | None) -> list[str]:
    """What is wrong with a compiled kernel, one sentence each; `limit` is its part of the budget."""
    wrong = []
    if found.spill_bytes:
        wrong.append(f"keeps {found.spill_bytes} bytes a thread in local memory")
    if variant.exact:
        used = [name for name in INEXACT if name in compiled.asm["ptx"]]
        wrong += [f"makes codes with {name}, which rounds otherwise than the contract" for name in used]
    if variant.matrix and not found.matrix_instructions:
        wrong.append("was to use tensor cores and does not")
    for key, value in (limit or {}).items():
        if getattr(found, key) > value:
            wrong.append(f"uses {getattr(found, key)} {key.replace('_', ' ')}, its budget is {value}")
    return [f"{variant.key} {sentence}" for sentence in wrong]


def budget_of(found: Report) -> dict[str, int]:
    """The budget that a kernel gets when budgets are written."""
    registers = min(255, -(-found.registers // REGISTER_STEP) * REGISTER_STEP)
    return {"registers": registers, "shared_bytes": -(-found.shared_bytes // SHARED_STEP) * SHARED_STEP}


def read_budget(path: Path, arch: int) -> dict[str, dict[str, int]]:
    """The budgets of one architecture by kernel.

    Raises:
        LowbitError: the file cannot be read, or has nothing for the architecture.
    """
    try:
        return json.loads(path.read_text())[f"sm_{arch}"]
    except OSError as error:
        raise LowbitError(f"the budget {path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise LowbitError(f"the budget {path} has no list of kernels for sm_{arch}") from error


def write_budget(path: Path, arch: int, found: Iterable[Report]) -> None:
    """Replace one architecture's budgets in a file."""
    document = json.loads(path.read_text()) if path.is_file() else {}
    document[f"sm_{arch}"] = {one.key: budget_of(one) for one in sorted(found, key=lambda one: one.key)}
    path.write_text(json.dumps(dict(sorted(document.items())), indent=1) + "\n")


def survey(
    variants: Iterable[Variant], arch: int, budget: Mapping[str, Mapping[str, int]] | None
) -> Iterator[tuple[Report | None, list[str]]]:
    """Compile one variant after the other: its report, if it compiles, and what is wrong with it.

    Without a budget none is held.
    """
    for variant in variants:
        try:
            compiled = compile_variant(variant, arch)
            found = report(variant, compiled)
        except LowbitError as error:
            yield None, [str(error)]
            continue
        wrong = complaints(variant, compiled, found, None if budget is None else budget.get(variant.key))
        if budget is not None and variant.key not in budget:
            wrong.append(f"{variant.key} has no budget; add one with --write-budget")
        yield found, wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    os.environ.pop("TRITON_INTERPRET", None)
    try:
        budget = None if options.write_budget else read_budget(options.budget, options.arch)
        chosen = [variant for variant in all_variants(options.arch) if options.only in variant.key]
        found, wrong = [], []
        for one, sentences in survey(chosen, options.arch, budget):
            wrong += sentences
            if one is not None:
                found.append(one)
            if one is not None and not options.json:
                print(_line(one), flush=True)
    except LowbitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.write_budget:
        write_budget(options.budget, options.arch, found)
    if options.json:
        print(json.dumps({"arch": options.arch, **_versions(), "kernels": [asdict(one) for one in found]}, indent=1))
    for sentence in wrong:
        print(f"error: {sentence}", file=sys.stderr)
    return 1 if wrong or not found else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lowbit.lowering", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--arch", type=int, choices=ARCHITECTURES, default=90, help="compute capability, 80 or 90")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of lines")
    parser.add_argument("--only", default="", metavar="TEXT", help="only kernels whose name or config has this in it")
    parser.add_argument("--budget", type=Path, default=BUDGET, metavar="FILE", help="limits; the package has its own")
    parser.add_argument("--write-budget", action="store_true", help="write the limits instead of holding them")
    return parser


def _versions() -> dict[str, str]:
    import triton
    from triton import knobs

    return {"triton": triton.__version__, "assembler": knobs.nvidia.ptxas.version}


def _line(one: Report) -> str:
    return (
        f"{one.key:72} {one.registers:4} registers {one.spill_bytes:4} spilled {one.shared_bytes:7} shared "
        f"{one.instructions:6} instructions {one.matrix_instructions:4} matrix {one.wide_loads:3} wide loads"
    )


if __name__ == "__main__":
    sys.exit(main())
