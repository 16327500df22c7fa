"""Bit allocation: budget to plan, plan to file and back, changes by hand, what the plan was measured to cost."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_client import Answers
from opened_pages import MODEL, settled
from playwright.sync_api import Page, expect
from streamlit.testing.v1 import AppTest

from workbench.allocation.plan import parse, read_plan, stored_bits
from workbench.ui import defaults
from workbench.ui.desk import Desk
from workbench.ui.plan_files import verdict
from workbench.ui.plans import Bench, bare, difference_table, locks_of, widths_of

Open = Callable[..., AppTest]
STEM = "bit_allocation"
Q = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture
def bench(answers: Answers, ui_models: Path) -> Bench:
    texts = defaults.Texts(*(str(ui_models / MODEL / name) for name in ("calibration.txt", "sampled.txt")))
    cells = answers(*defaults.sensitivity(MODEL, texts)).document
    return Bench(cells, answers(*defaults.inspect(MODEL)).document)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> dict:
    """Stands in for the browser session."""
    held: dict = {}
    monkeypatch.setattr("workbench.ui.session.recall", held.get)
    monkeypatch.setattr("workbench.ui.session.remember", held.__setitem__)
    return held


def text_of(app: AppTest) -> str:
    return app.session_state["_allocation"]["text"]


def metrics(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def test_the_plan_keeps_the_budget_of_the_slider_and_its_bytes(open_page: Open) -> None:
    app = open_page(STEM)
    assert not app.exception
    first = text_of(app)
    assert stored_bits(parse(first.encode())) <= app.slider(key="budget").value
    app.run()
    assert text_of(app) == first
    app.slider(key="budget").set_value(3.2).run()
    assert not app.exception
    assert stored_bits(parse(text_of(app).encode())) <= 3.2
    assert "3.2" in app.query_params["budget"]


def test_a_typed_budget_out_of_range_is_refused_in_a_sentence(open_page: Open) -> None:
    app = open_page(STEM)
    before = text_of(app)
    app.number_input(key="budget-typed").set_value(1.0).run()
    assert "should lie between" in app.error[0].value
    assert text_of(app) == before
    app.number_input(key="budget-typed").set_value(3.0).run()
    assert not app.error
    assert app.slider(key="budget").value == 3.0


def test_proving_closes_the_gap(open_page: Open) -> None:
    app = open_page(STEM, budget="3.1")
    app.button(key="prove").click().run()
    assert not app.exception
    assert metrics(app)["Above the best plan"] == "0 %, optimal"
    assert parse(text_of(app).encode()).solver.name == "scipy.milp"


def test_an_upload_replaces_the_plan_and_leaves_as_it_came(open_page: Open) -> None:
    app = open_page(STEM, budget="3.0")
    document = json.loads(text_of(app))
    uploaded = json.dumps(document, indent=4).encode()
    app.slider(key="budget").set_value(4.5).run()
    app.file_uploader[0].upload("../evil.json", uploaded, "application/json").run()
    assert not app.exception
    assert text_of(app).encode() == uploaded
    assert any("otherwise than the former one" in one.value for one in app.info)
    assert any("This plan was uploaded" in one.value for one in app.markdown)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"{", "not JSON"),
        (b'{"schema": "![x](https://evil.example)"}', "lacks schema"),
        (b"[" * 5000, "nested deeper"),
        (b'{"schema": NaN}', "NaN"),
    ],
)
def test_a_refused_upload_changes_nothing(raw: bytes, words: str, open_page: Open) -> None:
    app = open_page(STEM)
    before = text_of(app)
    app.file_uploader[0].upload("plan.json", raw, "application/json").run()
    assert not app.exception
    assert words in app.error[0].value.replace("\\", "")
    assert text_of(app) == before


def test_a_plan_for_another_model_is_refused(open_page: Open) -> None:
    app = open_page(STEM)
    before = text_of(app)
    document = json.loads(before)
    document["model"]["weights_sha256"] = "0" * 64
    app.file_uploader[0].upload("plan.json", json.dumps(document).encode(), "application/json").run()
    assert "another model" in app.error[0].value
    assert text_of(app) == before


def test_a_plan_with_a_quantizer_that_nobody_knows_is_refused(open_page: Open) -> None:
    app = open_page(STEM)
    before = text_of(app)
    raw = before.replace('"method": "rtn"', '"method": "<b>magic</b>"').encode()
    app.file_uploader[0].upload("plan.json", raw, "application/json").run()
    assert not app.exception
    told = app.error[0].value.replace("\\", "")
    assert "unknown quantizer '<b>magic</b>'; choose one of: " in told
    assert "rtn" in told
    assert text_of(app) == before


def test_measuring_shows_prediction_beside_measurement(open_page: Open) -> None:
    app = open_page(STEM)
    shown = metrics(app)
    assert {"Predicted rise of the loss", "Measured rise of the loss", "Perplexity"} <= set(shown)


def test_a_solved_plan_costs_no_more_than_one_width_for_all(bench: Bench) -> None:
    for budget in (2.6, 3.0, 3.7, 4.6, 8.5):
        plan, uniform = bench.solve(budget, {}), bench.uniform(budget)
        assert uniform is not None
        assert bench.predicted(plan) <= uniform.value + 1e-12


def test_locks_hold_while_the_rest_is_solved(bench: Bench) -> None:
    plan = bench.solve(3.5, {Q: 8})
    assert widths_of(plan)[Q] == 8
    assert locks_of(plan) == {Q: 8}


def test_a_change_by_hand_makes_another_plan_and_back_again(bench: Bench, memory: dict) -> None:
    desk = Desk(MODEL)
    desk.settle(bench, 3.5)
    solved, widths = desk.text, widths_of(desk.plan)
    changed = {**widths, Q: 8 if widths[Q] != 8 else 2}
    desk.edit(bench, changed, {Q: changed[Q]})
    by_hand = desk.text
    assert desk.origin == "by hand"
    assert widths_of(desk.plan) == changed
    desk.edit(bench, changed, {})
    assert desk.text == by_hand
    desk.edit(bench, widths, {})
    assert desk.text == solved


def test_the_solver_works_around_what_was_locked(bench: Bench, memory: dict) -> None:
    desk = Desk(MODEL)
    desk.settle(bench, 3.5)
    desk.edit(bench, {**widths_of(desk.plan), Q: 8}, {Q: 8})
    desk.wish()
    desk.settle(bench, 3.5)
    assert desk.origin == "solved"
    assert widths_of(desk.plan)[Q] == 8
    assert stored_bits(desk.plan) <= 3.5


def test_locks_that_leave_no_room_keep_the_plan_and_say_so(bench: Bench, memory: dict) -> None:
    desk = Desk(MODEL)
    desk.settle(bench, 2.6)
    before = desk.text
    desk.edit(bench, widths_of(desk.plan), dict.fromkeys(widths_of(desk.plan), 8))
    desk.wish()
    desk.settle(bench, 2.6)
    assert desk.text == before
    assert "With these locks" in desk.trouble


def test_another_model_starts_with_an_empty_desk(bench: Bench, memory: dict) -> None:
    Desk(MODEL).settle(bench, 3.5)
    assert Desk("other").text is None


def test_two_ways_to_the_same_schemes_are_one_question(bench: Bench) -> None:
    solved = bench.solve(3.5, {})
    by_hand = bench.by_hand(widths_of(solved), {Q: widths_of(solved)[Q]}, 4.0)
    assert bare(solved) == bare(by_hand)
    assert widths_of(read_plan(bare(solved))) == widths_of(solved)
    assert difference_table(solved, by_hand).empty


def test_a_plan_with_other_schemes_is_not_priced(bench: Bench) -> None:
    document = bare(bench.solve(3.5, {}))
    document["tensors"][Q]["method_options"] = {"clip": 0.9}
    plan = read_plan(document)
    assert not bench.knows(plan)
    assert bench.predicted(plan) is None


@pytest.mark.parametrize(
    ("predicted", "measured", "words"),
    [
        (0.1, 0.11, "holds"),
        (0.1, 0.3, "more than predicted"),
        (0.3, 0.1, "less than predicted"),
        (None, 0.1, "Measured"),
        (0.1, None, "not finite"),
    ],
)
def test_prediction_against_measurement_in_words(predicted: float | None, measured: float | None, words: str) -> None:
    assert words in verdict(predicted, measured, 0.01)


@pytest.mark.browser
def test_budget_plan_edit_download_and_upload_in_a_browser(server: str, page: Page) -> None:
    page.goto(f"{server}/{STEM}?model={MODEL}&budget=3.5", timeout=120_000)
    expect(page.get_by_text("This plan was found by the solver")).to_be_visible(timeout=120_000)
    settled(page)
    page.get_by_label("Or type it").fill("3")
    page.get_by_label("Or type it").press("Enter")
    page.wait_for_url("**budget=3.0*", timeout=60_000)
    settled(page)
    first = download(page)
    assert stored_bits(parse(first)) <= 3.0
    change_first_width(page, 8)
    expect(page.get_by_text("This plan was set by hand")).to_be_visible(timeout=60_000)
    settled(page)
    page.get_by_role("link", name="Jobs").click()
    expect(page.get_by_role("heading", name="What is running?")).to_be_visible(timeout=60_000)
    page.get_by_role("link", name="Bit allocation").click()
    expect(page.get_by_text("This plan was set by hand")).to_be_visible(timeout=60_000)
    settled(page)
    edited = parse(download(page))
    assert edited.tensors[next(iter(edited.tensors))].bits == 8
    chosen = {"name": "plan.json", "mimeType": "application/json", "buffer": first}
    page.set_input_files("[data-testid=stFileUploader] input[type=file]", files=[chosen])
    expect(page.get_by_text("This plan was uploaded")).to_be_visible(timeout=60_000)
    settled(page)
    assert download(page) == first


def download(page: Page) -> bytes:
    with page.expect_download(timeout=60_000) as held:
        page.get_by_role("button", name="Download the plan (JSON)").click()
    return Path(held.value.path()).read_bytes()


def change_first_width(page: Page, bits: int) -> None:
    """Choose another width in the first row of the editor, with the keyboard once its cell has been clicked."""
    editor = page.locator("[class*=st-key-plan-editor] canvas").first
    cell = page.locator("[class*=st-key-plan-editor] [id^=glide-cell-][id$='-2-0']").first
    editor.scroll_into_view_if_needed()
    for _ in range(10):  # the page may still move under the mouse
        page.wait_for_timeout(500)
        place = editor.bounding_box()
        assert place is not None
        page.mouse.click(place["x"] + 155, place["y"] + 52)
        page.wait_for_timeout(1500)
        if cell.get_attribute("aria-selected", timeout=5_000) == "true":
            break
    page.keyboard.press("Enter")
    chooser = page.locator("#portal input")
    expect(chooser).to_be_visible(timeout=10_000)
    chooser.press_sequentially(str(bits))
    page.wait_for_timeout(500)
    chooser.press("Enter")
