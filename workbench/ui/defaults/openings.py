"""What each page asks before anybody has chosen anything."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.ui.defaults.choices import BESIDE, DEMO, METRIC, Question, Spec, Texts, quantized_scheme
from workbench.ui.defaults.costs import front, quality, sensitivity, tradeoff
from workbench.ui.defaults.demo import generate
from workbench.ui.defaults.inputs import attribute, blame, damage_map, drift, drift_curve, token_weights
from workbench.ui.defaults.weights import court, detach, inspect, layer_error, salience, signal


def overview(model: str = DEMO, texts: Texts | None = None, *, metric: str = METRIC) -> dict[str, Question]:
    """The questions of the Overview page by the name of their part."""
    return {
        "sizes": inspect(model),
        "weights": salience(model, texts, metric=metric),
        "costs": tradeoff(model, texts),
        "inputs": attribute(model),
        "token weights": token_weights(model),
    }


def input_attribution(
    model: str = DEMO, texts: Texts | None = None, *, quantized: Spec | None = None
) -> dict[str, Question]:
    """The questions of the Input attribution page: the full model, a quantized one, and other methods beside."""
    fewer_bits = attribute(model, scheme=quantized or quantized_scheme(), texts=texts)
    beside = {name: attribute(model, method=name) for name in BESIDE}
    return {"full": attribute(model), "quantized": fewer_bits, **beside}


def reasons(model: str = DEMO, texts: Texts | None = None, *, quantized: Spec | None = None) -> dict[str, Question]:
    """The questions of the page Reasons under quantization by the name of their part."""
    asked = {"scheme": quantized or quantized_scheme(), "texts": texts}
    return {
        "strips": drift(model, **asked),
        "curve": drift_curve(model, texts=texts),
        "damage": damage_map(model, **asked),
        "blame": blame(model, **asked),
    }


def layer_errors(
    model: str = DEMO, texts: Texts | None = None, *, schemes: Sequence[Spec] | None = None
) -> dict[str, Question]:
    """The questions of the Layer error page by the name of their part."""
    return {
        "errors": layer_error(model, texts, schemes=schemes),
        "quality": quality(model, texts, schemes=schemes),
        "signal": signal(model, texts, schemes=schemes),
    }


def every_opening(model: str = DEMO, texts: Texts | None = None) -> list[Question]:
    """What pages ask of a model before anybody has chosen anything, each question once."""
    questions = [
        *overview(model, texts).values(),
        *input_attribution(model, texts).values(),
        *layer_errors(model, texts).values(),
        *reasons(model, texts).values(),
        sensitivity(model, texts),
        front(model, texts),
        court(model, texts),
        detach(model, texts),
        generate(model, texts=texts),
    ]
    return [question for place, question in enumerate(questions) if question not in questions[:place]]
