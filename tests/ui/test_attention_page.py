"""Attention: all heads, one of them, both models, sinks and what they weigh."""

import json
from collections.abc import Callable

import pandas as pd
import pytest
from fake_client import FakeClient
from streamlit.testing.v1 import AppTest

from workbench.figures.attention import by_layer, head_grid, token_map
from workbench.ui.attention import POSITIONS, SUMMARIES, without

Open = Callable[..., AppTest]
STEM = "attention"


def strips(app: AppTest) -> dict[str, dict]:
    held = [json.loads(strip.proto.json) for strip in app.get("bidi_component")]
    return {data["label"]: data for data in held}


def charts(app: AppTest) -> list[dict]:
    return [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]


def test_it_shows_heads_map_rollout_and_sinks(open_page: Open) -> None:
    app = open_page(STEM)
    assert not app.exception
    assert [one.value for one in app.subheader] == [
        "All heads",
        "One head",
        "Through all layers",
        "Sinks",
        "Whose error counts",
        "What sinks cost",
    ]
    assert set(strips(app)) == {
        "Tokens by attention of the chosen head",
        "Tokens by attention rollout",
        "Tokens by the damage that goes when they are kept exact",
    }
    assert len(charts(app)) == 5
    assert any("Attention is not an explanation" in info.value for info in app.info)
    assert any("No token of this prompt is a sink" in text.value for text in app.markdown)
    assert app.toggle(key="no_sinks").disabled


def test_it_asks_for_the_map_of_the_chosen_head_alone(open_page: Open, client: FakeClient) -> None:
    app = open_page(STEM, layer="1", head="2")
    assert app.selectbox(key="layer").value == 1
    assert any("layer 1, head 2" in text.value for text in app.markdown)
    client.hold("attention_maps")
    app.selectbox(key="head").set_value(3).run()
    (kind, spec), *others = client.submitted
    assert not others
    assert (kind, spec["layer"], spec["head"], spec["scheme"]) == ("attention_maps", 1, 3, None)
    assert not app.exception


def test_the_mean_of_all_heads_and_the_quantized_model(open_page: Open, client: FakeClient) -> None:
    app = open_page(STEM, layer="0", head="all heads, their mean", shown="quantized")
    assert not app.exception
    assert any("layer 0, mean of all heads" in text.value for text in app.markdown)
    asked = [spec for kind, spec in client._given if kind == "attention_maps" and spec["layer"] is not None]
    assert [(spec["head"], spec["scheme"]["bits"]) for spec in asked] == [(None, 3)]


def test_sinks_are_left_out_on_demand(open_page: Open) -> None:
    free = open_page(STEM, limit="3.0", layer="1")
    assert not free.exception
    assert not free.toggle(key="no_sinks").disabled
    assert any("in some layer:" in text.value for text in free.markdown)
    before = strips(free)["Tokens by attention of the chosen head"]["descriptions"]
    assert any("share on sinks" in str(one.proto) for one in free.get("button_group"))
    app = open_page(STEM, limit="3.0", layer="1", no_sinks="true")
    assert not app.exception
    assert strips(app)["Tokens by attention of the chosen head"]["descriptions"] != before


@pytest.mark.parametrize("at", ["last", "mean"])
@pytest.mark.parametrize("summary", ["spread", "distance", "first_share"])
def test_the_grid_shows_the_chosen_summary(open_page: Open, client: FakeClient, summary: str, at: str) -> None:
    app = open_page(STEM, heads=SUMMARIES[summary], at=POSITIONS[at])
    assert not app.exception
    kind, spec = next(one for one in client._given if one[0] == "attention_maps" and one[1]["layer"] is None)
    table = client.answers(kind, spec).tables["attention_heads"]
    cells = [float(value) for row in charts(app)[0]["data"][0]["z"] for value in row]
    assert cells == pytest.approx(table[summary if at == "last" else f"mean_{summary}"].tolist())


def test_a_failed_study_shows_its_sentence_and_the_rest_of_the_page(open_page: Open, client: FakeClient) -> None:
    client.hold("attention_maps", "failed", error="the prompt has 900 tokens; the model reads at most 512")
    app = open_page(STEM)
    assert not app.exception
    assert sum("900 tokens" in error.value for error in app.error) == 2
    assert app.text_area(key="prompt").value


def test_while_it_is_computed_the_page_waits(open_page: Open, client: FakeClient) -> None:
    client.hold("attention_maps")
    app = open_page(STEM)
    assert not app.exception
    assert len(client.submitted) >= 1
    assert not app.subheader


def test_a_hostile_prompt_is_shown_as_it_is(open_page: Open) -> None:
    app = open_page(STEM, prompt="<b>x</b> ![i](https://evil.example/p.png)")
    assert not app.exception
    for figure in charts(app):
        assert "<b>" not in json.dumps(figure)


def test_the_map_has_a_cell_for_every_pair_that_can_be() -> None:
    frame = pd.DataFrame({"position": [1, 1, 2, 2, 2], "key": [0, 1, 0, 1, 2], "attention": [0.5, 0.5, 0.2, 0.3, 0.5]})
    figure = token_map(frame, ["a", "&lt;b&gt;", "c"])
    assert [list(row) for row in figure.data[0].z] == [[0.5, 0.5, None], [0.2, 0.3, 0.5]]
    assert list(figure.data[0].y) == [1, 2]
    assert list(figure.layout.xaxis.ticktext) == ["a", "&lt;b&gt;", "c"]
    assert list(figure.data[0].customdata[1][0]) == ["c", "a"]


def test_the_map_without_tokens_adds_up_again_and_empty_rows_have_no_colour() -> None:
    frame = pd.DataFrame({"position": [0, 1, 1], "key": [0, 0, 1], "attention": [1.0, 0.75, 0.25]})
    assert without(frame, []) is frame
    left = without(frame, [0])["attention"].tolist()
    assert left[1:] == [0.0, 1.0]
    assert left[0] != left[0]
    grid = json.loads(token_map(without(frame, [0]), ["a", "b"]).to_json())["data"][0]["z"]
    assert grid == [[None, None], [0.0, 1.0]]


def test_the_grid_frames_the_chosen_head_and_the_lines_tell_models_apart() -> None:
    frame = pd.DataFrame({"block": [0, 0, 1, 1], "head": [0, 1, 0, 1], "spread": [1.0, 2.0, 3.0, 4.0]})
    figure = head_grid(frame, value="spread", unit="tokens", selected=2)
    assert [list(row) for row in figure.data[0].z] == [[1.0, 2.0], [3.0, 4.0]]
    shape = figure.layout.shapes[0]
    assert (shape.x0, shape.y0) == (-0.5, 0.5)
    lines = by_layer(
        pd.DataFrame({"block": [0, 1], "full": [1, 2], "quantized": [2, 3], "limit": 5}), unit="phi", limits=True
    )
    assert [trace.name for trace in lines.data] == ["full precision", "quantized", "limit of a sink"]
    assert len({trace.line.dash for trace in lines.data}) == 3
    assert len(by_layer(pd.DataFrame({"block": [0], "full": [1]}), unit="x").data) == 1
