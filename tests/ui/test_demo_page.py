"""Demo: texts side by side with changed words marked, what models take, what is not computed or wrong."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from fake_client import FakeClient
from streamlit.testing.v1 import AppTest

from workbench.ui import defaults, demo, report_file

Open = Callable[..., AppTest]


def html_of(app: AppTest) -> str:
    return "\n".join(one.proto.body for one in elements(app, "html"))


def elements(app: AppTest, kind: str) -> list[Any]:
    return list(app.get(kind))


def told(app: AppTest) -> str:
    return "\n".join(one.value for kind in ("markdown", "caption", "info", "warning") for one in elements(app, kind))


def test_it_opens_on_the_full_model_beside_three_bits(open_page: Open) -> None:
    app = open_page("demo")
    assert not app.exception
    assert not app.error
    sizes = app.table[0].value
    assert list(sizes.columns)[1:] == ["Full precision", "3 bits"]
    assert "**3 bits** takes " in told(app)
    assert len(app.get("bidi_component")) == 2
    assert "changed most" in told(app)
    assert {"label", "perplexity", "stored_bytes"} <= set(app.dataframe[0].value.columns)


def test_two_smaller_models_stand_beside_the_full_one(open_page: Open) -> None:
    app = open_page("demo", left="4 bits", right="2 bits", new_tokens="16")
    assert not app.exception
    assert list(app.table[0].value.columns)[1:] == ["Full precision", "4 bits", "2 bits"]
    assert len(app.get("bidi_component")) == 4


def test_the_full_model_twice_is_no_question(open_page: Open) -> None:
    app = open_page("demo", right="Full precision")
    assert not app.exception
    assert "Both choices are the full model; 3 bits stand beside it." in told(app)


def test_texts_are_shown_literally_with_their_changed_words_marked(
    open_page: Open, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = client.result

    def hostile(kind: str, spec: dict[str, Any]) -> Any:
        found = copy.deepcopy(plain(kind, spec))
        if kind == "generate" and found is not None:
            found.document["choices"][1]["pieces"] = [
                {"text": " the", "changed": False, "words": 1},
                {"text": " <img src=x onerror=y>", "changed": True, "words": 1},
            ]
        return found

    monkeypatch.setattr(client, "result", hostile)
    shown = html_of(open_page("demo"))
    assert " the<mark> &lt;img src=x onerror=y&gt;</mark>" in shown
    assert "<img" not in shown


def test_it_waits_for_a_click_and_says_why_it_failed(open_page: Open, client: FakeClient) -> None:
    client.hold("generate")
    app = open_page("demo")
    assert "Not computed yet: both texts." in told(app)
    app.button(key="run-demo").click().run()
    (kind, spec), *_ = [one for one in client.submitted if one[0] == "generate"]
    assert (kind, [one["label"] for one in spec["choices"]]) == ("generate", ["3 bits"])
    client.hold("generate", "failed", error="the *prompt* is empty")
    assert any("the \\*prompt\\* is empty" in one.value for one in open_page("demo").error)


def test_a_plan_of_the_session_is_offered(open_page: Open) -> None:
    app = open_page("bit_allocation")
    app.switch_page("pages/demo.py").run()
    assert not app.exception
    assert "Plan of bit allocation" in app.segmented_control(key="right").options


def test_a_job_leads_back_to_its_choices() -> None:
    points = [defaults.width_point(bits) for bits in (4, 2)]
    spec = defaults.generate("tiny", points=points, new_tokens=16, temperature=0.8, seed=5)[1]
    expected = {"left": "4 bits", "right": "2 bits", "new_tokens": 16, "drawn": True, "dice": 5}
    assert dict(demo.choices_of(spec)) == expected
    assert dict(demo.choices_of(defaults.generate("tiny")[1]))["left"] == "Full precision"


def facts(**changed: Any) -> dict[str, Any]:
    usual = {"label": "a *b*", "stored_bytes": 250_000, "perplexity": 29.0, "ids": [1, 2], "same_start": 7, "words": 4}
    return usual | {"changed_words": 3} | changed


def test_a_model_in_a_sentence() -> None:
    full = facts(stored_bytes=1_000_000, perplexity=27.0, ids=[1, 3])
    assert demo.sentence(full, facts()) == (
        "**a \\*b\\*** takes 250 kB as a file instead of 1 MB (25 %) and hesitates between 29.0 tokens instead of "
        "27.0. "
        "It writes the same first 7 tokens; 3 of its 4 words are not in the full model's text."
    )
    assert demo.sentence(full, facts(ids=[1, 3])).endswith("It writes the very same text.")
    assert "takes another way at once" in demo.sentence(full, facts(same_start=0))
    assert demo.sentence(full, facts(perplexity=None)).endswith("is not finite: it does not work.")


def test_what_has_moved_most_in_a_sentence() -> None:
    row = {"tokens": [" red", " ball"], "target": {"texts": [" toy"]}, "full_scores": [1.0, 2.0]}
    assert demo.moved_sentence(row | {"quantized_scores": [1.1, 1.0]}).startswith("Token 2, “·ball”, changed most: it")
    assert "less towards “·toy”" in demo.moved_sentence(row | {"quantized_scores": [1.1, 1.0]})
    assert demo.moved_sentence(row | {"quantized_scores": [1.0, 2.0]}).startswith("No token counts more")


def test_the_report_is_that_of_the_chosen_model(open_page: Open, client: FakeClient) -> None:
    app = open_page("demo", left="4 bits", right="2 bits", new_tokens="16", report="4 bits")
    assert not app.exception
    assert "Download the report (HTML)" in [one.proto.label for one in elements(app, "download_button")]
    shown = [one for one in client._given if one[0] == "generate"][-1][1]
    texts = defaults.Texts(shown["calibration"], shown["text"], shown["tokens"], shown["window"])
    written = client.answers("generate", shown).document
    choice = {"scheme": shown["choices"][0]["scheme"], "plan": None}
    documents = {
        "inspected": client.answers(*defaults.inspect("tiny")).document,
        "evaluated": client.answers(*defaults.evaluate("tiny", texts, scheme=choice["scheme"])).document,
        "compared": client.answers(*defaults.tradeoff("tiny", texts)).document,
        "written": {**written, "choices": written["choices"][:2]},
    }
    text = report_file.report("4 bits", choice, documents, texts).decode("utf-8")
    assert "<title>tiny with fewer bits: 4 bits</title>" in text
    assert "<script" not in text


def test_a_report_waits_for_what_it_needs(open_page: Open, client: FakeClient) -> None:
    client.hold("evaluate")
    app = open_page("demo")
    assert "Not computed yet: the error of every matrix." in told(app)
    assert "Download the report (HTML)" not in [one.proto.label for one in elements(app, "download_button")]
    app.button(key="run-report-evaluated").click().run()
    assert "evaluate" in [kind for kind, _ in client.submitted]
