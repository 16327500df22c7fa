"""The kernels of `triton_quant` as launches compile them (see `variants`): every width and scheme, every kind of group.

The dtype of the weight changes little but the width of its loads, so bfloat16 stands for all but one launch of each.
"""

from __future__ import annotations

from collections.abc import Iterator

from lowbit import triton_quant
from lowbit.contract import WIDTHS
from lowbit.variants import Variant, pass_variant

SCHEMES = ((False, "asymmetric"), (True, "symmetric"))
PLANES = {
    "scale_ptr": "*fp16", "zero_ptr": "*i16", "low_ptr": "*u8", "high_ptr": "*u8", "low_bytes": "i32",
    "high_bytes": "i32",
}  # fmt: skip


def variants(capability: int) -> Iterator[Variant]:
    """Quantize, dequantize and measure errors."""
    for bits in WIDTHS:
        for symmetric, scheme in SCHEMES:
            yield _quantize(capability, f"{bits} bit {scheme}", bits, symmetric)
        yield _dequantize(capability, f"{bits} bit asymmetric", bits, False)
    yield _dequantize(capability, "4 bit symmetric", 4, True)
    yield _dequantize(capability, "4 bit asymmetric, fp32", 4, False, out="*fp32")
    for bits in (3, 4):
        for group in (100, 4096):
            yield _quantize(capability, f"{bits} bit asymmetric", bits, False, group=group)
            yield _dequantize(capability, f"{bits} bit asymmetric", bits, False, group=group)
    yield _quantize(capability, "4 bit asymmetric, fp32", 4, False, weight="*fp32")
    yield _quantize(capability, "4 bit asymmetric, clipped", 4, False, clipped=True)
    yield _errors(capability, "4 bit", (4,))
    yield _errors(capability, "4 bit, clipped", (4,), clipped=True)
    yield _errors(capability, "all widths", WIDTHS)
    yield _errors(capability, "all widths", WIDTHS, group=4096)


def _quantize(
    capability: int, config: str, bits: int, symmetric: bool, *, weight: str = "*bf16", clipped: bool = False,
    group: int = 128,
) -> Variant:  # fmt: skip
    types = {"w_ptr": weight, "N": "i32", "K": "i32", "clip_ptr": "*fp32" if clipped else weight, **PLANES}
    options = {"BITS": bits, "SYMMETRIC": symmetric, "CLIPPED": clipped}
    kernel = triton_quant._quantize_kernel
    return pass_variant("quantize", config, kernel, types, options, capability=capability, group=group)


def _dequantize(
    capability: int, config: str, bits: int, symmetric: bool, *, out: str = "*bf16", group: int = 128
) -> Variant:
    types = {"out_ptr": out, "N": "i32", "K": "i32", **PLANES}
    options = {"BITS": bits, "SYMMETRIC": symmetric}
    kernel = triton_quant._dequantize_kernel
    return pass_variant("dequantize", config, kernel, types, options, capability=capability, group=group)


def _errors(
    capability: int, config: str, widths: tuple[int, ...], *, clipped: bool = False, group: int = 128
) -> Variant:
    types = {
        "w_ptr": "*bf16", "N": "i32", "K": "i32", "h_ptr": "*fp32", "clip_ptr": "*fp32" if clipped else "*bf16",
        "squared_ptr": "*fp32", "weighted_ptr": "*fp32",
    }  # fmt: skip
    options = {"WIDTHS": widths, "SYMMETRIC": False, "WEIGHTED": True, "CLIPPED": clipped}
    kernel = triton_quant._errors_kernel
    return pass_variant("errors", config, kernel, types, options, capability=capability, group=group)
