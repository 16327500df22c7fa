"""Sizes as people write them."""

from __future__ import annotations

import pytest

from workbench.errors import WorkbenchError
from workbench.sizes import parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GiB", 4 * 2**30),
        ("4 gib", 4 * 2**30),
        ("512MiB", 512 * 2**20),
        ("1.5 KiB", 1536),
        ("2GB", 2 * 10**9),
        ("2g", 2 * 10**9),
        ("500 MB", 500 * 10**6),
        ("12", 12),
        ("1Ti", 2**40),
    ],
)
def test_decimal_and_binary_units_differ(text: str, size: int) -> None:
    assert parse_size(text, "--memory-limit") == size


@pytest.mark.parametrize("text", ["", "GiB", "4 iB", "-1", "1e9", "4GiBs", "nan", "9999999999 TB"])
def test_anything_else_is_named_with_examples(text: str) -> None:
    with pytest.raises(WorkbenchError, match=r"memory limit has value '.*'; write a size such as 500 MB, 2 GB or 4GiB"):
        parse_size(text, "memory limit")
