"""Input attribution of encoders: a class, one of a pair of texts, and how close two texts are."""

from __future__ import annotations

from pathlib import Path

import pytest
from encoder_models import OTHER, TEXT, write_encoder
from fake_client import Answers, FakeClient
from streamlit.testing.v1 import AppTest

from workbench.ui import encoder_target, session

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def encoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    """A models folder with a classifier and a bare encoder in it, and a client that answers about them."""
    root = tmp_path / "encoders"
    write_encoder(root / "classes", "bert")
    write_encoder(root / "bare", "bert", bare=True)
    monkeypatch.setenv("WORKBENCH_MODELS", str(root))
    client = FakeClient(Answers(root))
    monkeypatch.setattr(session, "client", lambda: client)
    return client


def opened(client: FakeClient, **address: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    app.switch_page("pages/input_attribution.py")
    for name, value in {"prompt": TEXT, "others": "gradient", "method": "integrated_gradients", **address}.items():
        app.query_params[name] = value
    client._held.clear()  # what the Overview asked of an encoder when the app started
    return app.run()


def last(client: FakeClient) -> dict:
    return [spec for kind, spec in client._given if kind == "attribute"][-1]


def test_a_class_is_explained_rather_than_another(encoders: FakeClient) -> None:
    assert encoder_target.kind_of("classes") == "classifier"
    app = opened(encoders, model="classes", target="POSITIVE", contrast="NEGATIVE")
    assert not app.exception
    assert not app.error
    assert app.title[0].value == "Which words drive the class?"
    spec = last(encoders)
    assert (spec["target"], spec["contrast"], spec["second"]) == ("logit:POSITIVE", "NEGATIVE", None)
    shown = encoders.answers("attribute", spec).document
    assert "POSITIVE" in shown["target"]["label"]


def test_two_texts_are_compared_and_another_one_is_taken(encoders: FakeClient) -> None:
    assert encoder_target.kind_of("bare") == "bare"
    app = opened(encoders, model="bare", second=OTHER, pooling="mean")
    assert not app.exception
    assert not app.error
    assert app.title[0].value == "Which words make two texts alike?"
    before = encoders.answers("attribute", last(encoders)).document
    assert -1 <= before["value"] <= 1
    app.text_input(key="second").set_value(TEXT).run()
    assert not app.exception
    same = encoders.answers("attribute", last(encoders)).document
    assert last(encoders)["second"] == TEXT
    assert same["value"] == pytest.approx(1, abs=1e-5)  # a text is as close to itself as can be, whatever the bits
    assert app.query_params["second"] == TEXT


def test_a_language_model_is_no_encoder(ui_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_MODELS", str(ui_models))
    assert encoder_target.kind_of("tiny") is None
    assert encoder_target.kind_of("not-there") is None
