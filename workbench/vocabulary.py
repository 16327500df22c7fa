"""The one list of column names that tidy tables use, and the version of what studies return."""

from __future__ import annotations

from collections.abc import Iterable

STUDY_VERSION = 2
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
    "window": "index of a window of the text",
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
    "scope": "what scores are summed to: group of inputs, channel or matrix",
    "output": "first of a run of outputs",
    "input": "first of a run of inputs",
    "low": "lower edge of a bin",
    "high": "upper edge of a bin",
    "count": "how many fall into the bin or onto the level",
    "original": "weights in the bin before quantization",
    "quantized": "weights in the bin after quantization",
    # windows of the calibration text
    "text": "beginning of the text that a row is about",
    "el2n": "mean over tokens of the distance between predicted probabilities and the token that came, 0 to 1.414",
    "grand": "norm of the gradient of the window's mean loss over all matrices, nats",
    "fisher_share": "share of the window in the sum of squared gradients, the trace of the Fisher matrix",
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
    # predictions held against measurements
    "predicted": "change of the loss that a metric predicts, nats; a relative error for output_error",
    "measured_isolated": "rise of the loss with this matrix alone quantized, calibration text, nats",
    "measured_isolated_heldout": "the same on the evaluation text, nats",
    "path_share": "the matrix's part of the joint path integral, nats",
    "measured": "rise of the loss with all matrices quantized, calibration text, nats",
    "measured_error": "its paired standard error, nats",
    "sum_isolated": "the rises of single matrices added up, nats",
    "measured_heldout": "rise with all matrices quantized, evaluation text, nats",
    "sum_isolated_heldout": "the rises of single matrices added up, evaluation text, nats",
    "share": "part of the weights that is kept at full precision",
    "added_bits": "stored bits a weight that the kept ones add, 48 each",
    "rise": "rise of the loss that is left, calibration text, nats",
    "rise_error": "its paired standard error, nats",
    "rise_heldout": "rise of the loss that is left, evaluation text, nats",
    "rise_heldout_error": "its paired standard error, nats",
    "other": "the metric that it is compared with",
    "spearman": "Spearman's rank correlation, -1 to 1",
    "overlap": "part of the top weights that both have in common",
    # a prompt held against the calibration text
    "weight_overlap": "part of the top weights, where overlap is of the top channels",
    "passage_spearman": "the rank correlation of passages of the calibration text, their mean",
    "passage_overlap": "overlap of channels of such passages, their mean",
    "passage_weight_overlap": "overlap of weights of such passages, their mean",
    "prompt_score": "share of the matrix's salience on the prompt, mean of a run of channels",
    "calibration_score": "the same on the calibration text",
    # speed
    "operation": "kernel of the lowbit package",
    "backend": "what the kernel runs on: torch or triton",
    "reason": "why that backend serves the call",
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
