"""What a Triton module tells the compiler about its kernels, so that each can be compiled where there is no GPU.

Every `triton_*` module with kernels of its own has a function `variants(capability)` that yields one `Variant` for each
way in which its launchers may start a kernel on a GPU of that compute capability (10 * major + minor): width, scheme,
kind of group, dtype. `lowbit.lowering` compiles them all, so a list is short: what differs in code, not in numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lowbit.configs import launch_shape


@dataclass(frozen=True, eq=False)
class Variant:
    """One kernel as one of its launches would compile it.

    Attributes:
        name: the kernel, in a word, such as "quantize".
        config: which launch, in words that differ among the variants of one name: "4 bit, group 128, bf16".
        kernel: the `triton.jit` function.
        signature: type of each run-time argument: "*bf16", "*u8", "i32", "fp32"; nested tuples for a tuple argument.
        constexprs: value of each compile-time argument.
        options: `num_warps`, `num_stages`, `enable_fp_fusion`.
        aligned: integer arguments that are multiples of 16 in this launch. Pointers always are taken to be.
        exact: the kernel makes codes, so that no product and sum may be fused and no division approximate.
        matrix: the kernel is to use tensor cores.
    """

    name: str
    config: str
    kernel: Any
    signature: Mapping[str, Any]
    constexprs: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    aligned: tuple[str, ...] = ()
    exact: bool = False
    matrix: bool = False

    @property
    def key(self) -> str:
        """Name and config, which together are unique."""
        return f"{self.name}: {self.config}"


def pass_variant(
    name: str,
    config: str,
    kernel: Any,
    types: Mapping[str, str],
    constexprs: Mapping[str, Any],
    *,
    capability: int,
    group: int = 128,
    columns: int = 4096,
    exact: bool = True,
) -> Variant:
    """A variant of a kernel that `triton_common.launch` starts: one program for some rows of one group.

    Args:
        name: the operation in `configs`.
        config: as in `Variant`, without the group.
        kernel: as in `Variant`.
        types: types of all run-time arguments.
        constexprs: those that `launch` does not set itself.
        capability: compute capability.
        group: columns of a group.
        columns: columns of the weight.
        exact: as in `Variant`.
    """
    bits = constexprs.get("BITS") or max(constexprs.get("WIDTHS", (1,)))
    shape = launch_shape(name, bits=bits, rows=4096, columns=columns, group=group, capability=capability)
    tile = shape.block_columns
    whole = tile == group and columns % group == 0
    own = {"G": group, "TILE": tile, "BLOCK_ROWS": shape.block_rows, "WHOLE": whole}
    counts = tuple(kind for kind, type_name in types.items() if type_name == "i32")
    options = {"num_warps": shape.num_warps, "enable_fp_fusion": False}
    return Variant(
        name, f"{config}, group {group}", kernel, types, {**constexprs, **own}, options, counts if whole else (), exact
    )
