"""The one list of column names that tidy tables use, and the version of what studies return."""

from __future__ import annotations

from collections.abc import Iterable

STUDY_VERSION = 1
"""Part of every result's key: raised when a study returns other numbers or columns for the same question."""

COLUMNS: dict[str, str] = {
    # what a row is about
    "matrix": "parameter name of a quantizable matrix",
    "block": "index of the transformer layer, empty outside of layers",
    "role": "last module name, such as down_proj",
    "rows": "outputs of the matrix",
    "columns": "inputs of the matrix",
    "parameters": "number of weights",
    "channel": "index of a channel: an input, or an output where the table says so",
    "position": "index of a token in its prompt",
    "token": "text of a token",
    "window": "index of an evaluation window",
    "method": "attribution method",
    "metric": "salience metric",
    "label": "name of a choice, for people",
    # how bits are taken
    "quantizer": "how bits are taken",
    "bits": "width of a code; empty for quantizers of fixed width",
    "group_size": "input columns that share a scale; -1 is the whole row",
    "symmetric": "whether the grid has no zero point",
    "nominal_bits": "bits a weight as the paper counts them",
    "stored_bits": "bits a weight of all that is stored",
    # sizes in bytes at a width of 16, 8, 4, 3 and 2 bits
    "bytes_16": "bytes at 16 bits",
    "bytes_8": "bytes at 8 bits",
    "bytes_4": "bytes at 4 bits",
    "bytes_3": "bytes at 3 bits",
    "bytes_2": "bytes at 2 bits",
    # scores
    "score": "salience or attribution, in the unit of its method",
    "magnitude": "sum of absolute scores",
    "value": "a measured or stored number, in the unit that the table names",
    "mean": "mean of the scores of a matrix",
    "max": "largest score of a matrix",
    "gini": "Gini coefficient of the scores, 0 (even) to 1",
    "top1pct_share": "share of the total score in the largest hundredth of the weights",
    "weight_share": "share of the weights, largest score first",
    "salience_share": "share of the total score that those weights hold",
    "low": "lower edge of a bin",
    "high": "upper edge of a bin",
    "count": "how many fall into the bin or onto the level",
    "original": "weights in the bin before quantization",
    "quantized": "weights in the bin after quantization",
    # what it costs
    "weight_error": "relative Frobenius error of the weights",
    "output_error": "relative error of the outputs on the calibration text",
    "sqnr_db": "signal to quantization noise of the weights, dB",
    "cosine": "cosine between original and quantized weights",
    "perplexity": "exp of the mean loss",
    "loss": "mean negative log likelihood of a token, nats",
    "reference_loss": "the same of the model as it was loaded, nats",
    "standard_error": "standard error over windows, in the unit of the number beside it",
    "delta_loss": "loss minus reference loss, nats",
    "delta_standard_error": "standard error of the paired difference over windows, nats",
    "operation": "kernel of the lowbit package",
    "backend": "what the kernel runs on: torch or triton",
    "seconds": "best time of one run over all the matrices",
    "weights_per_second": "weights worked through a second",
    "bytes_per_second": "bytes that must be read and written, over the time",
    "share_of_copy": "that rate as a share of this machine's own copy rate",
    "kl_mean": "mean divergence of the next-token distribution from the reference, nats",
    "top1_agreement": "share of positions with the same likeliest next token",
}
"""Column -> what it holds and in which unit; a page shows it as the help text of the column."""


def unknown_columns(names: Iterable[str]) -> list[str]:
    """The names that are not in the vocabulary, sorted: empty for a table that keeps to it."""
    return sorted(set(names) - set(COLUMNS))
