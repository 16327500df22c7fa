"""The second stage of the demo model's training: which tokens count as repeated."""

import importlib.util
from types import ModuleType

import pytest

from workbench.settings import PROJECT

END = 1


@pytest.fixture(scope="module")
def stage() -> ModuleType:
    spec = importlib.util.spec_from_file_location("unrepeat_demo", PROJECT / "tools" / "unrepeat_demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_run_told_before_is_marked(stage: ModuleType) -> None:
    text = [10, 11, 12, 13, 20, 10, 11, 12, 13, 21]
    marked = stage.repeated(text, 0, 4, END)
    assert [place for place, one in enumerate(marked) if one] == [5, 6, 7, 8]


def test_the_opening_is_searched_and_never_marked(stage: ModuleType) -> None:
    text = [10, 11, 12, 13, 10, 11, 12, 13]
    assert [place for place, one in enumerate(stage.repeated(text, 6, 4, END)) if one] == [6, 7]


def test_nothing_behind_the_end_of_the_text_counts(stage: ModuleType) -> None:
    text = [10, 11, 12, 13, END, 10, 11, 12, 13]
    assert not any(stage.repeated(text, 0, 4, END))


def test_a_text_without_repetition_has_nothing_marked(stage: ModuleType) -> None:
    assert not any(stage.repeated(list(range(2, 60)), 5, 4, END))
