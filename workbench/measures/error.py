"""Errors of one quantized matrix: of its weights and, seen through the calibration inputs, of its outputs.

W is the weight `[out, in]`, Q its quantized stand-in, G = X^T X / T the Gram of the inputs. Sums are taken in float64.
Relative errors are amplitudes, not energies: 0.1 means that the error has a tenth of the norm. Where the reference is
zero, an error of zero is 0 and any other is infinite.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

ROWS_AT_ONCE = 1024
"""Bounds the float64 copies: 1024 rows of 16384 columns are 128 MiB."""


def _energy(matrix: Float[Tensor, "out in"]) -> float:
    return sum(float(part.double().square().sum()) for part in matrix.split(ROWS_AT_ONCE))


def _ratio(error: float, reference: float) -> float:
    """The square root of a quotient of energies; what rounding pushed below zero is zero."""
    if error <= 0:
        return 0.0
    return math.sqrt(error / reference) if reference > 0 else math.inf


def _row_ratios(error: Float[Tensor, " out"], reference: Float[Tensor, " out"]) -> Float[Tensor, " out"]:
    ratio = (error.clamp(min=0) / reference.clamp(min=0)).sqrt()
    return torch.where(error <= 0, 0.0, ratio)


def _difference(weight: Float[Tensor, "out in"], quantized: Float[Tensor, "out in"]) -> Float[Tensor, "out in"]:
    """In float32 at least: Q - W of two half-precision tensors would be rounded once more."""
    return weight.to(torch.promote_types(weight.dtype, torch.float32)) - quantized


def row_output_energies(weight: Float[Tensor, "out in"], gram: Float[Tensor, "in in"]) -> Float[Tensor, " out"]:
    """Mean square of each output over the calibration tokens, diag(W G W^T), float64."""
    held = gram.double()
    parts = [part.double() for part in weight.split(ROWS_AT_ONCE)]
    return torch.cat([((part @ held) * part).sum(1) for part in parts])


def weight_error(weight: Float[Tensor, "out in"], quantized: Float[Tensor, "out in"]) -> float:
    """Relative Frobenius error of the weights, |W - Q| / |W|."""
    return _ratio(_energy(_difference(weight, quantized)), _energy(weight))


def output_error_from_gram(
    weight: Float[Tensor, "out in"], quantized: Float[Tensor, "out in"], gram: Float[Tensor, "in in"]
) -> float:
    """Relative error of the layer's outputs, sqrt(tr((W-Q) G (W-Q)^T) / tr(W G W^T)), without the inputs themselves.

    Equal to `output_error_measured` on the inputs that G was collected from. A bias takes no part in it.
    """
    error = row_output_energies(_difference(weight, quantized), gram)
    return _ratio(float(error.sum()), float(row_output_energies(weight, gram).sum()))


def output_error_measured(
    weight: Float[Tensor, "out in"], quantized: Float[Tensor, "out in"], inputs: Float[Tensor, "tok in"]
) -> float:
    """Relative error of the layer's outputs on given inputs, |X (W - Q)^T| / |X W^T|."""
    held = inputs.double()
    error = held @ _difference(weight, quantized).double().T
    return _ratio(_energy(error), _energy(held @ weight.double().T))


def row_weight_errors(weight: Float[Tensor, "out in"], quantized: Float[Tensor, "out in"]) -> Float[Tensor, " out"]:
    """`weight_error` of every output channel by itself, float64."""
    error = _difference(weight, quantized).double().square().sum(1)
    return _row_ratios(error, weight.double().square().sum(1))


def channel_errors(
    weight: Float[Tensor, "out in"], quantized: Float[Tensor, "out in"], gram: Float[Tensor, "in in"]
) -> Float[Tensor, " out"]:
    """`output_error_from_gram` of every output channel by itself, float64."""
    return _row_ratios(row_output_energies(_difference(weight, quantized), gram), row_output_energies(weight, gram))


def sqnr_db(weight: Float[Tensor, "out in"], quantized: Float[Tensor, "out in"]) -> float:
    """Signal to quantization noise ratio of the weights in decibels, infinite when nothing changed.

    20 log10 of one over the relative weight error: 6.02 dB for each halving of the step.
    """
    error = weight_error(weight, quantized)
    if error == 0:
        return math.inf
    return -20 * math.log10(error)


def cosine(weight: Float[Tensor, "out in"], quantized: Float[Tensor, "out in"]) -> float:
    """Cosine between the two matrices seen as vectors; NaN when one of them is all zero."""
    products = [
        float((a.double() * b.double()).sum())
        for a, b in zip(weight.split(ROWS_AT_ONCE), quantized.split(ROWS_AT_ONCE), strict=True)
    ]
    norms = math.sqrt(_energy(weight)) * math.sqrt(_energy(quantized))
    return sum(products) / norms if norms > 0 else math.nan
