"""What can be chosen of a quantizer is what it says it has, on every page; choices and defaults from page to page."""

from collections.abc import Callable, Mapping
from typing import Any

from fake_client import FakeClient
from streamlit.testing.v1 import AppTest

from workbench.quantizers.driving.schemes import complete_scheme
from workbench.ui import defaults, links, traits, words

Open = Callable[..., AppTest]


def described(name: str = "one", **said: Any) -> Mapping[str, Any]:
    return {"name": name, "traits": said, "options": []}


def test_a_scheme_is_what_was_chosen_or_what_the_method_fixes() -> None:
    assert traits.scheme(described(), 3, 64, True) == defaults.scheme("one", 3, 64, True)
    fixed = described(fixed_width=True, fixed_group=-1, asymmetric_only=True)
    assert traits.scheme(fixed, 3, 64, True) == defaults.scheme("one", None, -1, False)
    assert traits.widths(fixed) == []
    assert traits.widths(described(widths=(2, 4)), (2, 3, 8)) == [2]
    assert traits.fixed_words(fixed) == ["a width of its own", "whole rows", "no symmetric grid"]
    assert traits.fixed_words(described()) == []
    assert traits.in_words(described(symmetric_only=True)) == (
        "1, 2, 3, 4 or 8 bits, groups of a chosen size, always a symmetric grid"
    )


def test_every_scheme_that_can_be_chosen_is_one_that_the_study_takes(client: FakeClient) -> None:
    for one in client.methods()["quantizers"]:
        for bits in traits.widths(one) or [None]:
            complete = complete_scheme(traits.scheme(one, bits, 32, True))
            assert complete_scheme(traits.scheme(one, bits, 32, complete.symmetric)) == complete


def test_a_fixed_width_has_no_control_of_width_group_or_grid(open_page: Open) -> None:
    app = open_page("input_attribution", quantizer="billm")
    assert not app.exception
    assert "group" not in [one.key for one in app.selectbox]
    assert "symmetric" not in [one.key for one in app.toggle]
    assert "bits" not in [one.key for one in app.segmented_control]
    assert any("billm: a width of its own, groups of 128" in one.value for one in app.caption)


def test_only_the_widths_of_a_method_are_offered(open_page: Open) -> None:
    app = open_page("input_attribution", quantizer="slim_llm", bits="4")
    assert not app.exception
    assert app.segmented_control(key="bits").options == ["2", "3"]
    assert app.segmented_control(key="bits").value == 3
    app = open_page("input_attribution", quantizer="rtn")
    assert app.segmented_control(key="bits").options == ["2", "3", "4", "8"]
    assert app.selectbox(key="group").value == 64


def test_a_fixed_width_is_one_point_of_the_trade_off(open_page: Open, client: FakeClient) -> None:
    before = set(open_page("trade_off").selectbox(key="point").options)
    app = open_page("trade_off", fixed="output_optimal_binary")
    assert not app.exception
    assert not app.error
    (added,) = set(app.selectbox(key="point").options) - before
    assert added.startswith("output_optimal_binary, fixed width")


def test_a_plan_is_not_offered_what_leaves_it_nothing_to_choose(open_page: Open) -> None:
    app = open_page("bit_allocation")
    assert "rtn" in app.multiselect(key="quantizers").options
    assert "billm" not in app.multiselect(key="quantizers").options


def test_a_page_of_several_widths_refuses_a_fixed_one_in_one_sentence(open_page: Open) -> None:
    app = open_page("metric_court", quantizer="billm")
    assert not app.exception
    (sentence,) = [one.value for one in app.error]
    assert "has a fixed width" in sentence


def test_defaults_differ_from_page_to_page_and_choices_stay(open_page: Open) -> None:
    app = open_page("trade_off")
    app.switch_page("pages/layer_error.py").run()
    assert app.segmented_control(key="widths").value == [2, 3, 4]
    app.switch_page("pages/trade_off.py").run()
    assert app.segmented_control(key="widths").value == [2, 3, 4, 8]
    app.segmented_control(key="widths").set_value([3]).run()
    app.switch_page("pages/layer_error.py").run()
    assert not app.exception
    assert app.segmented_control(key="widths").value == [3]


def test_a_job_leads_back_to_its_set(client: FakeClient) -> None:
    known = {one["name"]: one for one in client.methods()["quantizers"]}
    schemes = [
        traits.scheme(known["codebook"], 2, 32, False),
        traits.scheme(known["gptq"], 2, 32, False, {"act_order": True}),
        traits.scheme(known["gptq"], 3, 32, False, {"act_order": True}),
    ]
    found = dict(links.chosen(defaults.layer_error("tiny", schemes=schemes)[1]))
    assert (found["quantizers"], found["widths"], found["group"]) == (["codebook", "gptq"], [2, 3], 32)
    assert found["gptq.act_order"] is True
    one = dict(links.chosen(defaults.matrix_detail("tiny", "m", scheme=schemes[1])[1]))
    assert (one["quantizers"], one["label"]) == (["gptq"], "gptq 2 bit g32, act_order True")


def test_sets_in_words() -> None:
    before, after = (defaults.layer_error(schemes=defaults.compared_schemes(("rtn",), [bits]))[1] for bits in (2, 4))
    told = words.differences(before, after).replace("\\", "")
    assert told == "schemes was rtn 2 bit g64, now rtn 4 bit g64"
    assert words.value_words("points", defaults.quality()[1]["points"]).startswith("rtn 2 bit g64, rtn 3 bit g64")
