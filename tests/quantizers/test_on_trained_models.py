"""What the low-bit systems promise, on models that were trained to their end and text that no method has seen."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

import workbench
from workbench import studies
from workbench.studies.context import Context

MODELS = ("demo", "stories260K")
Rise = Callable[..., float]


@pytest.fixture(params=MODELS)
def rise(request: pytest.FixtureRequest) -> Rise:
    """The rise of the loss on the evaluation text, nats a token, for a quantizer, a width and options."""
    texts, name = {}, request.param
    if name != "demo":
        folder = request.getfixturevalue("shared_models") / name
        name = str(folder)
        texts = {"calibration": str(folder / "calibration.txt"), "text": str(folder / "sampled.txt")}
    context = Context()
    loaded = context.model(name)

    @cache
    def measure(quantizer: str, bits: int | None, group: int = 64, **options: Any) -> float:
        scheme = {"quantizer": quantizer, "bits": bits, "group_size": group, "options": options}
        steps = studies.evaluate(loaded, scheme=scheme, tokens=8192, context=context, **texts)
        return workbench.run(steps).document["delta_loss"]

    return measure


@pytest.mark.slow
def test_three_bits_by_gptq_and_awq_cost_less_than_by_rounding(rise: Rise) -> None:
    assert rise("gptq", 3) < 0.95 * rise("rtn", 3)
    assert rise("awq", 3) < 0.95 * rise("rtn", 3)


@pytest.mark.slow
def test_binary_systems_beat_plain_row_binarization_by_far(rise: Rise) -> None:
    plain = rise("output_optimal_binary", None, -1, magnitude="mean")
    assert rise("billm", None) < 0.8 * plain
    # what is best for each matrix's own output is not bound to be so for the loss of a model that has lost its way
    assert rise("output_optimal_binary", None, -1, magnitude="output") < 1.1 * plain


@pytest.mark.slow
def test_widths_by_salience_beat_one_width_at_two_bits(rise: Rise) -> None:
    assert rise("slim_llm", 2) < 0.95 * rise("gptq", 2)
