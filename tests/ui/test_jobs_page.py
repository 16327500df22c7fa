"""The Jobs page: bars, badges, what can be done with a job."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_client import FakeClient, make_job
from streamlit.testing.v1 import AppTest

from workbench.estimates.record import Record
from workbench.ui import defaults, links

Open = Callable[..., AppTest]


def test_an_empty_list_says_so(open_page: Open) -> None:
    app = open_page("jobs")
    assert not app.exception
    assert [caption.value for caption in app.caption if "study" in caption.value or "Nothing" in caption.value]
    assert not app.dataframe


def test_running_and_waiting_jobs_have_bars_and_can_be_cancelled(open_page: Open, client: FakeClient) -> None:
    spec = defaults.salience("tiny")[1]
    client.list_jobs(make_job("salience", spec, "running", done=3, total=4), make_job("inspect", spec, "queued"))
    app = open_page("jobs")
    assert not app.exception
    first, second = app.get("progress")
    assert (first.proto.value, second.proto.value) == (75, 0)
    assert "next in line" in second.proto.text
    assert any("1 running, 1 waiting" in one.value.replace("\\", "") for one in app.markdown)
    app.button(key="cancel-salience-running").click().run()
    assert client.job("salience-running").state == "cancelled"


def test_the_time_that_is_left_is_told_from_the_speed_so_far(open_page: Open, client: FakeClient) -> None:
    client.list_jobs(make_job("salience", {"model": "tiny"}, "running", done=1, total=2))
    text = open_page("jobs").get("progress")[0].proto.text
    assert "50%" in text
    left = re.search(r"about (\d+) s left", text)
    assert left
    assert 49 <= int(left[1]) <= 60


def test_a_failed_job_says_why_and_can_be_run_again(open_page: Open, client: FakeClient) -> None:
    spec = defaults.salience("tiny")[1]
    client.list_jobs(make_job("salience", spec, "failed", error="no ![x](https://evil.example/p.png) such text"))
    app = open_page("jobs")
    assert any("\\!\\[x\\]" in one.value for one in app.markdown)
    app.button(key="again-salience-failed").click().run()
    assert client.submitted == [("salience", spec)]


def test_opening_a_finished_job_takes_its_choices_over(open_page: Open, client: FakeClient) -> None:
    question = defaults.attribute(
        "tiny",
        "A dog ran",
        explained=defaults.Explained("logit: s"),
        options={"nodes": 64},
        scheme=defaults.scheme(bits=2, group_size=32),
    )
    client.list_jobs(make_job(*question, "done"))
    app = open_page("jobs")
    app.button(key="open-attribute-done").click().run().switch_page("pages/input_attribution.py").run()
    assert not app.exception
    assert app.title[0].value == "Which words drive the next word?"
    assert app.text_area(key="prompt").value == "A dog ran"
    assert app.text_input(key="target").value == " s"
    assert app.selectbox(key="output").value == "logit"
    assert app.number_input(key="integrated_gradients.nodes").value == 64
    assert (app.segmented_control(key="bits").value, app.selectbox(key="group").value) == (2, 32)


@pytest.mark.parametrize("state", ["done", "failed", "cancelled", "interrupted"])
def test_every_end_has_a_row_in_the_table(open_page: Open, client: FakeClient, state: str) -> None:
    client.list_jobs(make_job("attribute", defaults.attribute("tiny", "=1+1")[1], state))
    app = open_page("jobs")
    assert not app.exception
    table = app.dataframe[0].value
    assert (table["state"][0], table["study"][0]) == (state, "input attribution")


def test_links_lead_back_to_every_kind_of_study() -> None:
    assert {kind for kind, _ in defaults.every_opening()} <= links.PAGES.keys()


def test_links_name_texts_as_they_are_shown(ui_models: Path) -> None:
    texts = defaults.Texts(*(str(ui_models / "tiny" / name) for name in ("sampled.txt", "calibration.txt")))
    choices = dict(links.chosen(defaults.tradeoff("tiny", texts)[1]))
    assert (choices["calibration"], choices["text"]) == ("sampled.txt", "calibration.txt")


def test_what_was_expected_stands_beside_what_it_took(open_page: Open, client: FakeClient) -> None:
    kind, spec = defaults.salience("tiny")
    done, failed = make_job(kind, spec, "done"), make_job(kind, spec, "failed", error="no such text")
    client.list_jobs(done, failed)
    client.recorded[done.id] = Record(seconds=12.2, peak=600_000_000, took=9.8, processor=9.5, held=512_000_000)
    app = open_page("jobs")
    assert not app.exception
    told = [one.value for one in app.caption if "Expected" in one.value]
    assert len(told) == 1
    assert told[0] == "Expected about 12 s and 600 MB; took 10 s and 512 MB."
    table = app.dataframe[0].value
    assert table.loc[0, ["expected seconds", "study seconds", "expected GB", "most GB"]].tolist() == [
        12.2,
        9.8,
        0.6,
        0.512,
    ]
    assert table.loc[1, ["expected seconds", "most GB"]].isna().all()
