"""The whole job in Chromium on the embedded model: salience, errors, a budget, a plan; two visitors; kills."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from opened_pages import keep_screenshot, settled
from playwright.sync_api import Browser, Page, expect

from workbench.allocation.plan import parse, stored_bits
from workbench.jobs.store import Store

WORKBENCH = Path(sys.executable).with_name("workbench")
LONG = 120_000
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def demo_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo-cache")


@pytest.fixture(scope="module")
def demo(start_server: Callable[..., tuple[str, subprocess.Popen[bytes]]], demo_cache: Path) -> str:
    """Address of the app as a person starts it: the embedded model, an empty cache."""
    return start_server(demo_cache)[0]


def command_line(*arguments: object, cache: Path, models: Path | None = None) -> Any:
    """What the command line answers for the same choices."""
    environment = {**os.environ, "WORKBENCH_CACHE": str(cache)}
    if models is not None:
        environment["WORKBENCH_MODELS"] = str(models)
    done = subprocess.run(
        [str(WORKBENCH), *map(str, arguments), "--json"], capture_output=True, text=True, env=environment, check=True
    )
    return json.loads(done.stdout)


def test_a_first_visitor_sees_the_model_and_a_finished_result(demo: str, page: Page) -> None:
    page.goto(demo)
    expect(page.get_by_role("heading", name="Which weights matter, and which words?")).to_be_visible(timeout=LONG)
    expect(page).to_have_title(re.compile("Workbench", re.IGNORECASE))
    expect(page.locator("[data-testid=stPlotlyChart]").first).to_be_visible(timeout=LONG)
    settled(page)
    assert keep_screenshot(page, "overview").exists()


def test_the_plan_at_three_bits_comes_back_byte_for_byte(
    demo: str, page: Page, tmp_path: Path, demo_cache: Path
) -> None:
    page.goto(f"{demo}/weight_salience")
    expect(page.locator("[data-testid=stPlotlyChart]").first).to_be_visible(timeout=LONG)
    page.goto(f"{demo}/layer_error")
    expect(page.locator("[data-testid=stPlotlyChart]").first).to_be_visible(timeout=LONG)
    page.goto(f"{demo}/bit_allocation")
    first = download(page, tmp_path / "first.json", budget=3.0)
    plan = parse(first)
    assert 2.8 < stored_bits(plan) <= 3.0
    cells = tmp_path / "cells.json"
    command_line("sensitivity", "demo", "--tokens", 4096, "--out", cells, cache=demo_cache)
    same = command_line(
        "allocate", "demo", "--budget", 3.0, "--from", cells, "--solver", "lagrangian", cache=demo_cache
    )
    assert {name: tensor.bits for name, tensor in plan.tensors.items()} == {
        name: tensor["bits"] for name, tensor in same["tensors"].items()
    }
    page.reload()
    expect(page.locator("[data-testid=stPlotlyChart]").first).to_be_visible(timeout=LONG)
    page.set_input_files("[data-testid=stFileUploader] input[type=file]", tmp_path / "first.json")
    settled(page)
    again = download(page, tmp_path / "again.json", budget=None)
    assert again == first


def download(page: Page, path: Path, *, budget: float | None) -> bytes:
    """Set the budget, if one is given, and take the plan away."""
    expect(page.locator("[data-testid=stSlider]").first).to_be_visible(timeout=LONG)
    settled(page)
    if budget is not None:
        field = page.get_by_label("Or type it")
        field.fill(str(budget))
        field.press("Enter")
        page.wait_for_timeout(500)
        settled(page)
    button = page.locator("[data-testid=stDownloadButton] button", has_text=re.compile("plan", re.IGNORECASE)).first
    with page.expect_download() as held:
        button.click()
    held.value.save_as(path)
    return path.read_bytes()


@pytest.mark.slow
def test_two_browsers_ask_at_once_and_each_gets_its_own_answer(demo: str, browser: Browser, demo_cache: Path) -> None:
    prompts = ["Lily had a blue kite. Tom had a red", "The big dog ran to the park. The dog was very"]
    contexts = [browser.new_context() for _ in prompts]
    pages = [context.new_page() for context in contexts]
    for page, prompt in zip(pages, prompts, strict=True):
        page.goto(f"{demo}/input_attribution?prompt={prompt.replace(' ', '%20')}")
    asked = [{"prompt": prompt, "model": "demo", "scheme": None} for prompt in prompts]
    documents = [finished(demo_cache, "attribute", **one) for one in asked]
    for context in contexts:
        context.close()
    for prompt, document in zip(prompts, documents, strict=True):
        asked = ["--prompt", prompt, "--method", "integrated_gradients", "--target", "logprob:"]
        alone = command_line("attribute", "demo", *asked, cache=demo_cache)
        assert document["tokens"] == alone["tokens"]
        assert document["scores"] == alone["scores"]


def finished(cache: Path, kind: str, **facts: Any) -> dict[str, Any]:
    """The document of the finished job of a kind whose spec holds these facts."""
    store, until = Store(cache / "workbench.sqlite"), time.monotonic() + 120
    while time.monotonic() < until:
        for job in store.recent(50):
            fits = job.kind == kind and all(job.spec.get(name) == value for name, value in facts.items())
            if fits and job.state == "done":
                return json.loads((cache / "results" / job.key / "result.json").read_text())["document"]
        time.sleep(0.3)
    pytest.fail(f"no finished job {kind} with {facts}: {[(j.kind, j.state, j.error) for j in store.recent(5)]}")


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["worker", "server"])
def test_a_kill_leaves_no_orphan_and_the_sweep_goes_on(
    victim: str, page: Page, start_server: Callable[..., Any], tmp_path: Path
) -> None:
    cache = tmp_path
    address, process = start_server(cache)
    page.goto(f"{address}/bit_allocation?tokens=2048")
    page.get_by_role("button", name=re.compile("Compute what each matrix costs")).first.click(timeout=LONG)
    store = Store(cache / "workbench.sqlite")
    job = wait_for(
        lambda: next((j for j in store.recent(5) if j.kind == "sensitivity" and j.done > 0.2 * j.total), None)
    )
    worker = next(
        child for child in psutil.Process(process.pid).children() if "workbench.jobs.worker" in child.cmdline()
    )
    if victim == "server":
        page.goto("about:blank")  # a page that looks for its lost server says so on the console
    os.kill(worker.pid if victim == "worker" else process.pid, signal.SIGKILL)
    wait_for(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, seconds=3)
    if victim == "server":
        address, process = start_server(cache)
        page.goto(f"{address}/jobs")
    wait_for(lambda: store.get(job.id).state == "interrupted", seconds=60)
    page.goto(f"{address}/")
    expect(page.locator("[data-testid=stPlotlyChart]").first).to_be_visible(timeout=LONG)
    page.goto(f"{address}/bit_allocation?tokens=2048")
    page.get_by_role("button", name=re.compile("Compute what each matrix costs|again", re.IGNORECASE)).first.click(
        timeout=LONG
    )
    ended = finished(cache, "sensitivity", tokens=2048)
    assert ended["reused"] > 0
    assert ended["reused"] + ended["computed"] == len(ended["cells"])


def wait_for(condition: Callable[[], Any], seconds: float = 120.0) -> Any:
    """What the condition gives once it gives something."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    pytest.fail("it did not come to pass in time")
