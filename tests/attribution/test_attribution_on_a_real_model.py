"""A trained Llama: the default path method adds up where the zero baseline cannot, and points at the right words."""

from __future__ import annotations

import pytest

from workbench.attribution.adapter import Adapter
from workbench.attribution.targets import parse_target
from workbench.errors import WorkbenchError
from workbench.registry import attribution

STORY = "Once upon a time, there was a little girl named"


def test_integrated_gradients_add_up_on_a_trained_llama(stories: Adapter) -> None:
    prompt = stories.encode(STORY)
    target = parse_target(stories, prompt, " Lily")
    method = attribution.get("integrated_gradients")
    result = method(stories, prompt.ids, target, nodes=128, max_nodes=128, batch=64)
    assert result.baseline == "eos"
    assert result.relative_gap is not None
    assert result.relative_gap < 1e-4
    adaptive = method(stories, prompt.ids, target)
    assert adaptive.relative_gap is not None
    assert adaptive.relative_gap <= 1e-3
    assert adaptive.nodes in (32, 64)
    assert float((adaptive.scores - result.scores).abs().max()) < 0.02 * float(result.scores.abs().max())
    with pytest.raises(WorkbenchError, match="zero baseline"):
        method(stories, prompt.ids, target, baseline="zero")


def test_gradient_x_input_explains_little_of_a_trained_llama(stories: Adapter) -> None:
    prompt = stories.encode(STORY)
    result = attribution.get("input_x_gradient")(stories, prompt.ids, parse_target(stories, prompt))
    assert abs(float(result.scores.sum())) < 0.1 * abs(result.value)
    assert "linearised and integrated_gradients do not have this fault" in result.notes[-1]
