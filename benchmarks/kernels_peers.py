"""The peers of the products, where they can be had: cuBLAS, torch's own 4-bit product, gemlite and hqq.

All get the same codes, groups of 128 and one scale and zero point a group. A peer whose package has another version
than was read, or that refuses a shape, is left out with one line that says why.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks.kernels_cases import GROUP, Setting, deviation
from benchmarks.kernels_timing import Row
from lowbit import PackedWeight, triton_quant

Product = Callable[[Tensor], Tensor]


def peers(setting: Setting) -> Iterator[Row]:
    """Every peer at every number of rows of x."""
    yield from dense(setting)
    for bits in setting.widths:
        held = triton_quant.quantize(setting.weight(), bits, GROUP, False)
        for name, make in (("torch int4", tinygemm), ("gemlite", gemlite), ("hqq", hqq)):
            try:
                makers = [make(one, setting) for one in setting.rotated(held)]
                if makers[0] is not None:
                    yield from timed(setting, name, held, makers)
            # peers of any version may fail in any way, and none of it is ours
            except Exception as error:  # noqa: BLE001
                print(f"{name}, {bits} bit, left out: {type(error).__name__}: {str(error)[:120]}", flush=True)


def timed(setting: Setting, name: str, held: PackedWeight, products: list[Product | None]) -> Iterator[Row]:
    for inputs in setting.inputs:
        x = torch.randn(inputs, setting.shape[1], device=setting.device).to(setting.dtype)
        calls = [lambda run=run, x=x: run(x) for run in products if run is not None]
        error = deviation(calls[0](), x, held)
        nbytes = held.nbytes + (x.numel() + inputs * setting.shape[0]) * setting.dtype.itemsize
        yield setting.row("product", held.bits, inputs, calls, nbytes, error=error, who=name)


def dense(setting: Setting) -> Iterator[Row]:
    """The product that nothing was done to: torch's, in bfloat16."""
    size = setting.shape[0] * setting.shape[1] * setting.dtype.itemsize
    weights = setting.weights(size)
    for inputs in setting.inputs:
        x = torch.randn(inputs, setting.shape[1], device=setting.device).to(setting.dtype)
        calls = [lambda w=w, x=x: torch.nn.functional.linear(x, w) for w in weights]
        nbytes = size + (x.numel() + inputs * setting.shape[0]) * setting.dtype.itemsize
        yield setting.row("product", 16, inputs, calls, nbytes, who="torch dense")


def tinygemm(held: PackedWeight, setting: Setting) -> Product | None:
    """torch's 4-bit product: value = (code - 8) * scale + zero, with zero = (8 - z) * scale."""
    if held.bits != 4 or setting.clock.dry or held.zero is None:
        return None
    codes = held.codes()
    packed = torch._convert_weight_to_int4pack((codes[:, ::2] << 4 | codes[:, 1::2]).contiguous(), 8)
    scale = held.scale.float()
    grid = torch.stack([scale, (8 - held.zero.float()) * scale], -1).transpose(0, 1).contiguous().bfloat16()
    return lambda x: torch._weight_int4pack_mm(x, packed, GROUP, grid)


def gemlite(held: PackedWeight, setting: Setting) -> Product | None:
    if held.bits == 3 or setting.clock.dry or held.zero is None or importlib.util.find_spec("gemlite") is None:
        return None
    from gemlite.core import DType, GemLiteLinear

    rows, columns = held.shape
    layer = GemLiteLinear(held.bits, GROUP, columns, rows, input_dtype=DType.BF16, output_dtype=DType.BF16)
    scale, zero = (part.to(setting.dtype).reshape(-1, 1) for part in (held.scale, held.zero))
    layer.pack(held.codes(), scale, zero, None)
    return layer.forward


def hqq(held: PackedWeight, setting: Setting) -> Product | None:
    """Its own packing, dequantized before a dense product."""
    if setting.clock.dry or held.zero is None or importlib.util.find_spec("hqq") is None:
        return None
    from hqq.core.quantize import Quantizer

    form = Quantizer.bit_to_packing[held.bits]
    packed = Quantizer.pack[form](held.codes().reshape(-1, GROUP))
    scale, zero = (part.to(setting.dtype).reshape(-1, 1) for part in (held.scale, held.zero))
    unpack, count = Quantizer.unpack[form], held.shape[0] * held.shape[1] // GROUP

    def run(x: Tensor) -> Tensor:
        codes = unpack(packed, dtype=setting.dtype)[:count]  # three bits are padded
        return x @ ((codes - zero) * scale).view(held.shape).t()

    return run
