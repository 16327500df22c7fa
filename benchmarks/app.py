"""The browser app: cold start, reruns, the budget slider, memory. Needs Chromium."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import websockets
from playwright.sync_api import Page, sync_playwright
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from benchmarks.measurement import Measurement, percentile
from workbench.settings import PROJECT
from workbench.ui.navigation import TITLES

PAGES = tuple("" if stem == "overview" else stem for stem in TITLES)
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"]
SETTLED = "[data-testid=stApp][data-test-script-state=notRunning][data-test-connection-state=CONNECTED]"
RERUNS = 40
FIRST = 2
"""Runs before those that are measured: they import the page and draw it for the first time."""


def measure() -> Iterator[Measurement]:
    """Start a server on an empty cache and use it as a person would."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        print("no Chromium: the app is not measured")
        return
    with tempfile.TemporaryDirectory() as cache, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=FLAGS)
        started = time.perf_counter()
        with server(Path(cache)) as (port, process):
            page = browser.new_page(viewport={"width": 1280, "height": 1000})
            page.goto(f"http://127.0.0.1:{port}/")
            page.wait_for_selector("[data-testid=stMetric], [data-testid=stPlotlyChart]", timeout=60_000)
            yield Measurement(
                "server start to first page with content", time.perf_counter() - started, "s", 8.0, "cold cache"
            )
            for name in PAGES:
                # Playwright keeps an event loop in this thread
                with ThreadPoolExecutor(1) as pool:
                    yield pool.submit(rerun_of, name, port, process, "").result()
            yield Measurement("budget slider to redrawn plan", slider(page, port), "ms", 300.0, "median of 20 moves")
            memory = process.memory_info().rss / 2**20
            yield Measurement("memory of the UI process", memory, "MB", 300.0, "resident, after all pages")
        browser.close()


@contextlib.contextmanager
def server(cache: Path) -> Iterator[tuple[int, psutil.Process]]:
    """The app on a free port, with a cache folder of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "asgi.py", f"--server.port={port}"]
    child = subprocess.Popen(
        command,
        cwd=PROJECT,
        env={**os.environ, "WORKBENCH_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until_healthy(port, child)
        yield port, psutil.Process(child.pid)
    finally:
        child.terminate()
        child.wait(10)


def wait_until_healthy(port: int, child: subprocess.Popen[bytes]) -> None:
    deadline = time.perf_counter() + 60
    while time.perf_counter() < deadline and child.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError("the server did not start")


def rerun_of(name: str, port: int, process: psutil.Process, beside: str) -> Measurement:
    """Reruns of a page, with the processor time that one takes of the server: it hardly depends on what else runs."""
    before = sum(process.cpu_times()[:2])
    times = asyncio.run(reruns(port, name))
    used = (sum(process.cpu_times()[:2]) - before) / (RERUNS + FIRST)
    label = f"rerun of {name or 'overview'}{beside}, 95th percentile"
    told = f"{RERUNS} reruns, median {1000 * percentile(times, 0.5):.0f} ms, processor {1000 * used:.0f} ms each"
    return Measurement(label, 1000 * percentile(times, 0.95), "ms", 250.0, load(told))


def load(words: str) -> str:
    """A note with the load of the machine: a time on the clock says little without it."""
    return f"{words}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


async def reruns(port: int, page: str) -> list[float]:
    """Seconds of full reruns of a page over one websocket, as a browser asks for them."""
    address = f"ws://127.0.0.1:{port}/_stcore/stream"
    times = []
    async with websockets.connect(
        address, subprotocols=["streamlit"], max_size=None, origin=f"http://127.0.0.1:{port}"
    ) as socket_:
        for _ in range(RERUNS + FIRST):
            message = BackMsg()
            message.rerun_script.page_name = page
            started = time.perf_counter()
            await socket_.send(message.SerializeToString())
            while True:
                answer = ForwardMsg()
                answer.ParseFromString(await asyncio.wait_for(socket_.recv(), 60))
                if answer.WhichOneof("type") == "script_finished":
                    break
            times.append(time.perf_counter() - started)
            await asyncio.sleep(0.05)
    return times[FIRST:]


def slider(page: Page, port: int) -> float:
    """Milliseconds from an arrow key on the budget slider to the finished rerun that drew the new plan, median."""
    page.goto(f"http://127.0.0.1:{port}/bit_allocation")
    handle = page.locator("[data-testid=stSlider] input[type=range]").first
    handle.wait_for(timeout=60_000)
    page.wait_for_selector(SETTLED)
    handle.focus()
    times = []
    for move in range(20):
        before = page.locator("[data-testid=stMetricValue]").all_inner_texts()
        started = time.perf_counter()
        page.keyboard.press("ArrowRight" if move % 2 == 0 else "ArrowLeft")
        page.wait_for_function(
            "before => JSON.stringify([...document.querySelectorAll('[data-testid=stMetricValue]')]"
            ".map(e => e.innerText)) !== JSON.stringify(before)",
            arg=before,
            timeout=10_000,
        )
        times.append(1000 * (time.perf_counter() - started))
        page.wait_for_selector(SETTLED)
    return sorted(times)[len(times) // 2]
