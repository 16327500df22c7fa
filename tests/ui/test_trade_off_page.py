"""Trade-off: uniform widths, plans along budgets and plans of the session; what beats what, what is noise."""

import json
import math
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from fake_client import FakeClient
from streamlit.delta_generator import DeltaGenerator
from streamlit.testing.v1 import AppTest

from workbench.allocation.plan import parse, stored_bits
from workbench.errors import WorkbenchError
from workbench.results import Result
from workbench.ui import front, links, point
from workbench.ui.defaults import Guard, Limits, Mix, allocate, guarded
from workbench.ui.defaults import front as front_question
from workbench.ui.study import Shown
from workbench.ui.trade_off import dominated, noise_sentences

Open = Callable[..., AppTest]
BUDGETS = "3, 4.25"


@pytest.fixture(autouse=True)
def _nothing_long(client: FakeClient) -> None:
    """Studies that decide are asked for by the tests that look at them."""
    for kind in ("allocate", "guarded", "front"):
        client.hold(kind)


@pytest.fixture
def along(open_page: Open, client: FakeClient) -> Callable[..., AppTest]:
    """The page with plans along two budgets and one rule of thumb."""

    def opened(**address: Any) -> AppTest:
        client.hold("front")
        client.release("front")
        return open_page("trade_off", **{"budgets": BUDGETS, "rules": "wanda", "ways": "each matrix alone"} | address)

    return opened


def chart(app: AppTest, place: int = 0) -> dict[str, Any]:
    return json.loads(app.get("plotly_chart")[place].proto.spec)


def test_it_draws_a_point_a_width_and_the_facts_of_one(open_page: Open) -> None:
    app = open_page("trade_off", point="rtn, 3 bits, groups of 64")
    assert not app.exception
    spec = chart(app)
    assert spec["layout"]["yaxis"]["type"] == "log"
    series = next(trace for trace in spec["data"] if trace.get("customdata"))
    assert [label for _, label in series["customdata"]] == [f"rtn, {bits} bits, groups of 64" for bits in (2, 3, 4, 8)]
    assert "**rtn\\, 3 bits\\, groups of 64**" in [one.value for one in app.markdown]
    assert [metric.label for metric in app.metric][:2] == ["Stored bits per weight", "Perplexity"]
    assert any(button.label == "Compute plans along the budgets" for button in app.button)


def test_a_plan_of_the_session_joins_the_points(open_page: Open) -> None:
    app = open_page("bit_allocation")
    app.switch_page("pages/trade_off.py").run()
    assert not app.exception
    points = app.selectbox(key="point").options
    assert len(points) == 5
    assert points[-1].startswith("plan of Bit allocation")
    assert any("In this plan:" in one.value for one in app.markdown)


def test_plans_along_budgets_join_the_points_and_one_is_opened(along: Open) -> None:
    app = along()
    assert not app.exception
    points = app.selectbox(key="point").options
    budgets = [label for label in points if label.startswith("budget ")]
    assert [label.partition(":")[0] for label in budgets] == ["budget 3", "budget 4.25"]
    assert [label for label in points if label.startswith("most wanda")] == [
        "most wanda first, 3",
        "most wanda first, 4.25",
    ]
    assert not [label for label in points if label.startswith("uniform ")]  # they stand there by hand
    assert app.selectbox(key="point").value == budgets[1]
    told = [one.value for one in app.markdown if "Taken at this budget" in one.value]
    assert len(told) == 1
    assert "nats against" in told[0] or "of least loss" in told[0]
    assert any("Rise of the loss: predicted" in one.value for one in app.markdown)


def test_a_plan_of_the_front_keeps_its_budget_and_goes_to_bit_allocation(along: Open) -> None:
    app = along()
    app.button(key="send").click().run()
    assert not app.exception
    text = app.session_state["_allocation"]["text"]
    assert stored_bits(parse(text.encode())) <= 4.25 + 1e-9
    assert app.session_state["_allocation"]["origin"] == "trade-off"


def test_two_plans_stand_side_by_side_with_what_differs(along: Open) -> None:
    points = along().selectbox(key="point").options
    first = next(label for label in points if label.startswith("budget "))
    app = along(point=first, second="most wanda first, 4.25")
    assert not app.exception
    assert any("otherwise than the first" in one.value for one in app.markdown)
    frames = [one.value for one in app.dataframe if "first" in one.value.columns]
    assert len(frames) == 1
    assert (frames[0]["stored bits first"] != frames[0]["stored bits second"]).any()


def test_differences_are_taken_against_the_pinned_point(open_page: Open) -> None:
    app = open_page("trade_off", point="rtn, 3 bits, groups of 64")
    app.button(key="pin").click().run()
    assert "rtn, 3 bits, groups of 64" in app.query_params["pinned"]
    app.selectbox(key="point").set_value("rtn, 4 bits, groups of 64").run()
    assert not app.exception
    assert app.metric[0].delta == "+1.00"
    frame = next(one.value for one in app.dataframe if "over_reference" in one.value.columns)
    rises = dict(zip(frame["label"], frame["delta_loss"], strict=True))
    pinned = rises["rtn, 3 bits, groups of 64"]
    assert frame["over_reference"].tolist() == pytest.approx([rise - pinned for rise in rises.values()])
    lines = [shape for shape in chart(app)["layout"]["shapes"] if shape["line"]["dash"] == "dot"]
    assert len(lines) == 2


def test_budgets_that_are_no_numbers_leave_the_page_standing(open_page: Open) -> None:
    app = open_page("trade_off", budgets="3, ![x](https://evil.example)")
    assert not app.exception
    (sentence,) = [one.value for one in app.error]
    assert "no numbers with commas" in sentence
    assert "![x](" not in sentence
    assert app.get("plotly_chart")


@pytest.mark.parametrize("text", ["", "0", "nan", "-1, 3", ",".join(map(str, range(1, 18)))])
def test_budgets_out_of_reason_are_refused(text: str) -> None:
    with pytest.raises(WorkbenchError, match="should be 1 to 16 numbers above zero"):
        front.read_budgets(text)


def test_budgets_come_sorted_and_once() -> None:
    assert front.read_budgets("4; 2.5, 4.0 ,3") == [2.5, 3.0, 4.0]


def shown(document: dict[str, Any], **facts: Any) -> Shown:
    held = {"text": {"token_ids_sha256": "a"}, "reference": {"perplexity": 4.0}, **document}
    place = DeltaGenerator()
    return Shown(Result(held, facts.get("tables", {})), facts.get("spec", {}), facts.get("stale", False), place)


def row(bits: float, perplexity: float) -> dict[str, float]:
    rise = math.log(perplexity / 4.0)
    return {"stored_bits": bits, "perplexity": perplexity, "loss": math.log(perplexity), "delta_loss": rise,
            "delta_standard_error": 0.1, "kl_mean": rise, "top1_agreement": 0.5}  # fmt: skip


def test_points_of_both_studies_are_joined_and_judged_together() -> None:
    table = pd.DataFrame([{"label": "mine", **row(3.5, 6.0)}])
    by_hand = shown({}, tables={"points": table}, spec={"points": [{"label": "mine", "scheme": {"bits": 3}}]})
    solved = {"budget": 3.5, "label": "solved", "predicted_loss": 0.1, "plan": {"is": "solved"}, **row(3.4, 5.0)}
    even = {"bits": 3, "quantizer": "rtn", "plan": {"is": "even"}, **row(3.5, 6.0)}
    gathered = front.gather(by_hand, shown({"points": [solved], "uniform": [even], "rules": []}, stale=True))
    assert gathered is not None
    frame = gathered.frame
    assert list(frame["label"]) == ["mine", "budget 3.5: solved"]
    assert gathered.plans == {"mine": {"is": "even"}, "budget 3.5: solved": {"is": "solved"}}
    assert frame["dominated"].tolist() == [True, False]
    assert frame["error"].tolist() == pytest.approx([0.6, 0.5])
    assert gathered.place.stale


@pytest.mark.parametrize(("gap", "words"), [(0.5, "worse"), (-0.5, "better"), (0.1, "cannot be told apart")])
def test_a_point_against_another_in_words(gap: float, words: str) -> None:
    one, base = ({"stored_bits": 3.0, "delta_loss": rise, "delta_standard_error": 0.1} for rise in (1 + gap, 1.0))
    assert words in point.against(one, base, "other")


def test_the_job_list_leads_back_to_the_choices_of_a_decision() -> None:
    mix = Mix(("rtn", "gptq"), (2, 4), 32, True, {"gptq": {"damping": 0.1}})
    found = dict(links.chosen(front_question("tiny", mix=mix, budgets=[3.0, 2.5], fused=True)[1]))
    assert found["quantizers"] == ["rtn", "gptq"]
    assert (found["widths"], found["group"], found["symmetric"], found["fused"]) == ([2, 4], 32, True, True)
    assert (found["gptq.damping"], found["budgets"]) == (0.1, "2.5, 3")
    asked = allocate("tiny", budget="450000B", limits=Limits(floor=3))[1]
    sizes = dict(links.chosen(asked))
    assert (sizes["count"], sizes["size-KB"], sizes["size-MB"], sizes["floor"]) == ("file_bytes", 450.0, 0.45, 3)
    kept = dict(links.chosen(guarded("tiny", guard=Guard(max_kl=0.2))[1]))
    assert (kept["guard-kl"], kept["limit-kl"], kept["guard-agreement"]) == (True, 0.2, False)


def test_a_point_is_dominated_when_another_is_no_larger_and_no_worse() -> None:
    assert dominated([2.0, 3.0, 4.0, 4.0], [9.0, 5.0, 6.0, 5.0]) == [False, False, True, True]
    assert dominated([2.0, 2.0], [5.0, 5.0]) == [False, False]


@pytest.mark.parametrize(("gap", "told"), [(0.5, True), (0.2, False)])
def test_neighbours_within_two_standard_errors_are_called_alike(gap: float, told: bool) -> None:
    frame = pd.DataFrame(
        {
            "label": ["one", "other"],
            "stored_bits": [2.5, 3.5],
            "delta_loss": [1.0 + gap, 1.0],
            "delta_standard_error": [0.1, 0.1],
        }
    )
    assert noise_sentences(frame) == [] if told else "one and other cannot be told apart" in noise_sentences(frame)[0]


def test_a_point_within_two_standard_errors_of_zero_is_like_the_full_model() -> None:
    frame = pd.DataFrame({"label": ["*8*"], "stored_bits": [8.5], "delta_loss": [-0.1], "delta_standard_error": [0.06]})
    (sentence,) = noise_sentences(frame)
    assert sentence.startswith("\\*8\\* cannot be told from the full model")
