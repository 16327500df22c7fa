"""A page that is open in a browser: wait for it, keep a picture of it. And where the tests of pages find their things.

Not in `conftest.py`, whose name every folder of tests has: an import by that name takes whichever was loaded first.
"""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Page

ROOT = Path(__file__).resolve().parents[2]
ARTIFACTS = ROOT / "test-artifacts"
MODEL = "tiny"


def keep_screenshot(opened: Page, name: str) -> Path:
    """Save what a browser page shows to the artifacts folder, under the name of its test."""
    ARTIFACTS.mkdir(exist_ok=True)
    path = ARTIFACTS / f"{re.sub(r'[^A-Za-z0-9_-]+', '-', name)}.png"
    opened.screenshot(path=path, full_page=True)
    return path


def settled(opened: Page) -> None:
    """Wait until the app has finished its run; wait for the expected text first, the state alone is racy."""
    opened.wait_for_selector(
        "[data-testid=stApp][data-test-script-state=notRunning][data-test-connection-state=CONNECTED]", timeout=30_000
    )
