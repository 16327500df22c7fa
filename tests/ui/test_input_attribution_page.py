"""Input attribution: several methods on one prompt and two models, what is explained, units, marks."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from fake_client import FakeClient
from streamlit.testing.v1 import AppTest

Open = Callable[..., AppTest]
STEM = "input_attribution"
DETAIL = 3
"""Strips of the method in detail: full, quantized, difference."""


def strips(app: AppTest) -> dict[str, dict[str, Any]]:
    held = [json.loads(strip.proto.json) for strip in app.get("bidi_component")]
    return {data["label"]: data for data in held}


def answer(client: FakeClient, **asked: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Question and document of the last map of the full model that was given for this."""
    specs = [spec for kind, spec in client._given if kind == "attribute" and spec["scheme"] is None]
    spec = next(spec for spec in reversed(specs) if all(spec[name] == value for name, value in asked.items()))
    return spec, client.answers("attribute", spec).document


def badges(app: AppTest) -> list[str]:
    """Of the full and the quantized model, and of the methods beside."""
    return [one.value for one in app.markdown if "badge[" in one.value]


def test_it_shows_full_quantized_and_difference_on_one_scale(open_page: Open) -> None:
    app = open_page(STEM)
    assert not app.exception
    full, quantized, difference, *others = strips(app).values()
    assert full["tokens"] == quantized["tokens"] == difference["tokens"]
    assert full["high"].split()[0] == quantized["high"].split()[0] == difference["high"].split()[0]
    largest = max(abs(share) for strip in (full, quantized) for share in strip["shares"])
    assert largest == pytest.approx(1)
    assert full["tokens"][0] == "<s>"
    assert full["fixed"][0] is True
    assert [strip["label"] for strip in others] == [
        "Tokens by attribution, linearised",
        "Tokens by attribution, occlusion",
    ]
    assert all(strip["tokens"] == full["tokens"] for strip in others)


def test_another_method_beside_is_another_strip(open_page: Open) -> None:
    app = open_page(STEM, beside=["gradient", "linearised"])
    assert not app.exception
    assert list(strips(app))[DETAIL:] == ["Tokens by attribution, gradient", "Tokens by attribution, linearised"]
    assert len(strips(app)["Tokens by attribution, gradient"]["scale"]) == 2
    assert len(strips(app)["Tokens by attribution, linearised"]["scale"]) == 3
    app.multiselect(key="beside").set_value(["gradient"]).run()
    assert list(strips(app))[DETAIL:] == ["Tokens by attribution, gradient"]


def test_a_method_beside_changes_places_with_the_one_in_detail(open_page: Open) -> None:
    app = open_page(STEM)
    app.button(key="swap-occlusion").click().run()
    assert not app.exception
    assert app.selectbox(key="method").value == "occlusion"
    assert app.multiselect(key="beside").value == ["linearised", "integrated_gradients"]
    assert next(iter(strips(app))) == "Tokens by attribution, occlusion, full precision"


def test_words_and_sentences_have_the_sums_of_their_tokens_and_ask_for_nothing(
    open_page: Open, client: FakeClient
) -> None:
    app = open_page(STEM, prompt="The dog sat. The cat ran!")
    _, document = answer(client, method="integrated_gradients", prompt="The dog sat. The cat ran!")
    asked = len(client._given)
    for size, plural in (("word", "words"), ("sentence", "sentences")):
        app.segmented_control(key="size").set_value(size).run()
        strip = next(iter(strips(app).values()))
        sums = [sum(document["scores"][first:stop]) for first, stop in document["spans"][size]]
        largest = max(abs(one) for one in sums)
        shown = [share * float(strip["high"].split()[0]) for share in strip["shares"]]
        assert len(strip["tokens"]) == len(sums) < len(document["tokens"]), plural
        assert sum(shown) == pytest.approx(sum(document["scores"]), rel=0.02, abs=0.02 * largest)
    fresh = {json.dumps(one, sort_keys=True) for one in client._given[asked:]}
    assert fresh <= {json.dumps(one, sort_keys=True) for one in client._given[:asked]}


def test_agreement_is_told_in_numbers_and_words(open_page: Open) -> None:
    app = open_page(STEM)
    told = {"Rank agreement", "Same top 3 tokens", "Tokens that changed sign"}
    assert told <= {metric.label for metric in app.metric}
    assert any("The two models put the tokens in" in caption.value for caption in app.caption)


def test_completeness_is_green_only_within_the_tolerance(open_page: Open) -> None:
    found = badges(open_page(STEM))
    assert len(found) == 4
    for badge in found[:2]:
        assert ("green-badge" in badge) == ("not complete" not in badge)


def test_scores_that_do_not_add_up_are_not_green(open_page: Open) -> None:
    address = {"integrated_gradients.nodes": "2", "integrated_gradients.max_nodes": "2"}
    for badge in badges(open_page(STEM, **address))[:2]:
        assert "orange-badge" in badge
        assert "not complete" in badge


def test_a_method_without_a_sum_promises_nothing(open_page: Open) -> None:
    app = open_page(STEM, method="gradient")
    assert not app.exception
    assert all("no promise to add up" in badge for badge in badges(app)[:2])


@pytest.mark.slow
def test_every_method_can_be_opened_from_an_address(open_page: Open, client: FakeClient) -> None:
    for method in client.methods()["attribution"]:
        app = open_page(STEM, method=method["name"])
        assert not app.exception
        assert app.selectbox(key="method").value == method["name"]
        assert len(strips(app)) >= DETAIL + 1


def test_attention_carries_its_warning_and_the_figure_beside_it(open_page: Open) -> None:
    app = open_page(STEM, beside="attention")
    assert not app.exception
    assert any("Attention is not an explanation" in one.value for one in app.warning)
    drawn = [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]
    titles = [figure["layout"]["xaxis"]["title"].get("text") for figure in drawn]
    assert "score by attention" in titles
    without = open_page(STEM, beside="gradient")
    assert not any("Attention is not an explanation" in one.value for one in without.warning)


def test_every_map_is_told_in_words(open_page: Open, client: FakeClient) -> None:
    app = open_page(STEM)
    sentences = answer(client, method="integrated_gradients")[1]["sentences"]
    written = [one.value.replace("\\", "").replace("\u2060", "") for one in app.markdown]
    assert " ".join(sentences) in written


def test_costs_are_told_before_a_run_and_long_ones_wait(
    open_page: Open, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_page(STEM)
    told = next(one.value for one in app.caption if one.value.startswith("Each map takes"))
    assert "occlusion: about" in told.replace("\\", "")
    assert "forward and" in told
    monkeypatch.setattr("workbench.ui.attribution_cost.PATIENCE", 0.0)
    client.hold("attribute")
    waiting = open_page(STEM, prompt="One dog and one cat.")
    assert not client.submitted
    assert any(one.label.startswith("Compute attribution by") for one in waiting.button)
    assert any(one.value.startswith("Takes about") for one in waiting.caption)


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


def test_tokens_of_the_text_are_explained_by_those_before(open_page: Open, client: FakeClient) -> None:
    app = open_page(STEM, explain="9-10")
    assert not app.exception
    spec, _ = answer(client, method="integrated_gradients")
    assert (spec["target"], spec["explain"]) == ("continuation:", [8, 10])
    strip = next(iter(strips(app).values()))
    assert len(strip["tokens"]) == 10
    assert strip["fixed"][8:] == [True, True]
    app.button(key="explain-next").click().run()
    assert len(next(iter(strips(app).values()))["tokens"]) > 10


def test_names_and_marks_are_added_up_in_every_map(open_page: Open, client: FakeClient) -> None:
    app = open_page(STEM, prompt="The dog sat by the dog", names="dog, cat", marked="2-3", beside="occlusion")
    assert not app.exception
    assert strips(app)["Tokens by attribution, occlusion"]["marked"][:4] == [False, True, True, False]
    table = next(one.value for one in app.dataframe if "times" in one.value)
    row = table[(table["what"] == "dog") & (table["map"] == "occlusion")].iloc[0]
    _, document = answer(client, method="occlusion")
    words = ["".join(document["tokens"][first:stop]).strip() for first, stop in document["spans"]["word"]]
    places = [span for span, word in zip(document["spans"]["word"], words, strict=True) if word == "dog"]
    assert row["times"] == len(places) == 2
    assert row["sum"] == pytest.approx(sum(sum(document["scores"][first:stop]) for first, stop in places))
    assert any("Not in the prompt: cat" in one.value.replace("\\", "") for one in app.caption)


def test_the_likeliest_tokens_are_offered_as_targets(open_page: Open) -> None:
    app = open_page(STEM)
    pills = next(one for one in app.pills if one.key == "suggested-target")
    assert len(pills.options) == 6
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
    client.hold("attribute")
    app.text_area(key="prompt").set_value("so long " * 12_500).run()
    assert not app.exception
    assert any("Prompt has 100,000 characters; the first 10,000 are read." in one.value for one in app.warning)
    assert "prompt" not in app.query_params
