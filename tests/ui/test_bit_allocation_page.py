"""Bit allocation: budget to plan, plan to file and back, changes by hand, what the plan was measured to cost."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from fake_client import Answers, FakeClient
from opened_pages import MODEL, settled
from playwright.sync_api import Page, expect
from streamlit.testing.v1 import AppTest

from workbench.allocation.budgets import bits_request
from workbench.allocation.export import TARGETS, Exported, export
from workbench.allocation.plan import Plan, parse, read_plan, stored_bits
from workbench.errors import WorkbenchError
from workbench.ui import defaults, links
from workbench.ui.bench import Bench
from workbench.ui.budget import file_size
from workbench.ui.decide import missed
from workbench.ui.defaults import Limits
from workbench.ui.desk import Desk
from workbench.ui.plan_files import verdict
from workbench.ui.plans import bare, difference_table, locks_of, widths_of

Open = Callable[..., AppTest]
STEM = "bit_allocation"
SHOWN_TOOLS = ("gptqmodel", "llama.cpp")
"""Tools whose text is looked at in the quick tests."""

Q = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture
def bench(answers: Answers, ui_models: Path) -> Bench:
    texts = defaults.Texts(*(str(ui_models / MODEL / name) for name in ("calibration.txt", "sampled.txt")))
    cells = answers(*defaults.sensitivity(MODEL, texts)).document
    return Bench(cells, answers(*defaults.inspect(MODEL)).document)


@pytest.fixture(autouse=True)
def _nothing_long(client: FakeClient) -> None:
    """Studies that decide are asked for by the tests that look at them."""
    for kind in ("allocate", "guarded"):
        client.hold(kind)


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
        (b"blk.0.attn_q.weight=![x](https://evil.example)", "unknown llama.cpp type"),
        (b'{"![x](https://evil.example)": 4}', "has no matrix"),
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
        plan, uniform = bench.solve(bits_request(budget), {}), bench.uniform(bits_request(budget), {})
        assert uniform is not None
        assert bench.predicted(plan) <= uniform.value + 1e-12


def test_locks_hold_while_the_rest_is_solved(bench: Bench) -> None:
    plan = bench.solve(bits_request(3.5), {Q: 8})
    assert widths_of(plan)[Q] == 8
    assert locks_of(plan) == {Q: 8}


def test_a_change_by_hand_makes_another_plan_and_back_again(bench: Bench, memory: dict) -> None:
    desk = Desk(MODEL)
    desk.settle(bench, bits_request(3.5))
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
    desk.settle(bench, bits_request(3.5))
    desk.edit(bench, {**widths_of(desk.plan), Q: 8}, {Q: 8})
    desk.wish()
    desk.settle(bench, bits_request(3.5))
    assert desk.origin == "solved"
    assert widths_of(desk.plan)[Q] == 8
    assert stored_bits(desk.plan) <= 3.5


def test_a_job_that_is_opened_again_brings_its_locks_back(
    bench: Bench, memory: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.ui.links.chosen", lambda spec: ())
    desk = Desk(MODEL)
    desk.settle(bench, bits_request(3.5))
    desk.edit(bench, widths_of(desk.plan), {Q: widths_of(desk.plan)[Q]})
    links.take_over({"model": MODEL, "locks": {Q: 8}})
    reopened = Desk(MODEL)
    reopened.settle(bench, bits_request(3.5))
    assert reopened.locks == {Q: 8} == locks_of(reopened.plan)
    assert reopened.base("another editor", True)["locks"] == {Q: 8}
    plan = reopened.text
    links.take_over({"model": MODEL, "locks": {Q: 8}})
    reopened.settle(bench, bits_request(3.5))
    assert Desk(MODEL).text == plan  # the same locks: nothing is solved again
    links.take_over({"model": MODEL, "locks": {}})
    assert Desk(MODEL).locks == {}


def test_locks_that_leave_no_room_keep_the_plan_and_say_so(bench: Bench, memory: dict) -> None:
    desk = Desk(MODEL)
    desk.settle(bench, bits_request(2.6))
    before = desk.text
    desk.edit(bench, widths_of(desk.plan), dict.fromkeys(widths_of(desk.plan), 8))
    desk.wish()
    desk.settle(bench, bits_request(2.6))
    assert desk.text == before
    assert "With these locks" in desk.trouble


def test_another_model_starts_with_an_empty_desk(bench: Bench, memory: dict) -> None:
    Desk(MODEL).settle(bench, bits_request(3.5))
    assert Desk("other").text is None


def test_two_ways_to_the_same_schemes_are_one_question(bench: Bench) -> None:
    solved = bench.solve(bits_request(3.5), {})
    by_hand = bench.by_hand(widths_of(solved), {Q: widths_of(solved)[Q]}, bits_request(4.0))
    assert bare(solved) == bare(by_hand)
    assert widths_of(read_plan(bare(solved))) == widths_of(solved)
    assert difference_table(solved, by_hand).empty


def test_a_plan_with_other_schemes_is_not_priced(bench: Bench) -> None:
    document = bare(bench.solve(bits_request(3.5), {}))
    document["tensors"][Q]["method_options"] = {"clip": 0.9}
    plan = read_plan(document)
    assert not bench.knows(plan)
    assert bench.predicted(plan) is None


def test_a_file_budget_is_kept_with_everything_that_no_plan_touches(open_page: Open, bench: Bench) -> None:
    app = open_page(STEM, count="bytes of the whole file")
    assert not app.exception
    slider = app.slider(key="size-KB")
    slider.set_value(slider.min).run()
    plan = parse(text_of(app).encode())
    tensors = plan.tensors.values()
    whole = bench.inspected["sizes"][0]["total_bytes"] - 2 * sum(one.numel for one in tensors)
    size = whole + sum(one.storage_bits for one in tensors) / 8
    assert plan.budget.kind == "file_bytes"
    assert plan.budget.solved == pytest.approx(size)
    assert size <= 1000 * slider.min
    assert file_size(stored_bits(plan), bench.inspected) == pytest.approx(size)


def test_a_typed_file_size_moves_the_slider_or_is_refused(open_page: Open) -> None:
    app = open_page(STEM, count="bytes of the whole file")
    middle = round((app.slider(key="size-KB").min + app.slider(key="size-KB").max) / 2, 1)
    app.text_input(key="size-typed").set_value(f"{1000 * middle:.0f}").run()
    assert not app.error
    assert app.slider(key="size-KB").value == middle
    for text, words in (("1KB", "leaves nothing"), ("a lot", "not understood"), ("9GB", "should lie between")):
        app.text_input(key="size-typed").set_value(text).run()
        assert words in app.error[0].value
        assert app.slider(key="size-KB").value == middle


def test_fused_matrices_are_alike_and_the_price_is_no_gain(bench: Bench) -> None:
    tied = Bench(bench.cells, bench.inspected, Limits(fused=True))
    for budget in (2.7, 3.3, 4.1):
        plan = tied.solve(bits_request(budget), {}, exact=True)
        widths, free = widths_of(plan), bench.solve(bits_request(budget), {}, exact=True)
        for layer in (0, 1):
            attention = {widths[f"model.layers.{layer}.self_attn.{role}_proj.weight"] for role in "qkv"}
            mlp = {widths[f"model.layers.{layer}.mlp.{role}_proj.weight"] for role in ("gate", "up")}
            assert len(attention) == len(mlp) == 1
        price = tied.predicted(plan) - bench.predicted(free)
        assert plan.solver.tie_price == pytest.approx(price, abs=1e-9)
        assert price >= -1e-9


def test_the_price_of_the_ties_is_shown(open_page: Open) -> None:
    app = open_page(STEM, budget="3.1", fused="true")
    assert not app.exception
    assert "Price of the ties" in metrics(app)
    assert "Price of the ties" not in metrics(open_page(STEM, budget="3.1"))


def test_limits_are_kept_by_the_solver_and_not_by_hand(bench: Bench) -> None:
    narrow = Bench(bench.cells, bench.inspected, Limits(floor=3, ceiling=4))
    assert narrow.budgets[0] > bench.budgets[0]
    assert narrow.budgets[1] < bench.budgets[1]
    plan = narrow.solve(bits_request(narrow.usual_budget), {Q: 8})
    widths = widths_of(plan)
    assert widths.pop(Q) == 8
    assert set(widths.values()) <= {3, 4}
    assert narrow.by_hand({**widths, Q: 2}, {}, bits_request(4.0)).tensors[Q].bits == 2
    assert narrow.digest != bench.digest


def test_two_quantizers_are_mixed_where_each_is_better(open_page: Open) -> None:
    app = open_page(STEM, budget="3.1", quantizers=["rtn", "gptq"])
    assert not app.exception
    plan = parse(text_of(app).encode())
    alone = parse(text_of(open_page(STEM, budget="3.1")).encode())
    assert {one.method for one in plan.tensors.values()} <= {"rtn", "gptq"}
    assert plan.solver.value <= alone.solver.value + 1e-9


@pytest.mark.parametrize(
    "way",
    [
        "its share of all together (joint path)",
        pytest.param("gradient and curvature (second order)", marks=pytest.mark.slow),
    ],
)
def test_shares_of_the_loss_price_a_plan_too(way: str, open_page: Open) -> None:
    app = open_page(STEM, budget="3.1", by=way, measure="divergence from the full model")
    assert not app.exception
    assert app.selectbox(key="measure").options == ["rise of the loss"]
    assert parse(text_of(app).encode()).result.additive_prediction.delta_loss is not None


GPTQMODEL = {"bits": 4, "group_size": 64, "sym": False, "dynamic": {r"+:^model\.layers\.0\.": {"bits": 8}}}


@pytest.mark.parametrize(
    ("raw", "form", "q_bits", "last_bits"),
    [
        (json.dumps(GPTQMODEL), "GPTQModel configuration", 8, 4),
        (json.dumps({"default": 3, Q: 8}), "plan by hand", 8, 3),
        ("blk.0.attn_q.weight=q8_0 weight=q4_0", "llama.cpp tensor-type list", 8, 4),
    ],
)
def test_plans_of_other_tools_are_read_and_said_so(
    raw: str, form: str, q_bits: int, last_bits: int, open_page: Open
) -> None:
    app = open_page(STEM)
    app.file_uploader[0].upload("plan.txt", raw.encode(), "text/plain").run()
    assert not app.exception
    told = " ".join(one.value for one in app.info).replace("\\", "")
    assert f"It was read as a {form}." in told
    widths = widths_of(parse(text_of(app).encode()))
    assert widths[Q] == q_bits
    assert list(widths.values())[-1] == last_bits


@pytest.mark.parametrize(
    "tool", [pytest.param(name, marks=() if name in SHOWN_TOOLS else pytest.mark.slow) for name in TARGETS]
)
def test_every_tool_gets_its_text_or_a_reason(tool: str, open_page: Open) -> None:
    app = open_page(STEM, budget="3.3", tool=tool)
    assert not app.exception
    wanted = export_or_reason(parse(text_of(app).encode()), tool)
    if isinstance(wanted, str):
        (reason,) = [one.value for one in app.warning if "cannot be told this plan" in one.value]
        assert wanted[:40] in plain(reason)
        return
    assert plain(app.download_button(key=f"export-{tool}").label).endswith(wanted.file)
    told = " ".join(plain(one.value) for one in app.markdown)
    assert all(loss in told for loss in wanted.losses)
    assert app.code[-1].value.splitlines()[0] == wanted.text.splitlines()[0]


def export_or_reason(plan: Plan, tool: str) -> Exported | str:
    try:
        return export(plan, tool)
    except WorkbenchError as error:
        return str(error)


def plain(text: str) -> str:
    """Markdown of the escape functions as people read it."""
    return text.replace("\\", "").replace("\u2060", "")


def test_measuring_decides_and_its_plan_can_be_worked_on(open_page: Open, client: FakeClient) -> None:
    client.release("allocate")
    app = open_page(STEM, budget="3.3", refine="0", ways="each matrix alone")
    assert not app.exception
    (verdict_of,) = [one.value for one in app.success if one.value.startswith("**Taken:**")]
    (frame,) = [one.value for one in app.dataframe if "over_taken" in one.value.columns]
    taken = frame[frame["taken"]].iloc[0]
    assert taken["label"] in verdict_of.replace("\\", "")
    assert any(label.startswith("uniform") for label in frame["label"])
    best = frame.loc[frame["delta_loss"].idxmin()]
    assert taken["label"] == best["label"] or taken["label"].startswith("uniform")
    app.button(key="take-decision").click().run()
    assert not app.exception
    assert stored_bits(parse(text_of(app).encode())) == pytest.approx(taken["stored_bits"])
    assert any("This plan was decided by measuring" in one.value for one in app.markdown)


def test_a_prediction_beyond_two_standard_errors_is_called_a_miss() -> None:
    frame = pd.DataFrame(
        {
            "label": ["near", "far", "unknown"],
            "predicted": [1.0, 1.0, None],
            "delta_loss": [1.15, 1.3, 1.3],
            "delta_standard_error": [0.1, 0.1, 0.1],
        }
    )
    (sentence,) = missed(frame)
    assert sentence.startswith("far: predicted 1.00 nats, measured 1.30")


def test_the_fewest_bits_that_keep_the_answers(open_page: Open, client: FakeClient) -> None:
    client.release("guarded")
    loose, tight = (guarded_bits(open_page(STEM, **{"limit-kl": limit})) for limit in ("50", "0.01"))
    assert loose[-1] <= tight[-1]
    assert tight == sorted(tight)


def guarded_bits(app: AppTest) -> list[float]:
    assert not app.exception
    (told,) = [one.value for one in app.success if "stored bits** are enough" in one.value]
    (frame,) = [one.value for one in app.dataframe if "agreement" in one.value.columns]
    assert told.startswith(f"**{frame['stored_bits'].iloc[-1]:.3f} stored bits**")
    return frame["stored_bits"].tolist()


def test_a_guard_with_nothing_to_keep_asks_for_something(open_page: Open, client: FakeClient) -> None:
    app = open_page(STEM, **{"guard-kl": "false"})
    assert any("Switch on at least one" in one.value for one in app.info)
    assert not [kind for kind, _ in client.submitted if kind == "guarded"]


def test_a_failed_decision_says_why_and_leaves_the_plan(open_page: Open, client: FakeClient) -> None:
    client.hold("allocate", "failed", error="the text ![x](https://evil.example) is too short")
    app = open_page(STEM)
    (sentence,) = [one.value for one in app.error]
    assert "too short" in sentence
    assert "![x](" not in sentence
    assert text_of(app)


def test_a_decision_for_another_budget_is_shown_as_stale(open_page: Open, client: FakeClient) -> None:
    client.release("allocate")
    app = open_page(STEM, budget="3.3", refine="0", ways="each matrix alone")
    client.hold("allocate")
    app.slider(key="budget").set_value(4.0).run()
    assert not app.exception
    assert any("computed for other choices: budget was 3" in one.value.replace("\\", "") for one in app.warning)
    assert not [one for one in app.button if one.key == "take-decision"]


def test_solving_for_the_slider_loads_no_torch() -> None:
    code = "import sys, workbench.ui.bench, workbench.allocation.planning; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


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
@pytest.mark.slow
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
