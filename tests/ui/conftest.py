"""The app without a browser, with a client that answers from real studies of a tiny model; and the app in Chromium.

Browser tests carry the mark `browser`. Where no Chromium exists they are skipped with the reason, unless
`WORKBENCH_REQUIRE_BROWSER=1` makes that an error.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from fake_client import Answers, FakeClient
from opened_pages import MODEL, ROOT, keep_screenshot
from playwright.sync_api import Browser, Page, sync_playwright
from streamlit.testing.v1 import AppTest

from workbench import settings
from workbench.jobs.keys import study_key
from workbench.results import save
from workbench.ui import defaults, session

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
CHROMIUM_ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"]
STARTED_WITHIN = 60.0
FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Remember on the test whether it failed, for the fixture that then keeps a picture."""
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture(scope="session")
def ui_models(tmp_path_factory: pytest.TempPathFactory, make_model_folder: Callable[..., Path]) -> Path:
    """A models folder with one random Llama in it, `tiny`, and two texts beside its weights."""
    root = tmp_path_factory.mktemp("ui-models")
    folder = make_model_folder(root / MODEL, "llama", bos=True, **SIZES)
    (folder / "calibration.txt").write_text("The dog sat by the door. " * 220, encoding="utf-8")
    (folder / "sampled.txt").write_text("A cat ran to the tall tree! " * 220, encoding="utf-8")
    return root


@pytest.fixture(autouse=True)
def _models_of_the_ui(ui_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages offer the tiny model alone, whether or not this checkout has its embedded model."""
    monkeypatch.setenv("WORKBENCH_MODELS", str(ui_models))
    monkeypatch.setattr(settings, "demo_folder", lambda: tmp_path / "no-demo")
    st.cache_resource.clear()


@pytest.fixture(scope="session")
def answers(ui_models: Path) -> Answers:
    """Results of real studies, each computed when it is first asked for."""
    return Answers(ui_models)


@pytest.fixture
def client(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    """The client of the pages: answers at once unless a test holds a kind of study in some state."""
    fake = FakeClient(answers)
    monkeypatch.setattr(session, "client", lambda: fake)
    return fake


@pytest.fixture
def open_page(client: FakeClient) -> Callable[..., AppTest]:
    """Open a page by its file stem, with choices in its address."""

    def opened(stem: str = "overview", **address: str | list[str]) -> AppTest:
        app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
        if stem != "overview":
            app.switch_page(f"pages/{stem}.py")
        for name, value in address.items():
            app.query_params[name] = value
        return app.run()

    return opened


def chromium() -> str | None:
    """Path of the system's Chromium."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One headless Chromium for all browser tests."""
    path = chromium()
    if path is None:
        reason = "there is no Chromium on this computer (apt-get install chromium)"
        if os.environ.get("WORKBENCH_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, headless=True, args=CHROMIUM_ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def start_server(
    ui_models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., tuple[str, subprocess.Popen[bytes]]]]:
    """Start the app on a free port with a cache folder; returns its address and process. All are ended at the end."""
    running: list[subprocess.Popen[bytes]] = []

    def start(
        cache: Path | None = None, entry: str = "asgi.py", models: Path | None = None
    ) -> tuple[str, subprocess.Popen[bytes]]:
        port, folder = free_port(), cache or tmp_path_factory.mktemp("ui-cache")
        environment = {**os.environ, "WORKBENCH_CACHE": str(folder), "WORKBENCH_MODELS": str(models or ui_models)}
        command = [sys.executable, "-m", "streamlit", "run", entry, f"--server.port={port}"]
        with (folder / "server.log").open("wb") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
        running.append(process)
        wait_for_health(process, port, folder / "server.log")
        return f"http://127.0.0.1:{port}", process

    yield start
    for process in running:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="session")
def server(
    start_server: Callable[..., tuple[str, subprocess.Popen[bytes]]],
    answers: Answers,
    ui_models: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    """Address of the app with the opening results of every page on its shelf."""
    cache = tmp_path_factory.mktemp("ui-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_MODELS", str(ui_models))
        texts = defaults.Texts(*(str(ui_models / MODEL / name) for name in ("calibration.txt", "sampled.txt")))
        for kind, spec in defaults.every_opening(MODEL, texts):
            save(answers(kind, spec), cache / "results" / study_key(kind, spec))
    return start_server(cache)[0]


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A fresh browser page; fails the test on console errors and on requests that leave this computer."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 1000}, reduced_motion="reduce", accept_downloads=True
    )
    opened, trouble = context.new_page(), []
    opened.on("console", lambda message: trouble.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: trouble.append(str(error)))
    opened.on("request", lambda asked: trouble.append(asked.url) if leaves_this_computer(asked.url) else None)
    yield opened
    if trouble or request.node.stash.get(FAILED, False):
        keep_screenshot(opened, request.node.name)
    context.close()
    assert trouble == []


def leaves_this_computer(url: str) -> bool:
    """Whether a request goes to another computer."""
    return not url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:"))


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def wait_for_health(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until the server answers, or fail with its log."""
    until = time.monotonic() + STARTED_WITHIN
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.05)
    pytest.fail(f"the server did not start: {log.read_text(errors='replace')[-2000:]}")
