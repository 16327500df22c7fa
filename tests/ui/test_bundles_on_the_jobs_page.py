"""Carrying a study by the Jobs page: download, upload, and its page without the model."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from fake_client import Answers
from opened_pages import MODEL, ROOT
from streamlit.testing.v1 import AppTest

from workbench import registry
from workbench.jobs.adopted import Finished, record
from workbench.jobs.client import Client
from workbench.jobs.keys import study_key
from workbench.ui import bundles, defaults, session


class Quiet(Client):
    """A client whose worker never starts; what is asked for stays queued."""

    def methods(self) -> dict[str, list[dict[str, Any]]]:
        return registry.describe_all()

    def ensure_worker(self) -> None:
        """There is none."""


@pytest.fixture
def far(tmp_path: Path, answers: Answers, ui_models: Path, monkeypatch: pytest.MonkeyPatch) -> Quiet:
    """The app where a sensitivity table was computed, with its result on the shelf."""
    client = Quiet(tmp_path / "far")
    texts = defaults.Texts(*(str(ui_models / MODEL / name) for name in ("calibration.txt", "sampled.txt")))
    for kind, spec in (defaults.inspect(MODEL), defaults.sensitivity(MODEL, texts, by="joint-path")):
        key = study_key(kind, spec)
        client.shelf.save(key, answers(kind, spec))
        record(client.store, Finished(kind, spec, key, seconds=1.0))
    monkeypatch.setattr(session, "client", lambda: client)
    return client


@pytest.fixture
def near(tmp_path: Path) -> Quiet:
    return Quiet(tmp_path / "near")


def open_jobs() -> AppTest:
    return AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run().switch_page("pages/jobs.py").run()


def test_a_finished_study_is_offered_as_a_file(far: Quiet) -> None:
    finished = far.recent(1)[0].id
    app = open_jobs()
    assert not app.exception
    assert not any("Download the bundle" in str(one.proto) for one in app.get("download_button"))
    app.selectbox(key="bundle-job").select_index(0).run()
    assert not app.exception
    assert not app.error
    assert any("Download the bundle" in str(one.proto) for one in app.get("download_button"))
    with zipfile.ZipFile(BytesIO(far.bundle(finished))) as held:
        assert "manifest.json" in held.namelist()


def test_a_study_is_shown_where_its_model_is_not(
    far: Quiet, near: Quiet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = far.bundle(far.recent(1)[0].id)
    monkeypatch.setattr(session, "client", lambda: near)
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("WORKBENCH_MODELS", str(tmp_path / "empty"))
    assert near.open_bundle(content, "study.zip").away
    (job,) = near.recent()
    app = open_jobs()
    app.button(key=f"open-{job.id}").click().run().switch_page("pages/bit_allocation.py").run()
    assert not app.exception
    assert app.selectbox(key="model").value == job.spec["model"]
    assert [one.label for one in app.metric][:1] == ["Stored bits per weight"], "a plan was solved on the table"
    assert not [one for one in app.warning if "computed for other choices" in one.value]


@pytest.mark.parametrize("good", [True, False])
def test_an_upload_is_taken_or_refused_in_a_sentence(
    far: Quiet, near: Quiet, good: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = far.bundle(far.recent(1)[0].id) if good else b"PK no zip"
    monkeypatch.setattr(session, "client", lambda: near)

    class Upload:
        name = "from-afar.zip"

        def getvalue(self) -> bytes:
            return content

    memory: dict[str, Any] = {"key": Upload()}
    monkeypatch.setattr(bundles.st, "session_state", memory)
    take: Callable[[str], None] = bundles._take
    take("key")
    told = session.recall(bundles.SLOT)
    if good:
        assert told["trouble"] is None
        assert told["told"][0].startswith("Opened: 2 new results")
        assert near.recent(1)[0].kind == "sensitivity"
    else:
        assert told["trouble"].startswith("the bundle 'from-afar.zip' was not opened: it is no zip file")
        assert near.recent() == []
