"""Seconds of the parts of a study on a device: the larger of arithmetic and traffic.

The roofline: Williams, Waterman, Patterson, CACM 2009. `scale_model` holds this against what was measured.
"""

from __future__ import annotations

from benchmarks.scale_costs import MATRICES, WIDTHS, Device, Shape, Text

NODES = 4
BACKWARD = 2
"""A backward pass in forward passes: gradients to inputs and to weights take a product each."""

CHANGES_AT_ONCE = 64
"""Cells that share a pass of a streamed model, as `studies.streamed_changes` has it."""


def runs_of(text: Text) -> int:
    """In how many runs of the model the text goes through."""
    return -(-text.tokens // text.at_once)


def forward_seconds(shape: Shape, device: Device, text: Text, first: int = 0) -> float:
    """A forward over the text from block `first` on; the weights are read from the device's memory once a run."""
    arithmetic = shape.operations(text.tokens, text.window, first) / device.operations
    return max(arithmetic, shape.bytes_behind(first) * runs_of(text) / device.traffic)


def part_seconds(shape: Shape, device: Device, text: Text) -> list[float]:
    """Seconds of every part of a measured table as workers make them: a matrix at all widths, in the queue's order.

    A part stands before its block by a whole forward, then resumes once a width.
    """
    stand = forward_seconds(shape, device, text)
    resumed = [forward_seconds(shape, device, text, block) for block in range(shape.layers)]
    return [stand + WIDTHS * one for one in resumed for _ in range(MATRICES)]


def alone_seconds(shape: Shape, device: Device, text: Text) -> list[float]:
    """The same table by one process, block by block: it stands before each block once, coming from the one before."""
    each = [forward_seconds(shape, device, text, block) for block in range(shape.layers)]
    return [each[max(0, block - 1)] + MATRICES * WIDTHS * each[block] for block in range(shape.layers)]


def streamed_seconds(shape: Shape, device: Device, text: Text) -> list[float]:
    """The same table when blocks come from the host: passes of 64 cells from their first block on, batch by batch."""
    found = [max(forward_seconds(shape, device, text), runs_of(text) * shape.bytes_behind(0) / device.link)]
    for first, cells in passes_of(shape):
        arithmetic = sum(forward_seconds(shape, device, text, block) for block in cells)
        found.append(max(arithmetic, runs_of(text) * shape.bytes_behind(first) / device.link))
    return found


def passes_of(shape: Shape) -> list[tuple[int, list[int]]]:
    """Of every pass its first block, and the block of each of its cells."""
    home = [block for block in range(shape.layers) for _ in range(MATRICES * WIDTHS)]
    groups = [home[start : start + CHANGES_AT_ONCE] for start in range(0, len(home), CHANGES_AT_ONCE)]
    return [(group[0], group) for group in groups]


def streamed_bytes(shape: Shape, text: Text) -> float:
    """Bytes that the host gives one process for such a table."""
    behind = sum(shape.bytes_behind(first) for first, _ in passes_of(shape))
    return runs_of(text) * (shape.bytes_behind(0) + behind)


def gradient_seconds(shape: Shape, device: Device, text: Text, *, streamed: bool = False) -> list[float]:
    """Seconds of every part of a table from gradients: a width with all its nodes.

    Streamed, all of the text goes through a block before the next one comes, forward and back, and each block runs
    once more on the way back.
    """
    one = forward_seconds(shape, device, text)
    node = max((2 + BACKWARD) * one, 2 * shape.bytes_behind(0) / device.link) if streamed else (1 + BACKWARD) * one
    return [NODES * node] * WIDTHS
