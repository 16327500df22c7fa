"""Choices in the address: read, checked, kept from page to page, written back."""

from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest


def script() -> None:
    """A page with one control of every kind, under keys of their own."""
    import streamlit as st

    from workbench.ui import address, controls

    address.begin("alone")
    shown = {
        "animal": controls.select("Animal", ["cat", "dog"], "dog", key="animal"),
        "bits": controls.segments("Bits", [2, 3, 4], 4, key="bits"),
        "widths": controls.segments_many("Widths", [2, 3, 4], [2, 4], key="widths"),
        "on": controls.toggle("On", key="on"),
        "count": controls.number("Count", 8, key="count", low=1, high=100),
        "rate": controls.number("Rate", 1e-3, key="rate", low=0.0, high=1.0),
        "words": controls.line("Words", "hello", key="words", limit=20),
    }
    if st.button("Put", key="put", on_click=address.put, args=("animal", "cat")):
        pass
    address.finish()
    st.session_state["shown"], st.session_state["refused"] = shown, address.refused()


DEFAULTS = {"animal": "dog", "bits": 4, "widths": [2, 4], "on": False, "count": 8, "rate": 1e-3, "words": "hello"}


@pytest.fixture
def run() -> Callable[..., AppTest]:
    def started(**address: str | list[str]) -> AppTest:
        app = AppTest.from_function(script, default_timeout=30)
        for name, value in address.items():
            app.query_params[name] = value
        return app.run()

    return started


def test_an_empty_address_gives_the_defaults_and_stays_empty(run: Callable[..., AppTest]) -> None:
    app = run()
    assert not app.exception
    assert app.session_state["shown"] == DEFAULTS
    assert dict(app.query_params) == {}


def test_an_address_sets_every_control(run: Callable[..., AppTest]) -> None:
    wanted = {"animal": "cat", "bits": 2, "widths": [3], "on": True, "count": 42, "rate": 0.25, "words": "a b&c=<d>"}
    app = run(animal="cat", bits="2", widths=["3"], on="true", count="42", rate="0.25", words="a b&c=<d>")
    assert not app.exception
    assert app.session_state["shown"] == wanted
    assert app.query_params["count"] in ("42", ["42"])


@pytest.mark.parametrize(
    "bad",
    [
        {"animal": "<script>"},
        {"bits": "7"},
        {"widths": ["3", "99"]},
        {"on": "maybe"},
        {"count": "0"},
        {"count": "101"},
        {"count": "nan"},
        {"count": "1e9"},
        {"rate": "inf"},
        {"rate": "nan"},
        {"rate": "9" * 400},
        {"words": "x" * 21},
    ],
    ids=str,
)
def test_a_bad_value_gives_way_to_the_default_and_leaves_the_address(
    run: Callable[..., AppTest], bad: dict[str, str | list[str]]
) -> None:
    app = run(**bad)
    assert not app.exception
    assert app.session_state["shown"] == DEFAULTS
    assert dict(app.query_params) == {}


def test_a_choice_is_written_into_the_address_and_taken_out_when_it_is_the_default_again(
    run: Callable[..., AppTest],
) -> None:
    app = run()
    app.number_input(key="count").set_value(9).run()
    assert dict(app.query_params) == {"count": "9"}
    app.number_input(key="count").set_value(8).run()
    assert dict(app.query_params) == {}


def test_a_choice_wins_over_the_address_that_it_came_with(run: Callable[..., AppTest]) -> None:
    app = run(count="42")
    app.number_input(key="count").set_value(7).run()
    assert app.session_state["shown"]["count"] == 7
    assert dict(app.query_params) == {"count": "7"}


def test_no_width_at_all_means_all_of_the_default(run: Callable[..., AppTest]) -> None:
    app = run()
    app.segmented_control(key="widths").set_value([]).run()
    assert app.session_state["shown"]["widths"] == [2, 4]


def test_put_changes_a_choice_from_a_callback(run: Callable[..., AppTest]) -> None:
    app = run()
    app.button(key="put").click().run()
    assert app.session_state["shown"]["animal"] == "cat"
    assert dict(app.query_params) == {"animal": "cat"}


def late() -> None:
    """A page whose slider is drawn once its result is there."""
    import streamlit as st

    from workbench.ui import address, controls

    address.begin("late")
    st.button("Compute", key="compute")
    if st.session_state.get("ready"):
        st.session_state["shown"] = controls.slider("Budget", 4.0, key="budget", low=2.51, high=8.0, step=0.05)
    address.finish()


def test_an_address_waits_for_a_control_that_is_drawn_later() -> None:
    app = AppTest.from_function(late, default_timeout=30)
    app.query_params["budget"] = "3"
    app.run()
    assert app.query_params["budget"] in ("3", ["3"])
    app.button(key="compute").click().run()
    app.session_state["ready"] = True
    app.run()
    assert not app.exception
    assert app.session_state["shown"] == 3.0


def test_choices_stay_when_one_turns_the_page(open_page: Callable[..., AppTest]) -> None:
    app = open_page("input_attribution", bits="2", prompt="A dog ran")
    assert not app.exception
    app.switch_page("pages/jobs.py").run()
    app.switch_page("pages/overview.py").run()
    assert app.text_area(key="prompt").value == "A dog ran"
    app.switch_page("pages/input_attribution.py").run()
    assert not app.exception
    assert app.segmented_control(key="bits").value == 2


def test_what_no_control_offers_is_told_until_somebody_chooses_there(run: Callable[..., AppTest]) -> None:
    app = run(animal="horse", bits="3", count="1e9")
    told = app.session_state["refused"]
    assert {key: (one.asked, one.instead) for key, one in told.items()} == {
        "animal": ("horse", "dog"),
        "count": ("1e9", "8"),
    }
    app.selectbox(key="animal").set_value("cat").run()
    assert set(app.session_state["refused"]) == {"count"}
