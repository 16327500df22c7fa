"""How numbers are written."""

import math

import pytest

from workbench.ui.numbers import MINUS, NONE, duration, number, percent, plural, size


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0.00"),
        (1.23456, "1.23"),
        (-1.23456, f"{MINUS}1.23"),
        (0.012345, "0.0123"),
        (123.456, "123"),
        (260032, "260,032"),
        (1.5e-7, "1.50e-07"),
        (2.5e9, "2.50e+09"),
        (None, NONE),
        (math.nan, NONE),
        (math.inf, NONE),
    ],
)
def test_numbers(value: float | None, text: str) -> None:
    assert number(value) == text


def test_a_sign_is_written_when_it_is_asked_for() -> None:
    assert [number(value, sign=True) for value in (1.0, -1.0, 0.0)] == ["+1.00", f"{MINUS}1.00", "0.00"]


def test_shares_sizes_times_and_counts() -> None:
    assert percent(0.1234) == "12 %"
    assert [percent(share) for share in (None, 0.0, 1e-9, -0.5)] == [NONE, "0.0 %", "under 0.001 %", f"{MINUS}50 %"]
    assert [size(count) for count in (520_064, 2_100_000, 3.5e9, 12, None)] == [
        "520 kB",
        "2.1 MB",
        "3.5 GB",
        "12 bytes",
        NONE,
    ]
    assert [duration(seconds) for seconds in (0.2, 59, 120, 7200, None)] == ["1 s", "59 s", "2 min", "2.0 h", NONE]
    assert [plural(1, "matrix", "matrices"), plural(28, "matrix", "matrices")] == ["1 matrix", "28 matrices"]
