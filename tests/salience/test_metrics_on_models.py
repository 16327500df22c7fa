"""Metrics on a model: what a sweep collects for them must give the scores that the inputs themselves give."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from workbench.model.load import LoadedModel
from workbench.model.matrices import quantizable_matrices, read_weight
from workbench.model.sites import LEVELS, SiteStatistics
from workbench.model.statistics import collect
from workbench.model.texts import Text, make_windows
from workbench.progress import run
from workbench.registry import Method, salience

LAYER_METRICS = [metric for metric in salience.methods() if set(metric.needs) <= set(LEVELS)]


@pytest.mark.parametrize("metric", LAYER_METRICS, ids=lambda metric: metric.name)
@pytest.mark.parametrize("name", ["tiny_llama", "tiny_gpt2"])
def test_collecting_no_more_than_the_needs_is_enough(
    metric: Method,
    name: str,
    request: pytest.FixtureRequest,
    statistics_of: Callable[[torch.Tensor], SiteStatistics],
):
    loaded: LoadedModel = request.getfixturevalue(name)
    text = Text("test", ("One day a small bird found a red button in the grass. " * 20,))
    windows = make_windows(text, loaded.tokenizer, window=64, tokens=512, context=loaded.context)
    matrix = quantizable_matrices(loaded.model)[-1]
    seen: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        seen.append(inputs[0].flatten(0, 1))

    hook = loaded.model.get_submodule(matrix.module).register_forward_pre_hook(keep)
    with torch.no_grad():
        loaded.model(input_ids=windows.ids, use_cache=False)
    hook.remove()
    statistics = run(collect(loaded, windows, needs=metric.needs))
    weight = read_weight(loaded.model, matrix)
    expected = metric(weight, statistics_of(torch.cat(seen)))
    torch.testing.assert_close(metric(weight, statistics.of(matrix)), expected, rtol=1e-4, atol=0)
