"""`--estimate`: told in place of running, by every command that computes, and refused where the run would be."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from workbench import cli
from workbench.estimates import fitting
from workbench.jobs.client import Client
from workbench.studies import STUDIES


@pytest.fixture
def asked(
    tiny_llama_folder: Path, little_texts, sizes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, list[Any]]:
    """A question for every command, on a cache folder of its own."""
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    measured, prompt = ["--text", little_texts[1]], ["--prompt", "the cat sat", "--quiet"]
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("the cat sat\nthe dog ran\n")
    more: dict[str, list[Any]] = {
        "salience": ["--metric", "wanda", *sizes],
        "evaluate": ["--bits", 3, *measured, *sizes],
        "sensitivity": ["--bits", "2,4", *sizes],
        "court": ["--bits", "2,4", *measured, *sizes],
        "detach": [*measured, *sizes],
        "agreement": sizes,
        "windows": sizes,
        "allocate": ["--budget", 3.5, *sizes],
        "pareto": ["--budgets", "3,4", *measured, *sizes],
        "quantize": ["--bits", 4, "--out", tmp_path / "checkpoint", *sizes],
        "report": ["--bits", 4, "--out", tmp_path / "report.html", *prompt[:2], *measured, *sizes],
        "attribute": ["--method", "gradient", *prompt],
        "compare-attribution": ["--methods", "gradient,occlusion", *prompt],
        "drift": ["--method", "gradient", "--prompts", prompts, *sizes[:2], "--quiet"],
    }
    return {name: [name, tiny_llama_folder, *flags] for name, flags in more.items()}


def test_every_command_that_computes_has_it(asked: dict[str, list[Any]]) -> None:
    computing = {
        (one.name or one.callback.__name__)
        for one in cli.app.registered_commands
        if one.callback is not None and "memory_limit" in inspect.signature(one.callback).parameters
    }
    assert computing == set(asked)
    with_it = [one for one in cli.app.registered_commands if "estimate" in inspect.signature(one.callback).parameters]  # type: ignore[arg-type]
    assert len(with_it) == len(computing)


@pytest.mark.parametrize(
    "names",
    [
        ("evaluate", "pareto", "quantize", "drift"),
        pytest.param(
            ("salience", "sensitivity", "court", "detach", "agreement", "windows", "allocate", "report", "attribute",
             "compare-attribution"), marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_each_tells_time_and_memory_and_computes_nothing(
    names: tuple[str, ...], asked: dict[str, list[Any]], command: Any, tmp_path: Path
) -> None:
    for name in names:
        answer = command(*asked[name], "--estimate", "--json")
        assert answer.code == 0, (name, answer.err)
        found = answer.document
        assert found["seconds"] > 0, name
        assert found["seconds"] == pytest.approx(sum(one["seconds"] or 0 for one in found["studies"]))
        assert 0 < found["needed_bytes"] < found["peak_bytes"] < 2**40
        assert found["needed_bytes"] < found["free_bytes"]
        assert {one["kind"] for one in found["studies"]} <= set(STUDIES)
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("cache", "prompts.txt")] == []
    assert Client().recent() == []


def test_people_get_a_line_a_study(asked: dict[str, list[Any]], command: Any) -> None:
    told = command(*asked["report"], "--estimate").out.splitlines()
    assert [line.partition(":")[0] for line in told] == ["inspect", "evaluate", "tradeoff", "generate"]
    assert "about" in told[1]
    assert "are free" in told[1]


def test_it_is_refused_where_the_run_would_be(
    asked: dict[str, list[Any]], command: Any, little_texts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checkpoint").mkdir()
    wrong = {
        "is there already": asked["quantize"],
        "unknown attribution method": ["attribute", *asked["attribute"][1:], "--method", "nope"],
        "the same text": [*asked["evaluate"], "--text", little_texts[0]],
        "--out has value": [*asked["court"], "--out", "court.xlsx"],
    }
    for sentence, arguments in wrong.items():
        answers = [command(*arguments), command(*arguments, "--estimate")]
        assert answers[0].code == answers[1].code == 2, sentence
        assert answers[0].err == answers[1].err
    monkeypatch.setattr(fitting, "free_memory", lambda device: 1000)
    answer = command(*asked["evaluate"], "--estimate")
    assert answer.code == 2
    assert "evaluate needs about" in answer.err
