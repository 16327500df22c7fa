"""The token strip without a browser: what is sent to it, and the chart beside it."""

import json

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from workbench.figures.tokens import compare_tokens
from workbench.ui.tokens import SHOWN


def strip_script(tokens: list[str], scores: list[float | None], signed: bool, limit: float | None) -> None:
    import streamlit as st

    from workbench.ui.tokens import token_strip

    fixed = [place == 0 for place in range(len(tokens))]
    chosen = token_strip(tokens, scores, key="strip", label="Tokens", signed=signed, limit=limit, fixed=fixed)
    st.session_state["chosen"] = chosen


def sent(tokens: list[str], scores: list[float | None], signed: bool = True, limit: float | None = None) -> dict:
    app = AppTest.from_function(strip_script, args=(tokens, scores, signed, limit), default_timeout=30).run()
    assert not app.exception
    assert app.session_state["chosen"] is None
    return json.loads(app.get("bidi_component")[0].proto.json)


def test_scores_become_shares_of_the_largest_and_words_for_everyone() -> None:
    data = sent(["<s>", " sad", "\n"], [0.0, -2.0, 1.0])
    assert data["shares"] == [0.0, -1.0, 0.5]
    assert data["tokens"] == ["<s>", "·sad", "↵"]
    assert data["descriptions"][0] == "token 1, <s>: score 0.00, held fixed"
    assert data["descriptions"][1] == "token 2, ·sad: score \u22122.00"
    assert data["descriptions"][2] == "token 3, ↵: score +1.00"
    assert (data["low"], data["high"]) == ("\u22122.00 pushes against", "2.00 pushes towards")


def test_a_common_limit_is_kept_and_larger_scores_stop_at_it() -> None:
    data = sent(["a", "b"], [1.0, 8.0], limit=4.0)
    assert data["shares"] == [0.25, 1.0]


def test_scores_without_a_sign_have_a_scale_from_zero() -> None:
    data = sent(["a", "b"], [0.0, 3.0], signed=False)
    assert (data["low"], data["high"]) == ("0 does not count", "3.00 counts most")
    assert len(data["scale"]) == 2


@pytest.mark.parametrize("missing", [None, float("nan"), float("inf")])
def test_a_missing_score_is_said_to_be_missing(missing: float | None) -> None:
    data = sent(["a", "b"], [missing, 2.0])
    assert data["descriptions"][0] == "token 1, a: no value, held fixed"
    assert data["shares"] == [0.0, 1.0]


def test_all_zero_scores_are_no_division_by_zero() -> None:
    assert sent(["a", "b"], [0.0, 0.0])["shares"] == [0.0, 0.0]


def test_a_long_prompt_is_shown_in_parts() -> None:
    tokens = [f"t{place}" for place in range(SHOWN + 3)]
    app = AppTest.from_function(strip_script, args=(tokens, [1.0] * len(tokens), True, None), default_timeout=30).run()
    assert len(json.loads(app.get("bidi_component")[0].proto.json)["tokens"]) == SHOWN
    app.selectbox(key="strip-part").set_value(SHOWN).run()
    data = json.loads(app.get("bidi_component")[0].proto.json)
    assert data["tokens"] == ["t512", "t513", "t514"]
    assert data["descriptions"][0].startswith("token 513, t512")


def test_the_chart_draws_both_models_and_a_line_for_every_change() -> None:
    frame = pd.DataFrame(
        {"position": [0, 1], "label": ["a", "&lt;b&gt;"], "full": [1.0, -1.0], "quantized": [0.5, -2.0]}
    )
    figure = compare_tokens(frame, unit="score")
    lines, full, quantized = figure.data
    assert list(lines.x) == [0, 0, None, 1, 1, None]
    assert list(lines.y) == [1.0, 0.5, None, -1.0, -2.0, None]
    assert (list(full.y), list(quantized.y)) == ([1.0, -1.0], [0.5, -2.0])
    assert full.marker.symbol != quantized.marker.symbol
    assert full.marker.color != quantized.marker.color
    assert list(figure.layout.xaxis.labelalias.values()) == ["a", "&lt;b&gt;"]
