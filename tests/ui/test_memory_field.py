"""The field for a memory limit: part of the jobs that are asked for, not of the questions that pages ask."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fake_client import FakeClient
from streamlit.testing.v1 import AppTest

from workbench.jobs.keys import study_key
from workbench.ui import defaults

Open = Callable[..., AppTest]


def errors(app: AppTest) -> list[str]:
    return [one.value.replace("\\", "") for one in app.error]


def test_a_limit_goes_into_the_jobs_that_are_asked_for(open_page: Open, client: FakeClient) -> None:
    client.hold("salience", None)
    app = open_page("weight_salience", memory_limit="3GiB")
    assert not app.exception
    app.button(key="run-weights").click().run()
    asked = [spec for kind, spec in client.submitted if kind == "salience"]
    assert [spec["memory_limit"] for spec in asked] == [3 * 2**30]


def test_no_limit_leaves_the_jobs_as_they_are(open_page: Open, client: FakeClient) -> None:
    client.hold("salience", None)
    app = open_page("weight_salience")
    app.button(key="run-weights").click().run()
    assert client.submitted
    assert all("memory_limit" not in spec for _, spec in client.submitted)


def test_a_result_is_the_same_under_any_limit(open_page: Open) -> None:
    kind, spec = defaults.salience("tiny")
    assert study_key(kind, spec | {"memory_limit": 2**30}) == study_key(kind, spec)
    app = open_page("weight_salience", memory_limit="3GiB")
    assert not app.exception
    assert [one.key for one in app.button if one.key == "run-weights"] == []


@pytest.mark.parametrize("written", ["four", "4 apples", "-1GiB"])
def test_a_bad_size_is_one_sentence(open_page: Open, client: FakeClient, written: str) -> None:
    app = open_page("weight_salience")
    app.text_input(key="memory_limit").set_value(written).run()
    assert not app.exception
    assert errors(app) == [f"Memory limit has value '{written}'; write a size such as 500 MB, 2 GB or 4GiB"]
    assert client.submitted == []
