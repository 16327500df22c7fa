"""One kernel compiled for a GPU that need not be here, and what its machine code says about it.

Triton is imported inside the functions: its library is bound to the compiler or to the interpreter when it is first
imported, and a command line must be able to choose before that.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lowbit.contract import LowbitError
from lowbit.variants import Variant


@dataclass(frozen=True)
class Report:
    """What the compiler says of one kernel.

    Attributes:
        name: the kernel.
        config: which launch of it.
        registers: of a thread.
        spill_bytes: stack and local memory of a thread.
        shared_bytes: shared memory of a program.
        instructions: machine instructions, `NOP` not counted.
        matrix_instructions: those of them that use tensor cores.
        wide_loads: those of them that load 16 bytes a thread from global memory.
    """

    name: str
    config: str
    registers: int
    spill_bytes: int
    shared_bytes: int
    instructions: int
    matrix_instructions: int
    wide_loads: int

    @property
    def key(self) -> str:
        """As `Variant.key`."""
        return f"{self.name}: {self.config}"


def compile_variant(variant: Variant, arch: int) -> Any:
    """The compiled kernel, as `triton.compile` returns it. Triton keeps it in its cache folder.

    Raises:
        LowbitError: this process runs Triton's interpreter, which has nothing to compile; the variant does not fit
            its kernel; or the kernel does not compile.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.errors import TritonError

    names = getattr(variant.kernel, "arg_names", None)
    if names is None or not isinstance(variant.kernel, triton.JITFunction):
        raise LowbitError(f"{variant.key} cannot be compiled: triton was imported with TRITON_INTERPRET=1 set")
    unknown = ({*variant.signature, *variant.constexprs}) ^ set(names)
    if unknown:
        raise LowbitError(f"{variant.key}: the variant and the kernel disagree about {', '.join(sorted(unknown))}")
    signature = {name: variant.signature.get(name, "constexpr") for name in names}
    source = ASTSource(
        fn=variant.kernel,
        signature=signature,
        constexprs={(names.index(name),): value for name, value in variant.constexprs.items()},
        attrs={path: [["tt.divisibility", 16]] for path in _aligned(signature, variant.aligned)},
    )
    try:
        return triton.compile(source, target=GPUTarget("cuda", arch, 32), options=dict(variant.options))
    except TritonError as error:
        raise LowbitError(f"{variant.key} does not compile: {_first_cause(error)}") from error


def _first_cause(error: BaseException) -> str:
    """What the innermost function that was being compiled has to say; the outer ones only repeat where it is."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())


def _aligned(signature: Mapping[str, Any], integers: Sequence[str]) -> Iterator[tuple[int, ...]]:
    """Places of the arguments that are multiples of 16: all pointers, and the integers that are named."""
    for place, (name, kind) in enumerate(signature.items()):
        for path, leaf in _leaves(kind, (place,)):
            if leaf.startswith("*") or (name in integers and leaf.startswith("i")):
                yield path


def _leaves(kind: Any, path: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], str]]:
    """The types in a nested tuple of types, each with the way to it."""
    if isinstance(kind, str):
        yield path, kind
    else:
        for place, part in enumerate(kind):
            yield from _leaves(part, (*path, place))


def report(variant: Variant, compiled: Any) -> Report:
    """Resources and instruction counts of a compiled kernel, from its machine code."""
    text = _disassemble(compiled.asm["cubin"])
    used = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", text)
    if used is None:
        raise LowbitError(f"{variant.key}: the disassembler reports no resources")
    registers, stack, local = (int(number) for number in used.groups())
    codes = re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)", text, re.MULTILINE)
    return Report(
        variant.name, variant.config, registers, stack + local, compiled.metadata.shared,
        instructions=sum(code != "NOP" for code in codes),
        matrix_instructions=sum(code.startswith(("HMMA", "HGMMA", "IMMA", "QGMMA")) for code in codes),
        wide_loads=sum(code.startswith(("LDG", "LDGSTS")) and ".128" in code for code in codes),
    )  # fmt: skip


def _disassemble(cubin: bytes) -> str:
    from triton import knobs

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        command = [knobs.nvidia.cuobjdump.path, "-res-usage", "-sass", str(path)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
