"""On every page one input is changed in Chromium, and a number shown is that of the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from opened_pages import settled
from playwright.sync_api import Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from workbench.ui.numbers import number

WORKBENCH = Path(sys.executable).with_name("workbench")
LONG = 90_000
PROMPT = "Lily had a blue kite. Tom had a red"
pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module", params=["demo", "stories260K"])
def model(request: pytest.FixtureRequest) -> str:
    if request.param != "demo":
        request.getfixturevalue("shared_models")
    return request.param


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, model: str) -> Path:
    """A folder a model: two servers over one folder would share one worker, which knows the models of the first."""
    return tmp_path_factory.mktemp(f"matching-{model}")


@pytest.fixture(scope="module")
def app(start_server: Callable[..., Any], cache: Path, request: pytest.FixtureRequest, model: str) -> str:
    """The app over the real models, where there are any."""
    models = None if model == "demo" else request.getfixturevalue("shared_models")
    return start_server(cache, models=models)[0]


@pytest.fixture
def answer(cache: Path, model: str, request: pytest.FixtureRequest) -> Callable[..., Any]:
    """The command line's JSON for the model, with the texts that the pages take."""
    environment = {**os.environ, "WORKBENCH_CACHE": str(cache)}
    folder = None if model == "demo" else request.getfixturevalue("shared_models") / model
    texts = {} if folder is None else {"--calibration": folder / "calibration.txt", "--text": folder / "sampled.txt"}

    def ask(command: str, *arguments: object, reads: tuple[str, ...] = ()) -> Any:
        given = [part for flag in reads if flag in texts for part in (flag, texts[flag])]
        words = [str(WORKBENCH), command, str(folder or model), *map(str, [*arguments, *given]), "--json", "--quiet"]
        done = subprocess.run(words, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return ask


def open_page(page: Page, app: str, stem: str, model: str, **choices: object) -> None:
    """Open a page with choices in its address."""
    query = "&".join(f"{name}={quote(str(value))}" for name, value in {"model": model, **choices}.items())
    page.goto(f"{app}/{stem}?{query}")
    page.wait_for_selector("h1", timeout=LONG)
    settled(page)


def shows(page: Page, text: str) -> None:
    """The page holds the text, in words or in a chart's alternative text, once all that it offers is computed."""
    holds = (
        "text => document.body.innerText.includes(text) || [...document.querySelectorAll('[aria-label]')]"
        ".some(e => e.getAttribute('aria-label').includes(text))"
    )
    until = time.monotonic() + LONG / 1000
    while time.monotonic() < until:
        if page.evaluate(holds, text):
            return
        button = page.get_by_role("button", name="Compute")
        if button.count() > 0:
            with suppress(PlaywrightTimeout):  # it goes when its study begins, which may be now
                button.first.click(timeout=3000)
        page.wait_for_timeout(1000)
    pytest.fail(f"{text!r} is not on the page: {page.inner_text('body')[-3000:]}")


def test_overview(app: str, model: str, page: Page, answer: Callable[..., Any]) -> None:
    open_page(page, app, "", model, metric="obd")
    rows = answer("salience", "--metric", "obd", "--tokens", 4096, reads=("--calibration",))["matrices"]
    shows(page, number(max(row["mean"] for row in rows)))


def test_weight_salience(app: str, model: str, page: Page, answer: Callable[..., Any]) -> None:
    open_page(page, app, "weight_salience", model, metric="magnitude")
    rows = answer("salience", "--metric", "magnitude", "--tokens", 4096, reads=("--calibration",))["matrices"]
    best = max(rows, key=lambda row: row["mean"])
    shows(page, f"{best['name']}, {number(best['mean'])}")


def test_layer_error(app: str, model: str, page: Page, answer: Callable[..., Any]) -> None:
    open_page(page, app, "layer_error", model, quantizers="gptq", widths="2,3", group=32)
    asked = ("--quantizer", "gptq", "--bits", 2, "--group-size", 32, "--tokens", 4096)
    evaluated = answer("evaluate", *asked, reads=("--calibration", "--text"))
    worst = max(evaluated["matrices"], key=lambda row: row["output_error"])
    shows(page, f"{worst['name']} under gptq 2 bit g32, {number(worst['output_error'])}")
    shows(page, f"the full model has {number(evaluated['reference']['perplexity'])}")


def test_metric_court(app: str, model: str, page: Page, answer: Callable[..., Any]) -> None:
    open_page(page, app, "metric_court", model, widths=3, tokens=1024)
    found = answer("court", "--bits", 3, "--tokens", 1024, reads=("--calibration", "--text"))
    shows(page, f"{number(found['totals'][0]['measured'])} nats")


def test_trade_off(app: str, model: str, page: Page, answer: Callable[..., Any]) -> None:
    open_page(page, app, "trade_off", model, group=32)
    found = answer("evaluate", "--bits", 8, "--group-size", 32, "--tokens", 4096, reads=("--calibration", "--text"))
    shows(page, f"the full model has {number(found['reference']['perplexity'])}")
    shows(page, f"{number(found['perplexity'])} at {found['stored_bits']:.2f} stored bits")


def test_bit_allocation(app: str, model: str, page: Page, answer: Callable[..., Any], tmp_path: Path) -> None:
    cells = tmp_path / "cells.json"
    answer("sensitivity", "--tokens", 4096, "--out", cells, reads=("--calibration",))
    open_page(page, app, "bit_allocation", model, budget=3)
    plan = answer("allocate", "--budget", 3.0, "--from", cells, "--solver", "lagrangian", reads=("--calibration",))
    total = sum(tensor["numel"] for tensor in plan["tensors"].values())
    stored = sum(tensor["storage_bits"] for tensor in plan["tensors"].values()) / total
    shows(page, f"{stored:.3f}")
    counts = sum(tensor["bits"] == 2 for tensor in plan["tensors"].values())
    shows(page, f"{counts} matrices at 2 bits")


def test_input_attribution(app: str, model: str, page: Page, answer: Callable[..., Any]) -> None:
    open_page(page, app, "input_attribution", model, prompt=PROMPT, method="gradient")
    found = answer("attribute", "--prompt", PROMPT, "--method", "gradient", "--target", "logprob:")
    shows(page, number(found["value"]))


def test_jobs(app: str, model: str, page: Page, cache: Path) -> None:
    listed = subprocess.run(
        [str(WORKBENCH), "jobs", "list", "--json"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "WORKBENCH_CACHE": str(cache)},
    )
    done = [job for job in json.loads(listed.stdout)["jobs"] if job["state"] == "done"]
    page.goto(f"{app}/jobs?model={model}")
    expect(page.get_by_role("heading").first).to_be_visible(timeout=LONG)
    settled(page)
    assert done
    shows(page, "done")
