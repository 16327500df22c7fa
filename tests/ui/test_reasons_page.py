"""Reasons under quantization: the lights, the strips, the curve, the damage that adds up, blame and what is added."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fake_client import FakeClient
from streamlit.testing.v1 import AppTest

from workbench.figures.damage import damage_heat
from workbench.figures.drift import answer_curve, drift_curve
from workbench.ui import added_texts, damage_sums, reasons_blame, reasons_curve, reasons_verdict

Open = Callable[..., AppTest]
STEM = "reasons"
ASKED = {"prompt": "the cat sat", "prompts": "the cat sat\na dog ran", "drifting": "gradient", "method": "gradient"}


@pytest.fixture(autouse=True)
def _own_texts(tmp_path: Path, client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts are added to a folder of the test's own; the panels that have tests of their own are left out."""
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    for kind in ("reliability", "sink_damage", "token_flow"):
        client.hold(kind, "cancelled")


def strips(app: AppTest) -> dict[str, dict[str, Any]]:
    held = [json.loads(strip.proto.json) for strip in app.get("bidi_component")]
    return {data["label"]: data for data in held}


def charts(app: AppTest) -> list[dict[str, Any]]:
    return [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]


def test_it_shows_lights_strips_curve_damage_and_blame(open_page: Open, client: FakeClient) -> None:
    app = open_page(STEM, **ASKED)
    assert not app.exception
    assert [one.value for one in app.subheader][:4] == [
        "The prompt, token by token", "How few bits?", "Where is it lost?", "Which tokens are to blame?",
    ]  # fmt: skip
    held = strips(app)
    assert list(held)[:4] == [
        "Tokens by attribution, Full precision",
        "Tokens by attribution, Quantized: rtn, 3 bits, groups of 64",
        "Change of attribution",
        "Tokens by blame for the divergence",
    ]
    kind, spec = next(one for one in client._given if one[0] == "drift")
    row = client.answers(kind, spec).document["prompts"][0]
    limit = max(abs(score) for score in row["full_scores"] + row["quantized_scores"])
    full, other, change = list(held.values())[:3]
    assert full["shares"] == pytest.approx([score / limit for score in row["full_scores"]])
    assert other["shares"] == pytest.approx([score / limit for score in row["quantized_scores"]])
    assert change["shares"] == pytest.approx(
        [late - early for early, late in zip(full["shares"], other["shares"], strict=True)]
    )
    assert {kind for kind, _ in client._given} >= {"drift", "drift_curve", "damage_map", "blame"}


def test_the_damage_that_is_drawn_adds_up_to_what_was_measured(open_page: Open, client: FakeClient) -> None:
    app = open_page(STEM, **ASKED, damage_rows="each role")
    assert not app.exception
    kind, spec = next(one for one in client._given if one[0] == "damage_map")
    document = client.answers(kind, spec).document
    figure = next(one for one in charts(app) if one["data"][0]["type"] == "heatmap")
    grid = figure["data"][0]["z"]
    change = document["full_value"] - document["quantized_value"]
    assert sum(map(sum, grid)) == pytest.approx(change, abs=1e-3 * max(0.1, abs(change)))
    rows = next(trace for trace in figure["data"] if trace.get("xaxis") == "x2")
    columns = next(trace for trace in figure["data"] if trace.get("yaxis") == "y2")
    assert rows["x"] == pytest.approx([sum(line) for line in grid])
    assert columns["y"] == pytest.approx([sum(line) for line in zip(*grid, strict=True)])


def test_a_cell_is_told_in_numbers_and_stands_in_the_address(open_page: Open) -> None:
    app = open_page(STEM, **ASKED, damage_rows="each block", damage_row="block 1", damage_token="2: t")
    assert not app.exception
    assert any("**block 1** at “t” (token 2)" in one.value for one in app.markdown)
    app.selectbox(key="damage_row").set_value(damage_sums.ALL).run()
    assert any(one.value.startswith("All rows at “t”") for one in app.markdown)


@pytest.mark.slow
def test_a_blamed_prompt_becomes_calibration_text_and_the_question_is_asked_again(
    open_page: Open, client: FakeClient
) -> None:
    app = open_page(STEM, **ASKED, quantizer="gptq")
    assert not app.exception
    app.button(key="add-text").click().run()
    assert not app.exception
    (name,) = added_texts.offered()
    assert added_texts.about(name) == added_texts.Added("calibration.txt", ("the cat sat",), 16)
    app.button(key="use-text").click().run()
    assert not app.exception
    assert app.query_params["calibration"] in (name, [name])
    read = [Path(spec["calibration"]).name for kind, spec in client._given if kind == "blame"]
    assert read[-2:] == [f"{name}.json", "calibration.txt"]
    assert any("With the added text the predictions are" in one.value for one in app.markdown)
    app.button(key="remove-text").click().run()
    assert not app.exception
    assert added_texts.offered() == {}
    assert "calibration" not in app.query_params


def test_a_quantizer_that_reads_no_text_says_so(open_page: Open, client: FakeClient) -> None:
    app = open_page(STEM, **ASKED)
    assert any("looks at the weights alone" in one.value for one in app.info)
    for kind in ("drift", "drift_curve", "damage_map", "blame"):
        client.hold(kind)
    app.button(key="use-reader").click().run()
    assert not app.exception
    assert app.selectbox(key="quantizer").value == "gptq"
    assert not any("looks at the weights alone" in one.value for one in app.info)


def test_a_failed_study_leaves_the_other_parts(open_page: Open, client: FakeClient) -> None:
    client.hold("damage_map", "failed", error="a model that <b>sends</b> tokens apart")
    app = open_page(STEM, **ASKED)
    assert not app.exception
    assert any("tokens apart" in one.value for one in app.error)
    assert len(strips(app)) == 4


def test_what_the_page_cannot_explain_it_says(open_page: Open, client: FakeClient) -> None:
    for kind in ("drift", "damage_map", "blame"):
        client.hold(kind)
    app = open_page(STEM, **ASKED, explain="3-4")
    assert not app.exception
    assert any("not used here, though chosen: tokens of the text" in one.value for one in app.info)
    asked = [spec["target"] for kind, spec in client.submitted if kind == "drift"]
    assert asked == ["logprob:"]


def test_the_curve_waits_for_a_click_and_the_rest_does_not(open_page: Open, client: FakeClient) -> None:
    for kind in ("drift", "drift_curve", "damage_map", "blame"):
        client.hold(kind)
    app = open_page(STEM, **ASKED)
    assert not app.exception
    assert {kind for kind, _ in client.submitted} == {"drift", "damage_map", "blame"}
    app.button(key="run-curve").click().run()
    assert "drift_curve" in {kind for kind, _ in client.submitted}


def test_a_former_answer_stays_marked_as_one(open_page: Open, client: FakeClient) -> None:
    app = open_page(STEM, **ASKED)
    for kind in ("drift", "damage_map", "blame"):
        client.hold(kind)
    app.query_params["bits"] = "2"
    app.run()
    assert not app.exception
    assert sum("computed for other choices" in one.value for one in app.warning) >= 3


def test_a_hostile_prompt_is_shown_as_it_is(open_page: Open) -> None:
    hostile = "<b>x</b> ![i](https://evil.example/p.png)"
    app = open_page(STEM, **(ASKED | {"prompt": hostile, "prompts": hostile}))
    assert not app.exception
    for figure in charts(app):
        assert "<b>" not in json.dumps(figure)
    for text in [*app.markdown, *app.caption]:
        assert "![i](" not in text.value


ROW = {
    "full_answer": " ball", "quantized_answer": " ball", "full_share": 0.9, "quantized_share": 0.8, "kl": 0.01,
    "same_answer": True, "spearman": 0.99, "top_k_overlap": 1.0, "noise_l1": 0.0, "l1": 0.1, "sign_flips": 0,
    "tokens": ["a", "b", "c", "d"], "special": [True, False, False, False],
}  # fmt: skip


@pytest.mark.parametrize(
    ("given", "answer", "reasons"),
    [
        ({}, "green", "green"),
        ({"kl": 0.06}, "orange", "green"),
        ({"same_answer": False, "quantized_answer": " hat"}, "red", "green"),
        ({"top_k_overlap": 1 / 3}, "green", "orange"),
        ({"top_k_overlap": 2 / 3}, "green", "green"),
        ({"l1": 0.21}, "green", "orange"),
        ({"l1": 0.51}, "green", "red"),
        ({"l1": 0.51, "noise_l1": 0.6}, "green", "green"),
        ({"spearman": None}, "green", "gray"),
    ],
)
def test_the_lights_follow_their_bounds(given: dict[str, Any], answer: str, reasons: str) -> None:
    row = ROW | given
    lights = reasons_verdict.answer_light(row), reasons_verdict.reasons_light(row, "occlusion", 3)
    assert (lights[0].colour, lights[1].colour) == (answer, reasons)
    told = reasons_verdict.headline(*lights)
    assert told.startswith("Another answer" if answer == "red" else "Same answer")
    assert (" but " in told) == ((answer == "red") != (reasons == "red"))


def test_the_bounds_that_are_printed_are_those_that_count() -> None:
    told = reasons_verdict.bounds_words(3)
    assert "0.05 nats" in told
    assert "10 %" in told
    assert "25 %" in told
    assert "at least 2 of the 3" in told


def test_sentences_end_where_people_end_them() -> None:
    tokens = ["<s>", "He", " said", ",", ' "', "Go", ".", '"', " Then", " he", " went", '!"', "\n", "So"]
    assert reasons_blame.sentences(tokens) == [(0, 8), (8, 12), (12, 13), (13, 14)]
    assert reasons_blame.sentences(["Go", "."]) == [(0, 2)]
    assert reasons_blame.sentences([]) == []


def test_passages_hold_the_worst_tokens_and_nothing_that_is_not_in_the_prompt() -> None:
    prompt = "A cat ran. A dog sat. The"
    tokens = ["<s>", "A", " cat", " ran", ".", " A", " dog", " sat", ".", " The"]
    scores = [0, 0, 0, 0, 0, 0, 2.0, 0, 0, -1]
    assert reasons_blame.passages(prompt, tokens, scores) == ["A dog sat."]
    assert reasons_blame.passages(prompt, tokens, [-1.0] * len(tokens)) == []
    assert reasons_blame.passage("é", ["<0xC3>", "<0xA9>"], (0, 1)) == "é"


def test_rows_added_up_keep_the_whole() -> None:
    damage = pd.DataFrame(
        {
            "matrix": ["l.0.q", "l.0.q", "l.0.k", "l.0.k", "l.1.q", "l.1.q"],
            "block": [0, 0, 0, 0, 1, 1],
            "role": ["q", "q", "k", "k", "q", "q"],
            "position": [0, 1] * 3,
            "token": ["a", "b"] * 3,
            "damage": [1.0, 2.0, -4.0, 8.0, 16.0, -32.0],
        }
    )
    for by, rows in {
        "matrix": [[1, 2], [-4, 8], [16, -32]],
        "block": [[-3, 10], [16, -32]],
        "role": [[17, -30], [-4, 8]],
    }.items():
        held = damage_sums.added_up(damage, ["a", "b"], by)
        assert held.values == rows
        assert held.total == -9
    assert damage_sums.full_colour([0.0, 0.0]) == 1.0
    assert damage_sums.full_colour([-3.0]) == 3.0


def test_a_click_on_map_or_bars_answers_with_its_place() -> None:
    cells = pd.DataFrame(
        {"row": [0, 0, 1, 1], "column": [0, 1, 0, 1], "value": [1.0, -2.0, 3.0, -4.0], "label": list("abcd")}
    )
    figure = damage_heat(cells, ["one", "two"], ["x", "y"], unit="loss", limit=4.0, selected=(1, None))
    places = {point[0] for trace in figure.data if trace.customdata is not None for point in trace.customdata}
    assert places == set(range(8))
    rows = next(trace for trace in figure.data if trace.xaxis == "x2")
    columns = next(trace for trace in figure.data if trace.yaxis == "y2")
    assert (list(rows.x), [point[0] for point in rows.customdata]) == ([-1.0, -1.0], [4, 5])
    assert (list(columns.y), [point[0] for point in columns.customdata]) == ([4.0, -6.0], [6, 7])
    assert (figure.data[0].zmin, figure.data[0].zmax) == (-4.0, 4.0)
    frame = figure.layout.shapes[0]
    assert (frame.x0, frame.x1, frame.y0, frame.y1) == (-0.5, 1.5, 0.5, 1.5)


def curve() -> pd.DataFrame:
    return reasons_curve.placed(
        pd.DataFrame(
            {
                "method": ["one", "two"] * 3,
                "label": ["8", "8", "2", "2", "4", "4"],
                "bits": pd.array([8, 8, 2, 2, 4, 4], dtype="Int64"),
                "spearman": [1.0, 0.98, 0.1, 0.2, 0.5, 0.9],
                "top1_agreement": [1.0, 1.0, 0.25, 0.25, 1.0, 1.0],
                "kl": [0.0, 0.0, 2.0, 2.0, 0.1, 0.1],
            }
        )
    )


def test_the_curve_runs_from_few_bits_to_many_with_a_band_where_there_is_chance() -> None:
    frame = curve()
    held = frame.assign(least=frame["spearman"] - 0.1, most=frame["spearman"] + 0.1)
    figure = drift_curve(held, value="spearman", unit="x", floors={"one": 1.0, "two": 0.97}, selected="4 bits")
    assert list(figure.layout.xaxis.ticktext) == ["2 bits", "4 bits", "8 bits"]
    assert list(figure.data[0].y) == [0.1, 0.5, 1.0]
    bands = [(shape.y0, shape.y1) for shape in figure.layout.shapes if shape.type == "rect"]
    assert (0.97, 1) in bands
    assert (1.0, 1) not in bands
    marked = next(shape for shape in figure.layout.shapes if shape.yref == "y domain")
    assert marked.x0 < 1 < marked.x1
    assert list(answer_curve(frame.drop_duplicates("label"), value="kl", unit="KL").data[0].y) == [2.0, 0.1, 0.0]


def test_the_sentence_of_the_curve_names_the_fewest_bits_that_keep_the_answers() -> None:
    told = reasons_curve.curve_sentence(curve(), 4)
    assert "**4 bits** the answer is the same for all 4 prompts" in told
    assert "0.50 by one, 0.90 by two" in told
    assert "as few as 1 of 4 keep it" in told
    assert "3 of 4 prompts, more than" in reasons_curve.curve_sentence(
        curve().assign(top1_agreement=[0.75, 0.75, 0.25, 0.25, 0.5, 0.5]), 4
    )
