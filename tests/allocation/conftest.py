"""Tables of sensitivity with known shapes, and one plan that uses every field of the format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from workbench.scheme import affine_stored_bits

Rows = list[dict[str, Any]]


def make_rows(
    values: Mapping[str, Mapping[int, float | None]], shapes: Mapping[str, Sequence[int]], group_size: int = 64
) -> Rows:
    """Cells of rtn, asymmetric, from value tables `{matrix: {bits: value}}`."""
    return [
        {
            "matrix": name,
            "bits": bits,
            "group_size": group_size,
            "quantizer": "rtn",
            "symmetric": False,
            "parameters": shapes[name][0] * shapes[name][1],
            "stored_bits": affine_stored_bits(shapes[name][0], shapes[name][1], bits, group_size, False),
            "value": value,
            "standard_error": None if value is None else abs(value) / 10,
        }
        for name, table in values.items()
        for bits, value in table.items()
    ]


@pytest.fixture(name="make_rows", scope="session")
def make_rows_fixture() -> Callable[..., Rows]:
    return make_rows


@pytest.fixture
def golden() -> bytes:
    return (Path(__file__).parent / "data" / "plan-1.1.0.json").read_bytes()


@pytest.fixture
def identity() -> dict[str, Any]:
    return {
        "id": "golden",
        "revision": None,
        "architecture": "LlamaForCausalLM",
        "dtype": "float32",
        "config_sha256": "1" * 64,
        "weights_sha256": "2" * 64,
        "tokenizer_sha256": "3" * 64,
        "parameters": 12345,
        "digest": "0123456789abcdef",
    }
