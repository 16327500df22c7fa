"""How values from outside stand in a message."""

import pytest

from workbench.errors import shown


@pytest.mark.parametrize(
    ("value", "limit", "said"),
    [
        ("abc", 80, "'abc'"),
        ("abcdefghij", 8, "'abcde…'"),
        ("it's so long", 8, '"it\'s …"'),
        ([1, 2, 3, 4], 8, "[1, 2, …"),
        ("a\x00b", 80, "'a\\x00b'"),
    ],
)
def test_a_value_is_cut_and_its_quote_closed(value: object, limit: int, said: str) -> None:
    assert shown(value, limit) == said
    assert len(said) <= limit
