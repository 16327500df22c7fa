"""What the Input attribution page is made of: targets, units, spans, the verdict, files; mostly without a page."""

import json
import math
from typing import Any

import pandas as pd
import pytest
from fake_client import FakeClient
from streamlit.delta_generator import DeltaGenerator
from streamlit.testing.v1 import AppTest

from workbench.figures.attribution import RANDOM, attention_against_ablation, method_agreement, removal_curves
from workbench.results import Result
from workbench.ui import attribution_export, attribution_spans, attribution_verdict, target
from workbench.ui.attribution import View
from workbench.ui.attribution_spans import read, sums, written
from workbench.ui.attribution_units import occurrences, units_of
from workbench.ui.defaults import Explained
from workbench.ui.study import Shown
from workbench.ui.token_lists import read_tokens

TOKENS = ["<s>", "The", " red", " ba", "ll", ".", " A", " red", " ba", "ll", "!"]
DOCUMENT: dict[str, Any] = {
    "tokens": TOKENS,
    "scores": [0.0, 1.0, -2.0, 3.0, 0.5, None, 1.0, 4.0, -1.0, -2.0, 0.25],
    "spans": {
        "token": [[place, place + 1] for place in range(11)],
        "word": [[0, 1], [1, 2], [2, 3], [3, 5], [5, 6], [6, 7], [7, 8], [8, 10], [10, 11]],
        "sentence": [[0, 1], [1, 6], [6, 11]],
    },
    "signed": True,
}


def shown(document: dict[str, Any], tables: dict[str, Any] | None = None, **spec: Any) -> Shown:
    return Shown(Result(document, tables or {}), {"calibration": None, **spec}, False, DeltaGenerator())


def test_units_add_up_to_what_the_tokens_add_up_to() -> None:
    total = sum(one for one in DOCUMENT["scores"] if one is not None)
    for size, count in (("token", 11), ("word", 9), ("sentence", 3)):
        units = units_of(DOCUMENT, size)
        values = units.gathered(DOCUMENT["scores"], signed=True)
        assert len(units.texts) == len(values) == count
        assert sum(value for value in values if value is not None) == pytest.approx(total)
        assert "".join(units.texts) == "".join(TOKENS)
    assert units_of(DOCUMENT, "word").gathered(DOCUMENT["scores"], signed=True)[3:5] == [3.5, None]
    assert units_of(DOCUMENT, "sentence").gathered(DOCUMENT["scores"], signed=False) == [0.0, 3.0, 4.0]


def test_chosen_units_are_spans_of_tokens() -> None:
    words = units_of(DOCUMENT, "word")
    assert words.tokens_of((3, 5)) == (3, 6)
    assert words.touched([(4, 6)]) == [place in (3, 4) for place in range(9)]
    assert words.every([place == 0 for place in range(11)])[:2] == [True, False]


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("ball", [(3, 5), (8, 10)]),
        ("red ball", [(2, 5), (7, 10)]),
        ("ball.", [(3, 6)]),
        ("al", []),
        ("Red", []),
        ("", []),
    ],
)
def test_names_are_found_word_for_word(name: str, places: list[tuple[int, int]]) -> None:
    assert occurrences(DOCUMENT, name) == places


def test_sums_are_those_of_the_tokens() -> None:
    frame = sums({"a": shown(DOCUMENT)}, {"ball": [(3, 5), (8, 10)]})
    row = frame.iloc[0]
    assert row["sum"] == pytest.approx(3.0 + 0.5 - 1.0 - 2.0)
    assert row["share of all strength"] == pytest.approx(6.5 / 14.75)
    assert row["share of the tokens"] == pytest.approx(4 / 11)


@pytest.mark.parametrize("text", ["5", "5-7", "1-2, 9"])
def test_spans_are_written_as_they_are_read(text: str) -> None:
    assert ", ".join(written(span) for span in read(text) or []) == text


@pytest.mark.parametrize("text", ["x", "0", "3-1", "1-2-3", "-4", "9999999"])
def test_what_is_no_span_is_not_read(text: str) -> None:
    assert read(text) is None
    assert read("") == []


def target_script() -> None:
    import streamlit as st

    from workbench.ui import address, target

    st.session_state["model"] = "none"
    address.begin("page")
    st.session_state["asked"] = tuple(target.target_choice())
    address.finish()


NO_MORE = (None, None, False, None)


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({"output": "probability", "target": " d", "contrast": " e"}, ("prob: d", " e", None, False, None)),
        (
            {"output": "a group of next tokens", "target": '" d", c', "contrast": '"e,"'},
            ('group:[" d", "c"]', '["e,"]', None, False, None),
        ),
        ({"output": "a continuation", "target": " dog ran"}, ("continuation: dog ran", None, None, False, None)),
        (
            {"output": "answer options together", "target": "a, b"},
            ('attentiveness:["a", "b"]', None, None, False, None),
        ),
        ({"output": "hesitation (entropy)", "target": "x", "contrast": "y"}, ("entropy:", None, None, False, None)),
        ({"output": "distance from the full model (KL)"}, ("kl:", None, None, False, None)),
        ({"explain": "9-10", "target": "x", "contrast": " dog"}, ("continuation:", " dog", (8, 10), False, None)),
        ({"explain": "seven"}, ("logprob:", None, None, False, None)),
    ],
)
def test_every_kind_of_target_is_asked_as_the_study_reads_it(given: dict[str, str], asked: tuple[Any, ...]) -> None:
    app = AppTest.from_function(target_script, default_timeout=30)
    for name, value in given.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception
    assert app.session_state["asked"] == asked
    assert len(app.warning) == (given.get("explain") == "seven")


@pytest.mark.parametrize(
    "explained",
    [
        Explained("logprob: dog", " cat"),
        Explained('group:[" a", "b"]', '["c,"]'),
        Explained("continuation: dog ran"),
        Explained("kl:"),
        Explained("continuation:", " dog", (8, 10), True),
    ],
)
def test_a_job_leads_back_to_its_choices(explained: Explained) -> None:
    span = list(explained.explain) if explained.explain else None
    spec = {"target": explained.target, "contrast": explained.contrast, "explain": span, "chat": explained.chat}
    held = dict(target.choices_of(spec))
    assert held["chat"] == explained.chat
    if explained.explain:
        assert (held["explain"], held["contrast"]) == ("9-10", " dog")
    elif held["output"] == "group":
        assert read_tokens(held["target"]) == [" a", "b"]
        assert read_tokens(held["contrast"]) == ["c,"]
    else:
        assert f"{held['output']}:{held['target']}" == explained.target


def test_a_chat_template_is_seen_in_the_tokenizers_files(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    models = {name: tmp_path / name for name in ("none", "written", "beside", "broken")}
    for folder in models.values():
        folder.mkdir()
    (models["none"] / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    (models["written"] / "tokenizer_config.json").write_text('{"chat_template": "{{ x }}"}', encoding="utf-8")
    (models["beside"] / "chat_template.jinja").write_text("{{ x }}", encoding="utf-8")
    (models["broken"] / "tokenizer_config.json").write_text("[", encoding="utf-8")
    monkeypatch.setattr("workbench.settings.local_models", lambda: models)
    assert [name for name in (*models, "gone") if target.has_template(name)] == ["written", "beside"]


def test_the_verdict_names_directions_and_counts_random_orders() -> None:
    methods = [
        {"name": "a", "deletion_auc": -3.0, "deletion_z": 2.5, "deletion_percentile": 1.0, "randomised_spearman": 0.9},
        {
            "name": "b",
            "deletion_auc": -1.0,
            "deletion_z": None,
            "deletion_percentile": 0.5,
            "sensitivity_n": {"1": 0.5},
        },
    ]
    methods[1]["sensitivity_n"] = {"1": 0.5}
    table = attribution_verdict.verdict_table(methods)
    better = dict(zip(table["metric"], table["better"], strict=True))
    assert better["deletion: area while the top tokens go first"] == "lower"
    assert better["sensitivity-n: correlation with removing 1 token"] == "higher"
    assert table["a"].tolist()[0] == -3.0
    assert math.isnan(table["b"].tolist()[1])
    told, alike = attribution_verdict.verdict_sentences({"methods": methods, "random": {"orders": 20, "auc": -0.5}})
    assert "a faster than 20 of 20 (z 2.5)" in told
    assert "b faster than 10 of 20" in told
    assert alike.endswith("learned: a.")


def test_the_maps_file_is_strict_json_without_folders() -> None:
    maps = {"a": shown(DOCUMENT, calibration="/home/me/secret.txt", method="a")}
    held = attribution_export.document(maps)
    text = json.dumps(held, allow_nan=False)
    assert "/home" not in text
    assert held["schema"] == "salience-input/1"
    assert held["maps"][0]["question"]["calibration"] == "secret.txt"
    assert held["maps"][0]["scores"] == DOCUMENT["scores"]
    table = attribution_export.scores(maps, View("sentence"))
    assert table["a"].tolist() == [0.0, 2.5, 2.25]
    assert table["token"].tolist()[0] == "<s>"


def test_the_band_holds_two_standard_deviations_of_random_orders() -> None:
    frame = pd.DataFrame(
        {
            "method": ["a", "a", RANDOM, RANDOM],
            "removed": [0.0, 1.0, 0.0, 1.0],
            "value": [1.0, 0.0, 1.0, 0.5],
            "sd": [None, None, 0.0, 0.25],
        }
    )
    band, mean, line = removal_curves(frame, unit="u", removed="r").data
    assert list(band.y) == [1.0, 1.0, 0.0, 1.0]
    assert list(mean.y) == [1.0, 0.5]
    assert (list(line.x), line.name) == ([0.0, 100.0], "a")


def test_agreement_has_no_frame_and_the_cloud_names_its_ends() -> None:
    pairs = pd.DataFrame({"method": ["a", "a", "b", "b"], "other": ["a", "b"] * 2, "spearman": [1.0, 0.2, 0.2, 1.0]})
    assert not method_agreement(pairs, ["a", "b"], value="spearman", unit="u").layout.shapes
    frame = pd.DataFrame({"label": list("abcdefgh"), "attention": range(8), "effect": [0, *[0] * 6, -9]})
    named = [label for label in attention_against_ablation(frame).data[0].text if label]
    assert {"e", "f", "g", "h"} <= set(named)
    assert len(named) < 8


def trial_script(document: dict, tables: dict) -> None:
    import streamlit as st

    from workbench.results import Result
    from workbench.ui import address, attribution_trial
    from workbench.ui.study import Shown

    address.begin("page")
    attribution_trial.draw(Shown(Result(document, tables), {}, False, st.container()))
    address.finish()


def test_the_trial_shows_what_the_study_found(client: FakeClient) -> None:
    from workbench.ui import defaults

    asked = {"marked": [[2, 4]], "group": ["id:70", "id:71"], "other_group": ["id:72"], "checks": False}
    methods = {"linearised": {}, "attention": {}}
    found = client.answers(*defaults.compare_attribution("tiny", "The dog sat by the door", methods=methods, **asked))
    app = AppTest.from_function(trial_script, args=(found.document, found.tables), default_timeout=60).run()
    assert not app.exception
    tables = [one.value for one in app.dataframe]
    verdict = next(table for table in tables if "better" in table)
    assert list(verdict.columns) == ["metric", "better", "linearised", "attention"]
    plausible = [
        table for table in tables if "attention IoU: overlap of the sizes with the mark" in str(table.to_dict())
    ]
    assert len(plausible) == 1
    grouped = next(table for table in tables if "PGS: mean fall of group A" in str(table.to_dict()))
    pgs = grouped[grouped["metric"].str.startswith("PGS")]["linearised"].iloc[0]
    assert pgs == pytest.approx(found.document["methods"][0]["rfxg"]["pgs"])
    assert len(app.get("plotly_chart")) == 3
    assert any("Agreement is not faithfulness" in one.value for one in app.markdown)


def test_marks_are_put_on_and_taken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    held: dict[str, str] = {}
    monkeypatch.setattr(attribution_spans.st, "session_state", held)
    monkeypatch.setattr(attribution_spans.address, "put", held.__setitem__)
    for span in ((4, 7), (1, 2), (4, 7)):
        attribution_spans._mark(span)
    assert held == {"marked": "2"}
