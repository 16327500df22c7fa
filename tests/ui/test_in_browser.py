"""The app in Chromium: what only a browser can tell.

The page fixture fails every test on which the console reports an error or a request leaves this computer.
"""

import http.client
import re
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from opened_pages import MODEL, ROOT, settled
from playwright.sync_api import Browser, Page, expect

from workbench.ui import escape
from workbench.ui.navigation import TITLES

pytestmark = pytest.mark.browser
Start = Callable[..., tuple[str, subprocess.Popen[bytes]]]

HOSTILE = (
    "<img src=x onerror=window.__xss=1> ![i](https://evil.example/p.png) :red[x] $x$ "
    "<iframe srcdoc=<script>parent.__xss=2</script>></iframe> <script>window.__xss=3</script> "
    "[a](javascript:window.__xss=4) **b** https://evil.example :smile:"
)
LITERALS = [
    HOSTILE,
    ":material/home: :smile: :red-background[x] :streamlit:",
    "https://evil.example www.evil.example me@evil.example",
    "a -> b <- c -- d ... (c) #1",
    "$$x^2$$ `code` ~~s~~ __u__ ***",
    "1. one",
    "- dash | pipe | \\ backslash & &amp; &#60;",
    "![image](https://evil.example/p.png)",
]


def show(page: Page, address: str, text: str) -> None:
    """Open an address and wait until a heading is there and the run has ended."""
    page.goto(address)
    expect(page.get_by_role("heading", name=text, exact=True)).to_be_visible(timeout=30_000)
    settled(page)


def tokens(page: Page, label: str = "Tokens of the prompt by attribution"):
    """The buttons of a strip."""
    return page.get_by_role("toolbar", name=label).get_by_role("button")


@pytest.mark.parametrize("entry", ["asgi.py", "app.py"])
def test_a_cold_deep_link_goes_through_the_app(browser: Browser, start_server: Start, entry: str) -> None:
    server, _ = start_server(entry=entry)
    page = browser.new_page()
    page.goto(f"{server}/jobs?model={MODEL}")
    expect(page.get_by_role("heading", name="What is running?")).to_be_visible(timeout=30_000)
    links = page.get_by_test_id("stSidebarNavLink")
    expect(links).to_have_text(list(TITLES.values()))
    assert page.title() == "Salience Workbench" or "Jobs" in page.title()
    page.close()


@pytest.mark.parametrize("stem", TITLES)
def test_every_page_opens_quietly(page: Page, server: str, stem: str) -> None:
    page.goto(f"{server}/{'' if stem == 'overview' else stem}?model={MODEL}")
    expect(page.locator("h1")).to_be_visible(timeout=30_000)
    settled(page)
    expect(page.get_by_test_id("stException")).to_have_count(0)


def test_the_overview_shows_words_above_weights(page: Page, server: str) -> None:
    show(page, f"{server}/?model={MODEL}", "One prompt, seen from both sides")
    expect(page.get_by_text("The words.")).to_be_visible()
    strip, chart = tokens(page).first.bounding_box(), page.get_by_role("figure").first.bounding_box()
    assert strip
    assert chart
    assert strip["y"] < chart["y"]
    assert "Mean wanda of every matrix" in str(page.get_by_role("figure").first.get_attribute("aria-label"))


@pytest.mark.slow
def test_a_token_recolours_the_matrices_and_a_second_click_takes_it_back(page: Page, server: str) -> None:
    show(page, f"{server}/?model={MODEL}", "One prompt, seen from both sides")
    token = tokens(page).nth(5)
    token.click()
    expect(page.get_by_text("The matrices at token 6")).to_be_visible(timeout=15_000)
    expect(token).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("figure").first).to_have_attribute("aria-label", re.compile("token 6"), timeout=15_000)
    settled(page)
    token.click()
    expect(page.get_by_text("The matrices by salience")).to_be_visible(timeout=15_000)
    expect(token).to_have_attribute("aria-pressed", "false")


def test_the_strip_works_with_the_keyboard_alone(page: Page, server: str) -> None:
    show(page, f"{server}/?model={MODEL}", "One prompt, seen from both sides")
    strip = tokens(page)
    assert [strip.nth(place).get_attribute("tabindex") for place in range(3)] == ["0", "-1", "-1"]
    strip.first.focus()
    for key in ("ArrowRight", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    expect(page.get_by_text("The matrices at token 3")).to_be_visible(timeout=15_000)
    settled(page)
    expect(strip.nth(2)).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_text("The matrices by salience")).to_be_visible(timeout=15_000)
    page.keyboard.press("End")
    expect(strip.last).to_be_focused()


def test_a_token_of_any_strip_shows_its_values(page: Page, server: str) -> None:
    show(page, f"{server}/input_attribution?model={MODEL}", "The prompt, token by token")
    tokens(page, "Change of attribution, quantized minus full").nth(3).click()
    expect(page.get_by_text("Token 4 of")).to_be_visible(timeout=15_000)
    expect(page.get_by_role("cell", name="integrated_gradients, quantized", exact=True)).to_be_visible()


@pytest.mark.slow
def test_choices_are_in_the_address_and_open_again_elsewhere(page: Page, browser: Browser, server: str) -> None:
    show(page, f"{server}/input_attribution?model={MODEL}", "The prompt, token by token")
    page.get_by_role("radio", name="2", exact=True).click()
    expect(page).to_have_url(re.compile(r"bits=2"), timeout=15_000)
    other = browser.new_page()
    show(other, page.url, "The prompt, token by token")
    expect(other.get_by_role("radio", name="2", exact=True)).to_be_checked()
    other.close()


def test_turning_the_page_and_going_back_keeps_the_choices(page: Page, server: str) -> None:
    show(page, f"{server}/input_attribution?model={MODEL}&bits=2", "The prompt, token by token")
    page.get_by_test_id("stSidebarNavLink").filter(has_text="Jobs").click()
    expect(page.get_by_role("heading", name="What is running?")).to_be_visible(timeout=15_000)
    expect(page).to_have_url(re.compile(r"jobs\?model="))
    settled(page)
    heading = page.get_by_role("heading", name="The prompt, token by token")
    page.go_back()  # Streamlit makes one or two entries when a page is turned, as the messages happen to arrive
    page.wait_for_timeout(2000)
    if not heading.is_visible():
        page.go_back()
    expect(heading).to_be_visible(timeout=15_000)
    expect(page.get_by_role("combobox", name="Model")).to_have_value(MODEL)
    expect(page.get_by_role("radio", name="2", exact=True)).to_be_checked()


def test_a_hostile_prompt_is_shown_and_never_run(page: Page, server: str) -> None:
    page.goto(f"{server}/input_attribution?model={MODEL}&prompt={quote(HOSTILE)}&target={quote('<b>x</b>')}")
    expect(page.get_by_label("Prompt", exact=True)).to_have_value(HOSTILE, timeout=30_000)
    page.get_by_test_id("stSidebarNavLink").filter(has_text="Jobs").click()
    expect(page.get_by_text("<img src=x onerror=window.__xss=1").first).to_be_visible(timeout=30_000)
    page.get_by_test_id("stSidebarNavLink").filter(has_text="Overview").click()
    expect(page.get_by_label("Prompt", exact=True)).to_have_value(HOSTILE, timeout=30_000)
    assert page.evaluate("window.__xss") is None
    assert page.locator("iframe, img[src*='evil'], a[href*='evil']").count() == 0


def test_hostile_tokens_are_shown_as_they_are(page: Page, start_server: Start, tmp_path: Path) -> None:
    """The escapes and the strip, given every text that Streamlit would make something of."""
    script = tmp_path / "literal.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "import streamlit as st\n"
        "from workbench.ui.escape import markdown\n"
        "from workbench.ui.tokens import token_strip\n"
        f"LITERALS = {LITERALS!r}\n"
        "for place, text in enumerate(LITERALS):\n"
        "    with st.container(key=f'literal-{place}'):\n"
        "        st.markdown(markdown(text))\n"
        "        st.error(markdown(text))\n"
        "        st.toggle(markdown(text), key=f'toggle-{place}')\n"
        "token_strip(LITERALS, [1.0] * len(LITERALS), key='strip', label='Literals')\n"
        "st.title('End')\n",
        encoding="utf-8",
    )
    server, _ = start_server(entry=str(script))
    show(page, server, "End")
    for place, text in enumerate(LITERALS):
        shown = page.locator(f".st-key-literal-{place} [data-testid=stMarkdownContainer]")
        assert [one.inner_text().replace(escape.JOINER, "") for one in shown.all()] == [text] * 3
    assert [one.locator(".text").inner_text() for one in tokens(page, "Literals").all()] == [*LITERALS]
    assert page.evaluate("window.__xss") is None
    assert page.locator("[data-testid=stMain] a[href*='evil'], img[src*='evil'], iframe").count() == 0


def test_a_table_can_be_taken_away_as_csv(page: Page, server: str) -> None:
    show(page, f"{server}/?model={MODEL}", "One prompt, seen from both sides")
    page.get_by_text("The tokens as a table").click()
    with page.expect_download() as started:
        page.get_by_role("button", name="Download as CSV").first.click()
    assert started.value.suggested_filename == "tokens.csv"
    lines = Path(started.value.path()).read_text(encoding="utf-8").splitlines()
    assert lines[0] == "token number,token,score"
    assert len(lines) > 10


def test_answers_carry_security_headers(server: str) -> None:
    with urllib.request.urlopen(server, timeout=5) as answer:
        headers = answer.headers
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "default-src 'self'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [(None, None, 101), ("evil.example", "http://evil.example", 403), (None, "http://evil.example", 403)],
    ids=["own page", "other name for this computer", "page of another server"],
)
def test_only_its_own_pages_may_talk_to_the_server(
    server: str, host: str | None, origin: str | None, status: int
) -> None:
    own = server.removeprefix("http://")
    connection = http.client.HTTPConnection(own, timeout=5)
    connection.putrequest("GET", "/_stcore/stream", skip_host=True)
    asked = {"Host": host or own, "Origin": origin or server, "Connection": "Upgrade", "Upgrade": "websocket"}
    asked |= {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    for name, value in asked.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == status
    connection.close()


@pytest.mark.slow
def test_the_server_process_stays_small_and_without_torch(page: Page, start_server: Start) -> None:
    server, process = start_server()
    for stem in TITLES:
        page.goto(f"{server}/{'' if stem == 'overview' else stem}?model={MODEL}")
        expect(page.locator("h1")).to_be_visible(timeout=30_000)
    maps, status = (Path(f"/proc/{process.pid}/{name}") for name in ("maps", "status"))
    if not maps.exists():
        pytest.skip("this system has no /proc")
    assert "libtorch" not in maps.read_text()
    resident = int(re.search(r"VmRSS:\s+(\d+) kB", status.read_text())[1])  # type: ignore[index]
    assert resident < 300_000


@pytest.mark.slow
def test_a_new_prompt_is_computed_by_the_worker_and_shown(page: Page, server: str) -> None:
    show(page, f"{server}/?model={MODEL}", "One prompt, seen from both sides")
    box = page.get_by_label("Prompt", exact=True)
    box.fill("The sun is hot")
    box.press("Control+Enter")
    expect(page.get_by_text("What follows was computed for other choices").first).to_be_visible(timeout=20_000)
    expect(tokens(page).last).to_have_text(re.compile("t$"), timeout=120_000)
    expect(tokens(page)).to_have_count(15, timeout=120_000)


@pytest.mark.slow
def test_another_quantizer_is_chosen_and_its_error_shown(page: Page, server: str) -> None:
    show(page, f"{server}/layer_error?model={MODEL}&widths=2,3", "What does each layer lose?")
    box = page.get_by_label("Quantizers", exact=True)
    box.click()
    box.type("codebook")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    expect(page).to_have_url(re.compile("quantizers=codebook"), timeout=15_000)
    settled(page)
    page.get_by_role("button", name="Compute the error of every matrix under every choice").click()
    charts = page.get_by_role("figure")
    told = re.compile("Output error .* codebook 2 bit row, codebook 3 bit row")
    expect(charts.first).to_have_attribute("aria-label", told, timeout=120_000)
    error = page.get_by_test_id("stMetric").filter(has_text="Output error")
    expect(error).to_be_visible(timeout=60_000)
    settled(page)
    assert "quantizers=codebook" in page.url
    choice = page.get_by_label("Quantizer and width in detail")
    choice.scroll_into_view_if_needed()
    page.wait_for_timeout(500)  # a menu that opens while the page scrolls is closed at once
    choice.fill("codebook 3")
    page.get_by_role("option", name="codebook 3 bit row").click()
    detail = page.get_by_text("codebook, 3 bits, whole rows")
    expect(detail).to_be_visible(timeout=60_000)
    settled(page)
    expect(error).to_have_count(1, timeout=20_000)  # the number of the choice before stays for a moment
    expect(error).to_contain_text(re.compile(r"\d %"))
    assert "label=codebook" in page.url
    expect(page.get_by_role("tab", name="codebook")).to_be_visible()
