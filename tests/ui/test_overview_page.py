"""The Overview: filled, empty, failed, for a model without the worker's list of methods."""

import json
from collections.abc import Callable

import pytest
import streamlit as st
from fake_client import FakeClient
from streamlit.testing.v1 import AppTest

from workbench.ui.numbers import TIMES

Open = Callable[..., AppTest]


def text_of(app: AppTest) -> str:
    return "\n".join(
        element.value for kind in ("markdown", "caption", "info", "warning", "error") for element in app.get(kind)
    )


def test_it_opens_on_finished_results_with_three_sentences(open_page: Open) -> None:
    app = open_page()
    assert not app.exception
    assert not app.error
    shown = text_of(app)
    assert "**The model.** **tiny** has" in shown
    assert "14 matrices" in shown
    assert "**Its weights.** By wanda" in shown
    assert "rtn\\, 3 bits\\, groups of 64" in shown
    assert "**The words.** After the prompt below the model expects “" in shown


def test_an_address_with_a_model_that_is_not_offered_says_so_until_another_is_asked_for(open_page: Open) -> None:
    app = open_page(model="gone **b**")
    assert not app.exception
    told = app.warning[0].value.replace("\\", "")
    assert "asks for model 'gone **b**', which is not offered here" in told
    assert "choose one of: tiny. This page is about tiny." in told
    assert len(app.run().warning) == 1
    app.query_params["model"] = "tiny"
    assert not app.run().warning


def test_it_shows_words_and_weights_together_with_their_tables(open_page: Open) -> None:
    app = open_page()
    strip, charts = app.get("bidi_component"), app.get("plotly_chart")
    assert len(strip) == 1
    assert len(charts) == 1
    drawn = json.loads(charts[0].proto.spec)
    assert any(trace["type"] == "heatmap" for trace in drawn["data"])
    assert "Mean wanda of every matrix" in charts[0].proto.alt
    assert {"token", "score"} <= set(app.dataframe[0].value.columns)
    assert len(app.dataframe[1].value) == 14


def test_sizes_and_costs_are_tables(open_page: Open) -> None:
    app = open_page()
    sizes, costs = (table.value for table in app.table)
    assert list(sizes["bits"]) == ["16", "8", "4", "3", "2"]
    assert list(costs["stored with"])[:2] == ["full precision", "rtn, 2 bits, groups of 64"]
    assert all(text.startswith(TIMES) for text in costs["against full precision"][1:])


def test_a_long_study_waits_for_a_click_and_a_quick_one_does_not(client: FakeClient, open_page: Open) -> None:
    client.hold("salience")
    client.hold("inspect")
    app = open_page()
    assert [kind for kind, _ in client.submitted] == ["inspect"]
    assert "Not computed yet: the salience of every matrix." in text_of(app)
    app.button(key="run-weights").click().run()
    assert [kind for kind, _ in client.submitted] == ["inspect", "salience"]
    assert client.submitted[1][1]["metric"] == "wanda"


def test_a_failed_study_says_why_and_can_be_run_again(client: FakeClient, open_page: Open) -> None:
    client.hold("salience", "failed", error="calibration text is *too short*")
    app = open_page()
    assert any("calibration text is \\*too short\\*" in error.value for error in app.error)
    app.button(key="run-weights").click().run()
    assert client.submitted[-1][0] == "salience"


def test_interrupted_and_cancelled_studies_can_be_run_again(client: FakeClient, open_page: Open) -> None:
    client.hold("salience", "interrupted")
    client.hold("tradeoff", "cancelled")
    app = open_page()
    assert "was interrupted" in text_of(app)
    assert "was cancelled" in text_of(app)
    assert [app.button(key=key).label for key in ("run-weights", "run-costs")] == ["Run again", "Run again"]


def test_a_result_that_was_cleared_away_can_be_computed_again(client: FakeClient, open_page: Open) -> None:
    client.hold("salience", "done")
    app = open_page()
    assert "no longer on disk" in text_of(app)
    assert app.button(key="run-weights").label == "Run again"


def test_a_running_study_has_a_bar_and_can_be_cancelled(client: FakeClient, open_page: Open) -> None:
    client.hold("salience", "running", done=0.25, note="wanda of layers.0", started=None)
    app = open_page()
    bars = app.get("progress")
    assert bars[0].proto.value == 25
    assert "25%" in bars[0].proto.text
    app.button(key="cancel-weights").click().run()
    assert client.job("salience-running").state == "cancelled"


def test_a_refused_study_says_why(client: FakeClient, open_page: Open) -> None:
    client.hold("salience")
    client.refusal = "20 jobs wait already"
    app = open_page()
    app.button(key="run-weights").click().run()
    assert any("20 jobs wait already" in error.value for error in app.error)


def test_before_the_worker_has_listed_its_methods_the_page_still_shows_results(
    client: FakeClient, open_page: Open
) -> None:
    client.ready = False
    app = open_page()
    assert not app.exception
    assert "**Its weights.** By wanda" in text_of(app)
    assert not [one for one in app.selectbox if one.key == "metric"]


def test_the_same_text_for_both_purposes_is_refused_in_one_sentence(open_page: Open) -> None:
    app = open_page(calibration="sampled.txt")
    assert not app.exception
    assert len(app.error) == 1
    assert "choose two different texts" in app.error[0].value
    app.selectbox(key="text").set_value("calibration.txt").run()
    assert not app.error


def test_a_new_prompt_keeps_the_former_answer_greyed_until_the_next_is_there(
    client: FakeClient, open_page: Open
) -> None:
    app = open_page()
    client.hold("attribute", "running", done=0.1)
    app.text_area(key="prompt").set_value("The cat sat").run()
    assert not app.exception
    assert any("What follows was computed for other choices" in warning.value for warning in app.warning)
    assert len(app.get("bidi_component")) == 1
    client.release("attribute")
    app.run()
    assert not app.warning


def test_an_empty_prompt_is_replaced_with_a_sentence(open_page: Open) -> None:
    app = open_page(prompt="   ")
    assert not app.exception
    assert any("The prompt is empty" in info.value for info in app.info)


def test_a_notice_of_the_job_store_is_shown_until_it_is_dismissed(client: FakeClient, open_page: Open) -> None:
    client.told = "the list of jobs was *damaged*"
    app = open_page()
    assert any("\\*damaged\\*" in warning.value for warning in app.warning)
    app.button(key="dismiss-notice").click().run()
    assert not app.warning


def test_a_server_that_others_can_reach_says_so(open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not open_page().warning
    listening = st.get_option
    monkeypatch.setattr(st, "get_option", lambda name: "0.0.0.0" if name == "server.address" else listening(name))
    assert any("asks for no password" in warning.value for warning in open_page().warning)


def test_without_any_model_the_page_says_so_in_one_sentence(open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORKBENCH_MODELS")
    app = open_page()
    assert not app.exception
    assert [error.value.startswith("There is no model to look at") for error in app.error] == [True]
