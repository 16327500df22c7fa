"""The questions that pages ask: whole, plain JSON, and such as the studies understand."""

import inspect
import json

import pytest

from workbench import studies
from workbench.ui import defaults, words

OPENINGS = defaults.every_opening()


@pytest.mark.parametrize(
    ("kind", "spec"), OPENINGS, ids=[f"{kind}-{place}" for place, (kind, _) in enumerate(OPENINGS)]
)
def test_a_question_is_one_that_the_study_understands(kind: str, spec: defaults.Spec) -> None:
    parameters = inspect.signature(studies.STUDIES[kind]).parameters
    known = set(parameters) - set(studies.NOT_IN_SPECS)
    assert spec.keys() - {"model", "allow_download"} == known & spec.keys() - {"model", "allow_download"}
    required = {name for name, one in parameters.items() if one.default is one.empty and name != "loaded"}
    assert required <= spec.keys()
    assert json.loads(json.dumps(spec)) == spec


def test_a_question_names_everything_that_its_answer_depends_on() -> None:
    for kind, spec in OPENINGS:
        parameters = set(inspect.signature(studies.STUDIES[kind]).parameters) - set(studies.NOT_IN_SPECS)
        assert parameters - {"context"} <= spec.keys(), kind


def test_openings_are_asked_once_each_and_of_the_embedded_model() -> None:
    texts = [json.dumps(question, sort_keys=True) for question in OPENINGS]
    assert len(texts) == len(set(texts))
    assert {spec["model"] for _, spec in OPENINGS} == {"demo"}
    assert {kind for kind, _ in OPENINGS} >= {
        "inspect",
        "salience",
        "tradeoff",
        "attribute",
        "token_weights",
        "layer_error",
    }


def test_the_full_model_reads_no_calibration_text() -> None:
    assert defaults.attribute()[1]["calibration"] is None
    assert defaults.attribute(scheme=defaults.scheme())[1]["calibration"] == "demo:calibration"


def test_schemes_in_words() -> None:
    assert defaults.scheme_label(defaults.scheme(bits=3)) == "rtn, 3 bits, groups of 64"
    assert (
        defaults.scheme_label(defaults.scheme("billm", None, -1, True)) == "billm, fixed width, whole rows, symmetric"
    )
    assert defaults.scheme_label(None) == "full precision"


def test_differences_of_two_questions_are_named() -> None:
    before, after = (defaults.attribute(scheme=defaults.scheme(bits=bits))[1] for bits in (2, 4))
    told = words.differences(before, after).replace("\\", "")
    assert told == "scheme was rtn, 2 bits, groups of 64, now rtn, 4 bits, groups of 64"


def test_a_summary_is_short_and_hides_folders() -> None:
    spec = defaults.salience("m", defaults.Texts("/home/me/secret/a.txt"))[1]
    assert words.summary(spec) == "m, wanda"
    assert words.value_words("calibration", spec["calibration"]) == "a.txt"
    assert len(words.value_words("prompt", "x" * 500)) == 40
