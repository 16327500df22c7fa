"""Error bars, sinks and the flow through weights: sections of pages, in every state, and their figures."""

import inspect
import json
from collections.abc import Callable

import pandas as pd
import pytest
from fake_client import FakeClient
from streamlit.testing.v1 import AppTest

from workbench import studies
from workbench.figures.reliability import UNSTEADY, error_bars, trust_map
from workbench.figures.sink_damage import mass_and_damage
from workbench.figures.style import NEGATIVE, POSITIVE
from workbench.figures.token_flow import group_bars
from workbench.ui import defaults
from workbench.ui.reliability import output_sentence, steady_sentence
from workbench.ui.sink_damage import who_sentence
from workbench.ui.token_flow import flow_sentence, labelled

Open = Callable[..., AppTest]
PROMPT = "The <b>cat</b> sat"


@pytest.fixture
def alone(client: FakeClient) -> FakeClient:
    """The client, with the other studies of the page not asked for: they take their time."""
    for kind in ("drift", "drift_curve", "blame"):
        client.hold(kind)
    return client


def said(app: AppTest) -> str:
    return " ".join(text.value for text in [*app.markdown, *app.caption]).replace("\\", "")


def headings(app: AppTest) -> list[str]:
    return [one.value for one in app.subheader]


def test_the_page_shows_error_bars_sinks_and_flow(open_page: Open, alone: FakeClient) -> None:
    app = open_page("reasons", prompt=PROMPT, shaken=["gradient", "linearised"], draws="2")
    assert not app.exception
    assert {"How sure is each score?", "What sinks cost", "Which weights carry a token?"} <= set(headings(app))
    (spec,) = [one for kind, one in alone._given if kind == "reliability"]
    assert (spec["methods"], spec["draws"], spec["bits"], spec["seed"]) == (["gradient", "linearised"], 2, 4, 0)
    text = said(app)
    for words in ("draws keep the answer", "are unsteady", "Kept exact is the first token", "carries most"):
        assert words in text
    drawn = json.dumps([json.loads(chart.proto.spec) for chart in app.get("plotly_chart")])
    assert "fragility: how far noise moves the order" in drawn
    assert "what rounding leaves of it" in drawn
    assert "<b>" not in drawn


def test_another_token_is_asked_for_by_its_place(open_page: Open, alone: FakeClient) -> None:
    alone.hold("reliability")
    app = open_page("reasons", prompt=PROMPT)
    box = app.selectbox(key="flow_token")
    box.set_value(1).run()
    assert not app.exception
    asked = [spec["position"] for kind, spec in alone._given if kind == "token_flow"]
    assert None in asked
    assert 1 in asked
    assert "(token 2)" in said(app)


def test_states_of_the_sections(open_page: Open, alone: FakeClient) -> None:
    alone.hold("reliability")
    alone.hold("token_flow", "failed", error="linearised has no rule for <b>this</b>")
    app = open_page("reasons", prompt=PROMPT)
    assert not app.exception
    assert any(button.label == "Compute the error bars" for button in app.button)
    assert any("no rule for" in error.value and "<b>" not in error.value for error in app.error)
    assert "Which weights carry a token?" in headings(app)


def test_the_attention_page_weighs_its_sinks(open_page: Open, client: FakeClient) -> None:
    app = open_page("attention", prompt=PROMPT, limit="3.0")
    assert not app.exception
    assert headings(app)[-1] == "What sinks cost"
    assert "Kept exact: the" in said(app)
    client.hold("damage_map", "failed", error="not enough memory")
    again = open_page("attention", prompt="Another cat sat")
    assert not again.exception
    assert any("not enough memory" in error.value for error in again.error)


def test_questions_have_every_key_of_their_study() -> None:
    for kind, spec in (
        defaults.reliability(methods={"gradient": {}, "occlusion": {"batch": 2}}),
        defaults.token_flow(),
    ):
        known = set(inspect.signature(studies.STUDIES[kind]).parameters) - set(studies.NOT_IN_SPECS)
        assert spec.keys() - {"model", "allow_download"} == known
        assert json.loads(json.dumps(spec)) == spec
    assert defaults.reliability(methods={"a": {}, "b": {"x": 1}})[1]["options"] == {"b": {"x": 1}}


def test_unsteady_bars_are_grey_and_hatched() -> None:
    frame = pd.DataFrame(
        {
            "position": [0, 1, 2],
            "label": ["a", "&lt;b&gt;", "c"],
            "mean_score": [2.0, -2.0, 1.0],
            "score_sd": [0.5, 0.5, 1.0],
            "snr": [4.0, 4.0, 1.0],
            "steady": [True, True, False],
        }
    )
    bar = error_bars(frame, unit="score").data[0]
    assert list(bar.marker.color) == [POSITIVE, NEGATIVE, UNSTEADY]
    assert list(bar.marker.pattern.shape) == ["", "", "/"]
    assert list(bar.error_y.array) == [0.5, 0.5, 1.0]


def test_methods_and_groups_stand_where_their_numbers_are() -> None:
    points = trust_map(pd.DataFrame({"method": ["a", "b"], "fragility": [0.1, 0.3], "blindness": [0.0, 1.0]})).data
    assert [(one.x[0], one.y[0], one.text[0]) for one in points] == [(0.1, 0.0, "a"), (0.3, 1.0, "b")]
    assert len({one.marker.symbol for one in points}) == 2
    frame = pd.DataFrame({"label": ["x", "y"], "flow": [2.0, -1.0], "flow_lost": [0.5, 0.25]})
    rounded = group_bars(frame.assign(group_relative_error=[0.1, 0.2]), unit="logit").data
    assert list(rounded[1].x) == [1.5, -1.25]
    assert list(rounded[2].x) == [0.1, 0.2]
    assert len(group_bars(frame.assign(group_relative_error=float("nan")), unit="logit").data) == 1
    lines = mass_and_damage(pd.DataFrame({"block": [0], "attention": [0.5], "damage": [0.1]}), even=0.2).data
    assert [list(line.y) for line in lines] == [[0.5], [0.1], [0.2]]


def test_sentences_tell_the_numbers() -> None:
    document = {"draws": 4, "same_answer": 0.75, "bits": 1, "full_answer": " ball", "kl_mean": 0.5}
    assert output_sentence(document).startswith("With noise of 1 bit, 3 of 4 draws keep the answer “·ball”")
    row = {"method": "position", "snr_median": float("nan"), "unsteady": 0, "rank_stability": 1.0}
    assert "no score moves at all" in steady_sentence(row, 5)
    assert "2 of 5 tokens are unsteady" in steady_sentence(row | {"snr_median": 3.0, "unsteady": 2}, 5)
    assert who_sentence(["<s>", "a"], {"watched": [0, 1], "are_sinks": True}).startswith("Kept exact: the 2 sinks")


@pytest.mark.parametrize("rounded", [False, True])
def test_groups_have_names_of_their_own(rounded: bool) -> None:
    """GPT-2 has two matrices of one role in a block; a matrix of a single group is not told by its inputs."""
    names = ["h.0.attn.c_proj.weight", "h.0.mlp.c_proj.weight", "h.0.mlp.c_proj.weight"]
    lost = 0.5 if rounded else None
    rows = [
        {
            "matrix": name, "block": 0, "role": "c_proj", "group": group, "input": 64 * group, "flow": 3.0 - place,
            "flow_lost": lost, "group_output": 1.0, "group_error": lost, "group_relative_error": lost,
        }
        for place, (name, group) in enumerate(zip(names, [0, 0, 1], strict=True))
    ]  # fmt: skip
    top = labelled(rows, pd.DataFrame(rows))
    assert top["label"].tolist() == [
        "block 0 attn.c_proj",
        "block 0 mlp.c_proj, inputs from 0",
        "block 0 mlp.c_proj, inputs from 64",
    ]
    document = {"tokens": ["a", "b"], "position": 1, "target": {"label": "logit of 'x'"}, "groups": 9, "top_share": 0.5}
    assert ("Rounding changes most" in flow_sentence(document, top)) is rounded
