"""The published loops of GPTQ and of SliM-LLM's bit search, step by step: plain float32 torch, nothing kept back.

Written from descriptions of the official code. As there, every column allocates its own results and the block keeps
losses beside errors; every candidate of the bit search is quantized and multiplied afresh. Two things follow our rules
so that results can be compared: scales are rounded to fp16, and one bit is a sign about zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

DAMPING = 0.01
BLOCK = 128


def grid(weights: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Step and zero point of each row of a group [out, columns]."""
    nothing = torch.zeros(len(weights))
    low, high = torch.minimum(weights.min(1)[0], nothing), torch.maximum(weights.max(1)[0], nothing)
    scale = ((high - low) / (2**bits - 1)).half().float().clamp(min=2**-24)
    return scale.unsqueeze(1), torch.round(-low / scale).unsqueeze(1)


def round_to(weights: Tensor, scale: Tensor, zero: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Values and codes."""
    codes = torch.clamp(torch.round(weights / scale) + zero, 0, 2**bits - 1)
    return scale * (codes - zero), codes


def gptq_factor(gram: Tensor) -> Tensor:
    """Damp, factor, invert, factor again."""
    hessian = 2 * gram
    dead = hessian.diagonal() == 0
    hessian[dead, dead] = 1
    places = torch.arange(len(hessian))
    hessian[places, places] += DAMPING * hessian.diagonal().mean()
    hessian = torch.linalg.cholesky(hessian)
    hessian = torch.cholesky_inverse(hessian)
    return torch.linalg.cholesky(hessian, upper=True)


def gptq_sweep(weight: Tensor, upper: Tensor, bits: int, group: int) -> Tensor:
    """Codes of one sweep with dynamic groups."""
    weight = weight.clone()
    rows, columns = weight.shape
    quantized, losses, codes = torch.zeros_like(weight), torch.zeros_like(weight), torch.zeros_like(weight)
    scale = zero = torch.zeros(rows, 1)
    for start in range(0, columns, BLOCK):
        stop = min(start + BLOCK, columns)
        part = weight[:, start:stop].clone()
        values, errors, lost = torch.zeros_like(part), torch.zeros_like(part), torch.zeros_like(part)
        inverse = upper[start:stop, start:stop]
        for place in range(stop - start):
            column, pivot = part[:, place], inverse[place, place]
            if (start + place) % group == 0:
                scale, zero = grid(weight[:, start + place : start + place + group], bits)
            rounded, code = round_to(column.unsqueeze(1), scale, zero, bits)
            values[:, place], codes[:, start + place] = rounded.flatten(), code.flatten()
            lost[:, place] = (column - rounded.flatten()) ** 2 / pivot**2
            error = (column - rounded.flatten()) / pivot
            part[:, place:] -= error.unsqueeze(1).matmul(inverse[place, place:].unsqueeze(0))
            errors[:, place] = error
        quantized[:, start:stop], losses[:, start:stop] = values, lost / 2
        weight[:, stop:] -= errors.matmul(upper[start:stop, stop:])
    return codes


def gptq(weight: Tensor, gram: Tensor, bits: int, group: int) -> Tensor:
    """Codes from the Gram on."""
    return gptq_sweep(weight, gptq_factor(gram), bits, group)


def round_groups(weight: Tensor, widths: list[int], group: int) -> Tensor:
    """Round to nearest, each group of columns at its width."""
    values = torch.zeros_like(weight)
    for place, bits in enumerate(widths):
        part = weight[:, place * group : (place + 1) * group]
        if bits == 1:
            size = part.abs().mean(1, keepdim=True).half().float()
            rounded = torch.where(part >= 0, size, -size)
        else:
            rounded, _ = round_to(part, *grid(part, bits), bits)
        values[:, place * group : (place + 1) * group] = rounded
    return values


def bit_search(weight: Tensor, scores: Tensor, sequences: list[Tensor], bits: int, group: int) -> list[int]:
    """Widths of the groups: the candidate with the least KL(quantized || original), mean over the sequences.

    One candidate more than published, the uniform one, which ours has too.
    """
    order = scores.argsort(stable=True).tolist()
    wanted = [rows @ weight.T for rows in sequences]
    least, best = float("inf"), [bits] * len(order)
    for count in range(len(order) // 2 + 1):
        widths = [bits] * len(order)
        for low, high in zip(order[:count], order[::-1], strict=False):
            widths[low], widths[high] = bits - 1, bits + 1
        values = round_groups(weight, widths, group)
        total = 0.0
        for rows, output in zip(sequences, wanted, strict=True):
            target, log_wanted = torch.softmax(rows @ values.T, dim=-1), torch.log_softmax(output, dim=-1)
            total += float(torch.nn.functional.kl_div(log_wanted, target, reduction="batchmean"))
        if total / len(sequences) < least:
            least, best = total / len(sequences), widths
    return best
