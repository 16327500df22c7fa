"""Metrics of gradients, paths and quantized weights: worked out by hand, and what each of them owes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.model.sites import LEVELS, SiteStatistics
from workbench.model.weightstats import NEEDS, WeightStatistics, need_of
from workbench.ordering import topk_mask
from workbench.registry import Method, Option, salience

Maker = Callable[[torch.Tensor], SiteStatistics]
WEIGHT_METRICS = [metric for metric in salience.methods() if not set(metric.needs) <= set(LEVELS)]
every_metric = pytest.mark.parametrize("metric", WEIGHT_METRICS, ids=lambda metric: metric.name)
FIELDS = ("grad", "grad_sq", "quantized", "path_abs", "path_signed", "hessian_step", "hessian_gradient", "synflow")

WEIGHT = torch.tensor([[1.0, -2.0], [0.5, 4.0]])
GRADIENT = torch.tensor([[0.5, 0.25], [-1.0, 0.0]])
QUANTIZED = torch.tensor([[1.5, -2.0], [0.0, 3.0]])
PRODUCT = torch.tensor([[2.0, 1.0], [4.0, -1.0]])
KNOWN = WeightStatistics(
    windows=3,
    nodes=4,
    grad=GRADIENT,
    grad_sq=torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
    quantized=QUANTIZED,
    path_abs=torch.tensor([[3.0, 0.0], [2.0, 1.0]]),
    path_signed=torch.tensor([[-3.0, 0.0], [2.0, 0.5]]),
    hessian_step=PRODUCT,
    hessian_gradient=PRODUCT,
    synflow=torch.tensor([[0.0, 7.0], [1.0, 2.0]]),
)
BY_HAND: dict[str, list[list[float]]] = {
    "gradient": [[0.5, 0.25], [1, 0]],
    "salun": [[0.5, 0.25], [1, 0]],
    "snip": [[0.5, 0.5], [0.5, 0]],
    "taylor": [[0.25, 0.25], [0.25, 0]],
    "force": [[-0.5, 0.5], [0.5, 0]],
    "fisher": [[1, 2], [3, 4]],
    "grasp": [[2, -2], [2, -4]],
    "first_order": [[0.25, 0], [0.5, 0]],
    "second_order": [[0.75, 0], [-0.5, 0.5]],
    "squeezellm": [[0.25, 0], [0.75, 4]],
    "pqi": [[3, 0], [2, 1]],
    "synflow": [[0, 7], [1, 2]],
}


def test_every_metric_of_this_kind_is_known_here():
    assert {metric.name for metric in WEIGHT_METRICS} == {*BY_HAND, "d_pruner", "kl"}
    for metric in WEIGHT_METRICS:
        assert set(metric.needs) <= {*LEVELS, *NEEDS}
        assert metric.traits.get("compares_quantized", False) == bool({"quantized", "path"} & set(metric.needs))


@pytest.mark.parametrize("name", BY_HAND)
def test_by_hand(name: str):
    assert salience.get(name)(WEIGHT, KNOWN).tolist() == BY_HAND[name]


def test_signed_pqi_and_other_points_than_were_walked():
    pqi = salience.get("pqi")
    assert pqi(WEIGHT, KNOWN, form="signed").tolist() == [[-3, 0], [2, 0.5]]
    with pytest.raises(WorkbenchError, match="walked at 4 points; option 'nodes' asks for 8"):
        pqi(WEIGHT, KNOWN, nodes=8)


def layer(
    statistics_of: Maker, dtype: torch.dtype = torch.float32, rows: int = 12, columns: int = 40
) -> tuple[torch.Tensor, WeightStatistics]:
    generator = torch.Generator().manual_seed(rows + columns)

    def draw() -> torch.Tensor:
        return torch.randn(rows, columns, generator=generator)

    weight = (0.05 * draw()).to(dtype)
    path = draw()
    known = WeightStatistics(
        site=statistics_of(torch.randn(160, columns, generator=generator)),
        windows=5,
        nodes=4,
        grad=0.1 * draw(),
        grad_sq=0.01 * draw().square(),
        quantized=(weight.float() * 20).round() / 20,
        path_abs=path.abs(),
        path_signed=path,
        hessian_step=draw(),
        hessian_gradient=draw(),
        synflow=draw().abs(),
    )
    return weight, known


@every_metric
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", [(12, 40), (1, 1), (7, 131), (33, 5)], ids=str)
def test_scores_are_finite_of_their_shape_and_change_nothing(
    metric: Method, dtype: torch.dtype, shape: tuple[int, int], statistics_of: Maker
):
    weight, known = layer(statistics_of, dtype, *shape)
    _, untouched = layer(statistics_of, dtype, *shape)
    before = weight.clone()
    scores = metric(weight, known)
    assert tuple(scores.shape) == (shape if metric.traits["granularity"] == "element" else ())
    assert scores.dtype == torch.float32
    assert torch.isfinite(scores).all()
    assert metric.signed or (scores >= 0).all()
    assert torch.equal(metric(weight, known), scores)
    scores.fill_(-1)
    assert torch.equal(weight, before)
    for field in FIELDS:
        assert torch.equal(known.get(field), untouched.get(field))


@every_metric
def test_scores_follow_rows_and_columns(metric: Method, statistics_of: Maker):
    weight, known = layer(statistics_of)
    generator = torch.Generator().manual_seed(3)
    rows, columns = torch.randperm(12, generator=generator), torch.randperm(40, generator=generator)

    def move(tensor: torch.Tensor) -> torch.Tensor:
        return tensor[rows][:, columns]

    assert known.site is not None
    assert known.site.gram is not None
    moved = replace(known, site=replace(known.site, gram=known.site.gram[columns][:, columns]))
    for field in FIELDS:
        setattr(moved, field, move(known.get(field)))
    scores, other = metric(weight, known), metric(move(weight), moved)
    expected = move(scores) if scores.ndim else scores
    torch.testing.assert_close(other, expected, rtol=1e-4, atol=1e-9)


@every_metric
def test_what_is_not_a_number_is_refused(metric: Method, statistics_of: Maker):
    weight, known = layer(statistics_of)
    weight[2, 5] = float("nan")
    with pytest.raises(WorkbenchError, match="the weight holds 1 of 480 values that are NaN or infinite"):
        metric(weight, known)
    weight[2, 5] = 0.1
    for field in FIELDS:
        if need_of(field) in metric.needs:
            broken = replace(known, **{field: torch.full((12, 40), float("inf"))})
            options: dict[str, Any] = {"form": "signed"} if field == "path_signed" else {}
            if metric.name != "pqi" or field.startswith("path"):
                with pytest.raises(WorkbenchError, match="480 of 480 values that are NaN or infinite"):
                    metric(weight, broken, **options)


@every_metric
def test_what_was_not_collected_is_asked_for(metric: Method, statistics_of: Maker):
    weight, known = layer(statistics_of)
    for need in set(metric.needs) & set(NEEDS):
        if metric.name == "pqi" and need == "quantized":
            continue
        fields = ["path_abs", "path_signed"] if need == "path" else [need]
        with pytest.raises(WorkbenchError, match=f"collect the statistic '{need}'"):
            metric(weight, replace(known, **dict.fromkeys(fields)))
    if "gram" in metric.needs:
        with pytest.raises(WorkbenchError, match="'gram'"):
            metric(weight, replace(known, site=None))


def probes(option: Option) -> tuple[Any, ...]:
    return option.choices or (option.minimum, option.maximum)


@every_metric
def test_options_reach_the_metric_and_their_bounds_hold(metric: Method, statistics_of: Maker):
    weight, known = layer(statistics_of, rows=33, columns=131)
    for option in metric.options:
        if option.name == "nodes":
            continue  # read by the sweep; `test_signed_pqi_and_other_points_than_were_walked`
        given = [metric(weight, known, **metric.parse_options({option.name: value})) for value in probes(option)]
        assert not torch.equal(given[0], given[-1]), f"{option.name} changes nothing"
        assert all(torch.isfinite(scores).all() for scores in given)


@every_metric
def test_weights_that_quantization_leaves_alone(metric: Method, statistics_of: Maker):
    """The same weights give zeros: an error of nothing, a step of nothing, a distribution that did not move."""
    if "compares_quantized" not in metric.traits or metric.name == "pqi":
        pytest.skip("looks at no step; the path is tested on models")
    weight, known = layer(statistics_of)
    assert not metric(weight, replace(known, quantized=weight.clone())).any()


def test_n1_snip_and_taylor_choose_the_same_weights(statistics_of: Maker):
    weight, known = layer(statistics_of, rows=64, columns=200)
    known = replace(known, grad=(known.get("grad") * 8).round() / 800)  # many ties
    one, other = (salience.get(name)(weight, known) for name in ("snip", "taylor"))
    for k in (1, 10, 128, 1280, 6400):
        assert torch.equal(topk_mask(one, k), topk_mask(other, k))
        assert torch.equal(topk_mask(one, min(k, 200), by_row=True), topk_mask(other, min(k, 200), by_row=True))
    assert torch.equal(salience.get("force")(weight, known).abs(), one)


def test_d1_without_the_general_part_only_the_domain_is_left(statistics_of: Maker):
    weight, known = layer(statistics_of)
    change = weight.double() * known.get("grad").double()
    expected = (change - change.square() / 2).abs().float()
    torch.testing.assert_close(salience.get("d_pruner")(weight, known, general=0.0), expected)
    both = salience.get("d_pruner")(weight, known, general=1.0).double()
    assert both.sum().item() == pytest.approx(2 * expected.double().sum().item(), rel=1e-5)


def test_d2_a_domain_that_says_nothing_leaves_the_general_importance(statistics_of: Maker):
    weight, known = layer(statistics_of)
    silent = replace(known, grad=torch.zeros_like(weight))
    scores = salience.get("d_pruner")(weight, silent)
    assert known.site is not None
    torch.testing.assert_close(scores, salience.get("obs")(weight, known.site) / 2)
