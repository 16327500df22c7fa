"""`workbench bundle`: a study of the command line is what the app looks for, here and on another machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from workbench import cli
from workbench.cli import running
from workbench.cli.keeping import as_the_app_asks
from workbench.jobs.client import Client
from workbench.ui import defaults


@pytest.fixture
def swept(command, tiny_llama_folder: Path, sizes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A sensitivity table of the tiny model, on a cache folder of its own."""
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "far"))
    monkeypatch.setenv("WORKBENCH_MODELS", str(tiny_llama_folder.parent))
    asked = ("sensitivity", tiny_llama_folder, "--bits", "4,3", "--by", "joint-path", "--json", *sizes)
    return command(*asked).document


def question(folder: Path, texts: tuple[Path, Path]) -> tuple[str, dict[str, Any]]:
    """The same as a page asks it."""
    read = defaults.Texts(str(texts[0].resolve()), tokens=256, window=32)
    return defaults.sensitivity(folder.name, read, widths=[3, 4], by="joint-path")


def test_what_a_command_computed_is_what_the_page_asks_for_on_another_machine(
    command, swept, tiny_llama_folder, little_texts, tmp_path, monkeypatch
) -> None:
    kind, spec = question(tiny_llama_folder, little_texts)
    here = Client()
    job = here.latest(kind, spec)
    assert job is not None
    assert (job.state, job.note, job.spec) == ("done", "from the command line", spec)
    target = tmp_path / "study.zip"
    made = command("bundle", "create", target, "--job", job.id, "--json", "--quiet").document
    assert made["cells"] > len(swept["cells"]), "every cell, and the full model's loss"
    assert [(one["kind"], one["companion"]) for one in made["studies"]] == [("sensitivity", False), ("inspect", True)]
    shown = command("bundle", "show", target).out
    assert "sensitivity" in shown
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "near"))
    opened = command("bundle", "open", target, "--json").document
    assert (opened["fresh"], opened["cells"], opened["away"]) == (2, made["cells"], [])
    found = Client().result(kind, spec)
    assert found is not None
    assert found.document == swept
    again = command("sensitivity", tiny_llama_folder, "--bits", "4,3", "--by", "joint-path", "--json", "--quiet",
                    "--calibration", little_texts[0], "--tokens", 256, "--window", 32).document  # fmt: skip
    assert (again["computed"], again["reused"]) == (0, len(swept["cells"]))


SAME = {
    "inspect": ((), defaults.inspect()),
    "salience": (("--metric", "wanda"), defaults.salience()),
    "evaluate": (("--bits", "3"), defaults.evaluate(scheme=defaults.scheme(bits=3))),
    "sensitivity": (("--bits", "8,2,3,4"), defaults.sensitivity()),
    "court": ((), defaults.court()),
    "detach": ((), defaults.detach()),
    "allocate": (("--budget", "4"), defaults.allocate()),
    "pareto": (("--budgets", "2.75,3,3.5,4.25,5"), defaults.front()),
    "agreement": ((), defaults.agreement()),
}


@pytest.mark.parametrize("name", SAME)
def test_commands_ask_what_pages_ask(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def study(self: running.Run, kind: str, spec: dict[str, Any]) -> None:
        asked.append((kind, as_the_app_asks(spec, {})))
        raise KeyboardInterrupt

    monkeypatch.setattr(running.Run, "study", study)
    flags, question = SAME[name]
    assert cli.run([name, "demo", *flags]) == 130
    assert asked == [question]


def test_the_model_that_is_not_here_is_said(command, swept, tmp_path, monkeypatch) -> None:
    target = tmp_path / "study.zip"
    assert command("bundle", "create", target, "--quiet").code == 0
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "near"))
    monkeypatch.delenv("WORKBENCH_MODELS")
    answer = command("bundle", "open", target, "--quiet")
    assert answer.code == 0
    assert "is not on this machine" in answer.err
    assert "2 new results" in answer.out


def test_bad_input_is_one_sentence(command, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "none"))
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"PK\x03\x04 and no more")
    wrong = {
        ("create", tmp_path / "study.tar"): "needs the ending .zip",
        ("create", tmp_path / "nowhere" / "study.zip"): "a folder that is there",
        ("create", tmp_path / "study.zip"): "no finished job to bundle",
        ("create", tmp_path / "study.zip", "--job", "none"): "no job 'none'",
        ("open", broken): "'broken.zip' was not opened: it is no zip file",
        ("open", broken, "--max-size", "large"): "--max-size has value 'large'",
        ("show", tmp_path / "nowhere.zip"): "there is no such file",
    }
    for arguments, sentence in wrong.items():
        answer = command("bundle", *arguments)
        assert answer.code == 2, arguments
        assert sentence in answer.err
        assert answer.err.count("\n") == 1
        assert not answer.out


def test_a_seed_of_ones_own_is_not_kept_for_the_app(command, tiny_llama_folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "far"))
    assert command("inspect", tiny_llama_folder, "--quiet").code == 0
    assert [job.kind for job in Client().recent()] == ["inspect"]
    from workbench.cli.running import Run

    Run(seed=7, quiet=True).study("inspect", {"model": str(tiny_llama_folder)})
    assert len(Client().recent()) == 1
