"""Input attribution: two models on one prompt, what is explained, how it is scored."""

import json
from collections.abc import Callable

import pytest
from fake_client import FakeClient
from streamlit.testing.v1 import AppTest

Open = Callable[..., AppTest]
STEM = "input_attribution"


def strips(app: AppTest) -> list[dict]:
    return [json.loads(strip.proto.json) for strip in app.get("bidi_component")]


def test_it_shows_full_quantized_and_difference_on_one_scale(open_page: Open) -> None:
    app = open_page(STEM)
    assert not app.exception
    assert len(app.get("bidi_component")) == 3
    full, quantized, difference = strips(app)
    assert full["tokens"] == quantized["tokens"] == difference["tokens"]
    assert full["high"].split()[0] == quantized["high"].split()[0] == difference["high"].split()[0]
    largest = max(abs(share) for strip in (full, quantized) for share in strip["shares"])
    assert largest == pytest.approx(1)
    assert full["tokens"][0] == "<s>"
    assert full["fixed"][0] is True


def test_agreement_is_told_in_numbers_and_words(open_page: Open) -> None:
    app = open_page(STEM)
    assert {metric.label for metric in app.metric} == {
        "Rank agreement",
        "Same top 3 tokens",
        "Tokens that changed sign",
    }
    assert any("The two models put the tokens in" in caption.value for caption in app.caption)


def test_completeness_is_green_only_within_the_tolerance(open_page: Open) -> None:
    badges = [one.value for one in open_page(STEM).markdown if "badge[" in one.value]
    assert len(badges) == 2
    for badge in badges:
        assert ("green-badge" in badge) == ("not complete" not in badge)


def test_scores_that_do_not_add_up_are_not_green(open_page: Open) -> None:
    address = {"integrated_gradients.nodes": "2", "integrated_gradients.max_nodes": "2"}
    badges = [one.value for one in open_page(STEM, **address).markdown if "badge[" in one.value]
    assert len(badges) == 2
    for badge in badges:
        assert "orange-badge" in badge
        assert "not complete" in badge


def test_a_method_without_a_sum_promises_nothing(open_page: Open) -> None:
    app = open_page(STEM, method="gradient")
    assert not app.exception
    assert sum("no promise to add up" in one.value for one in app.markdown) == 2


@pytest.mark.slow
def test_every_method_can_be_opened_from_an_address(open_page: Open, client: FakeClient) -> None:
    for method in client.methods()["attribution"]:
        app = open_page(STEM, method=method["name"])
        assert not app.exception
        assert app.selectbox(key="method").value == method["name"]
        assert len(app.get("bidi_component")) == 3


def test_options_that_differ_from_their_defaults_are_asked_for(open_page: Open, client: FakeClient) -> None:
    app = open_page(STEM)
    client.hold("attribute")
    app.number_input(key="integrated_gradients.nodes").set_value(64).run()
    kind, spec = client.submitted[0]
    assert (kind, spec["options"]) == ("attribute", {"nodes": 64})
    assert app.query_params["integrated_gradients.nodes"] in ("64", ["64"])


def test_target_and_contrast_reach_the_study(open_page: Open, client: FakeClient) -> None:
    app = open_page(STEM)
    client.hold("attribute")
    app.text_input(key="target").set_value(" s")
    app.selectbox(key="output").set_value("logit")
    app.text_input(key="contrast").set_value("id:70").run()
    spec = client.submitted[0][1]
    assert (spec["target"], spec["contrast"]) == ("logit: s", "id:70")


def test_the_likeliest_tokens_are_offered_as_targets(open_page: Open) -> None:
    app = open_page(STEM)
    offered = app.get("button_group")
    pills = next(one for one in app.pills if one.key == "suggested-target")
    assert len(pills.options) == 6
    assert offered is not None
    app.pills(key="suggested-target").set_value(pills.options[0]).run()
    assert not app.exception


def test_a_failed_study_shows_its_sentence_and_the_rest_of_the_page(open_page: Open, client: FakeClient) -> None:
    client.hold("attribute", "failed", error="the prompt has 900 tokens; the model reads at most 512")
    app = open_page(STEM)
    assert not app.exception
    assert sum("900 tokens" in error.value for error in app.error) == 2
    assert app.text_area(key="prompt").value


def test_it_waits_for_the_worker_to_list_its_methods(open_page: Open, client: FakeClient) -> None:
    client.ready = False
    app = open_page(STEM, method="gradient")
    assert not app.exception
    assert any("The worker is starting" in info.value for info in app.info)
    client.ready = True
    app.run()
    assert app.selectbox(key="method").value == "gradient"


def test_a_prompt_over_the_limit_is_cut_and_said_so(open_page: Open, client: FakeClient) -> None:
    app = open_page(STEM)
    app.text_area(key="prompt").set_value("so long " * 12_500).run()
    assert not app.exception
    assert any("Prompt has 100,000 characters; the first 10,000 are read." in one.value for one in app.warning)
    assert "prompt" not in app.query_params
