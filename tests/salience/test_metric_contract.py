"""What every salience metric owes, whichever it is: the registry enrols a new one here by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.model.sites import LEVELS, SiteStatistics
from workbench.registry import Method, Option, salience

Maker = Callable[[torch.Tensor], SiteStatistics]
LAYER_METRICS = [metric for metric in salience.methods() if set(metric.needs) <= set(LEVELS)]
every_metric = pytest.mark.parametrize("metric", LAYER_METRICS, ids=lambda metric: metric.name)


def layer(rows: int = 12, columns: int = 40, tokens: int = 160) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(rows + columns)
    mixing = torch.eye(columns) + 0.2 * torch.randn(columns, columns, generator=generator)
    inputs = torch.randn(tokens, columns, generator=generator) @ mixing * torch.logspace(-1, 1, columns)
    return 0.05 * torch.randn(rows, columns, generator=generator), inputs


def columns_of(metric: Method, scores: torch.Tensor) -> torch.Tensor:
    """Scores as something whose last axis is the input channels."""
    return scores if metric.traits["granularity"] != "matrix" else scores.reshape(1)


def probes(option: Option) -> tuple[object, ...]:
    """Values of an option that lie far apart."""
    if option.type == "choice":
        return option.choices or ()
    return (False, True) if option.type == "bool" else (option.minimum, option.maximum)


def test_the_seven_metrics_of_a_layer_are_there():
    assert {"magnitude", "activation", "wanda", "obd", "obs", "hinv2", "chol2"} <= {m.name for m in LAYER_METRICS}


@pytest.mark.parametrize("metric", salience.methods(), ids=lambda metric: metric.name)
def test_a_metric_says_what_it_is(metric: Method):
    assert metric.summary.endswith(".")
    assert metric.reference
    assert metric.cost
    assert metric.traits["granularity"] in ("element", "channel", "matrix")


@every_metric
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", [(12, 40), (1, 1), (7, 131), (33, 5)], ids=str)
def test_scores_are_finite_of_their_shape_repeatable_and_leave_the_weight(
    metric: Method, dtype: torch.dtype, shape: tuple[int, int], statistics_of: Maker
):
    weight, inputs = layer(*shape)
    weight = weight.to(dtype)
    before, stats = weight.clone(), statistics_of(inputs)
    scores = metric(weight, stats)
    expected = {"element": shape, "channel": shape[1:], "matrix": ()}[metric.traits["granularity"]]
    assert tuple(scores.shape) == expected
    assert scores.dtype == torch.float32
    assert torch.isfinite(scores).all()
    assert torch.equal(metric(weight, stats), scores)
    assert torch.equal(weight, before)
    assert metric.signed or (scores >= 0).all()
    assert scores.data_ptr() != weight.data_ptr()


@every_metric
def test_scores_change_neither_the_statistics_nor_share_their_memory(metric: Method, statistics_of: Maker):
    weight, inputs = layer()
    stats, untouched = statistics_of(inputs), statistics_of(inputs)
    metric(weight, stats).fill_(-1.0)
    for name in ("mean_abs", "max_abs", "sum_sq", "gram"):
        assert torch.equal(getattr(stats, name), getattr(untouched, name))


@every_metric
def test_order_of_rows_does_not_matter(metric: Method, statistics_of: Maker):
    weight, inputs = layer()
    stats = statistics_of(inputs)
    order = torch.randperm(len(weight), generator=torch.Generator().manual_seed(3))
    scores, moved = metric(weight, stats), metric(weight[order], stats)
    torch.testing.assert_close(moved, scores[order] if metric.traits["granularity"] == "element" else scores)


@every_metric
def test_scores_follow_their_columns_unless_the_metric_says_otherwise(metric: Method, statistics_of: Maker):
    weight, inputs = layer()
    order = torch.randperm(weight.shape[1], generator=torch.Generator().manual_seed(4))
    scores = columns_of(metric, metric(weight, statistics_of(inputs)))
    moved = columns_of(metric, metric(weight[:, order], statistics_of(inputs[:, order])))
    followed = torch.allclose(moved, scores[..., order] if scores.numel() > 1 else scores, rtol=1e-3, atol=0.0)
    assert followed != metric.traits.get("order_dependent", False)


@every_metric
def test_dead_columns_and_zero_rows(metric: Method, statistics_of: Maker):
    weight, inputs = layer()
    weight[3] = 0
    inputs[:, [0, 17, 39]] = 0
    scores = metric(weight, statistics_of(inputs))
    assert torch.isfinite(scores).all()
    if metric.traits["granularity"] == "element":
        assert (scores[3] == 0).all()
    if metric.needs and metric.traits["granularity"] != "matrix":
        assert (scores[..., [0, 17, 39]] == 0).all()
        assert (scores[..., 1:17].sum() > 0).all()


@every_metric
def test_an_input_that_is_always_zero_and_a_weight_that_is_all_zero(metric: Method, statistics_of: Maker):
    weight, inputs = layer()
    assert torch.isfinite(metric(weight, statistics_of(torch.zeros_like(inputs)))).all()
    assert torch.isfinite(metric(torch.zeros_like(weight), statistics_of(inputs))).all()


@every_metric
def test_fewer_tokens_than_columns(metric: Method, statistics_of: Maker):
    weight, inputs = layer(tokens=9)
    assert torch.isfinite(metric(weight, statistics_of(inputs))).all()


@every_metric
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers_are_refused(metric: Method, bad: float, statistics_of: Maker):
    weight, inputs = layer()
    weight[2, 5] = bad
    with pytest.raises(WorkbenchError, match="1 of 480 values that are NaN or infinite"):
        metric(weight, statistics_of(inputs))


@pytest.mark.parametrize("metric", [m for m in LAYER_METRICS if m.needs], ids=lambda metric: metric.name)
def test_statistics_that_are_not_numbers_are_refused(metric: Method, statistics_of: Maker):
    weight, inputs = layer()
    inputs[5, 7] = float("nan")
    with pytest.raises(WorkbenchError, match="NaN or infinite"):
        metric(weight, statistics_of(inputs))


@pytest.mark.parametrize("metric", [m for m in LAYER_METRICS if "gram" in m.needs], ids=lambda metric: metric.name)
def test_a_gram_that_was_not_collected_is_asked_for(metric: Method, statistics_of: Maker):
    weight, inputs = layer()
    with pytest.raises(WorkbenchError, match="'gram'"):
        metric(weight, replace(statistics_of(inputs), gram=None))


@every_metric
def test_options_reach_the_metric_and_their_bounds_hold(metric: Method, statistics_of: Maker):
    weight, inputs = layer()
    stats = statistics_of(inputs)
    for option in metric.options:
        values = probes(option)
        given = [metric(weight, stats, **metric.parse_options({option.name: value})) for value in values]
        assert not torch.equal(given[0], given[-1]), f"{option.name} changes nothing"
        assert all(torch.isfinite(scores).all() for scores in given)
