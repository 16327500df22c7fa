"""The notebook in `docs/` runs from start to end, and its numbers are those of the command line."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
WORKBENCH = Path(sys.executable).with_name("workbench")


@pytest.mark.slow
def test_the_notebook_does_the_main_job_with_the_numbers_of_the_command_line(tmp_path: Path) -> None:
    notebook = nbformat.read(ROOT / "docs" / "main_job.ipynb", as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    last = ast.literal_eval(notebook.cells[-1].outputs[-1]["data"]["text/plain"])
    assert last["stored_bits"] <= 3.5
    by_scheme = evaluate(tmp_path, "--quantizer", "rtn", "--bits", "3")
    by_plan = evaluate(tmp_path, "--plan", str(tmp_path / "plan.json"))
    assert last["perplexity"] == pytest.approx([by_scheme["perplexity"], by_plan["perplexity"]], rel=1e-6)
    assert by_plan["stored_bits"] == pytest.approx(last["stored_bits"], rel=1e-9)


def evaluate(folder: Path, *choice: str) -> dict[str, float]:
    command = [str(WORKBENCH), "evaluate", "demo", *choice, "--tokens", "4096", "--json", "--quiet"]
    environment = {**os.environ, "WORKBENCH_CACHE": str(folder / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout)
