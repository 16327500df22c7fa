"""`workbench doctor`: one set of facts, JSON for programs, plain aligned lines for people."""

from __future__ import annotations

from typing import Any

from workbench.cli.doctor import lines


def test_people_get_aligned_lines_without_python_in_them(command: Any) -> None:
    told = command("doctor").out.splitlines()
    assert len(told) == len({line[:14] for line in told}) > 12
    assert all(line[13] == " " and line[14] != " " for line in told)
    assert not set("{}'[]") & set("".join(told))
    assert "None" not in "".join(told)


def test_what_is_missing_is_said_in_words(command: Any) -> None:
    found = command("doctor", "--json").document
    found |= {"triton": None, "chromium": None, "demo": False, "cache": {**found["cache"], "writable": False}}
    found["amx"] = {"flags": ["amx_bf16", "amx_tile"], "products": found["amx"]["products"]}
    told = dict(lines(found))
    assert told["triton"] == "not installed"
    assert told["amx"] == "amx_bf16, amx_tile"
    assert "WORKBENCH_DEMO" in told["demo model"]
    assert "set WORKBENCH_CACHE" in told["cache"]
    assert "only tests" in told["chromium"]
