"""Choosing a span of tokens in Chromium: by the keyboard alone, by Shift and a click, and what becomes of it."""

import pytest
from opened_pages import MODEL, settled
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser
STRIP = "Tokens by attribution, integrated_gradients, full precision"


@pytest.mark.slow
def test_a_span_is_chosen_marked_and_explained(page: Page, server: str) -> None:
    page.goto(f"{server}/input_attribution?model={MODEL}")
    strip = page.get_by_role("toolbar", name=STRIP).get_by_role("button")
    expect(strip.first).to_be_visible(timeout=30_000)
    settled(page)
    strip.nth(3).focus()
    for key in ("Enter", "Shift+ArrowRight", "Shift+ArrowRight"):
        page.keyboard.press(key)
    expect(page.get_by_text("Tokens 4 to 6 of")).to_be_visible(timeout=15_000)
    pressed = [strip.nth(place).get_attribute("aria-pressed") for place in range(2, 7)]
    assert pressed == ["false", "true", "true", "true", "false"]
    settled(page)
    page.get_by_role("button", name="Mark this").click()
    expect(page.get_by_label("Marked tokens", exact=True)).to_have_value("4-6", timeout=15_000)
    settled(page)
    strip.nth(7).click(modifiers=["Shift"])
    expect(page.get_by_text("Tokens 4 to 8 of")).to_be_visible(timeout=15_000)
    settled(page)
    page.get_by_role("button", name="Explain this").click()
    expect(page.get_by_label("Or tokens of the text", exact=True)).to_have_value("4-8", timeout=15_000)
