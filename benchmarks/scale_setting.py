"""The models, the device, the text and the places of docs/scale.md: what is assumed, in one place."""

from __future__ import annotations

from benchmarks.scale_costs import Device, Place, Shape, Text

SHAPES = (
    Shape("7B", 32, 4096, 11008, 32, 32, 32000),
    Shape("13B", 40, 5120, 13824, 40, 40, 32000),
    Shape("70B", 80, 8192, 28672, 64, 8, 32000),
)
"""Sizes as in Llama 2's configurations (Touvron et al. 2023)."""

USED = 0.4
"""Part of the published peak that is counted on: an assumption, not a measurement."""

H200 = Device("H200", USED * 989e12, USED * 4.8e12, 141e9, 55e9)
"""NVIDIA's data sheet: 989 TFLOP/s bf16 dense, 4.8 TB/s, 141 GB; the link is PCIe 5 x16 as it is met in practice."""

TEXT = Text(tokens=32_768, window=2048, at_once=2048)
"""Models of this size go through one window at a time (`single_changes.windows_at_once`)."""
SHARED = 2e9
"""Bytes a second at which one machine reads the shared folder."""

PLACES = (
    Place("one GPU", 1, 1, SHARED),
    Place("eight GPUs", 1, 8, SHARED),
    Place("4 machines of eight", 4, 8, SHARED),
    Place("16 machines of eight", 16, 8, SHARED),
)
