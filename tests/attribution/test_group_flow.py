"""The flow through groups of weights: against what matrices gave, gradients of the linear network, and a loop."""

from __future__ import annotations

import pytest
import torch
from attribution_models import FAMILIES, IDS, LOGIT, adapted
from torch import nn
from transformers.pytorch_utils import Conv1D

from workbench.attribution.adapter import Adapter
from workbench.attribution.frozen import Frozen
from workbench.attribution.group_flow import GroupFlow, group_flow
from workbench.attribution.patches import ruled
from workbench.attribution.targets import Target
from workbench.errors import WorkbenchError

LAST = IDS.shape[1] - 1


def linears(adapter: Adapter) -> dict[str, nn.Module]:
    head = adapter.model.get_output_embeddings()
    found = adapter.model.named_modules()
    return {f"{n}.weight": m for n, m in found if isinstance(m, (nn.Linear, Conv1D)) and m is not head}


def flow(
    adapter: Adapter, position: int = LAST, width: int = 12, moved: dict | None = None, target: Target = LOGIT
) -> dict[str, GroupFlow]:
    modules = linears(adapter)
    transposed = {name for name, module in modules.items() if isinstance(module, Conv1D)}
    sizes = dict.fromkeys(modules, width)
    return group_flow(adapter, IDS, target, modules, position, sizes, moved or {}, transposed)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_groups_add_up_to_what_the_matrix_gives(family: str) -> None:
    adapter = adapted(family)
    for width, counts in ((12, {3, 6, 9, 11}), (-1, {1})):
        found = flow(adapter, width=width)
        assert {len(one.flow) for one in found.values()} <= counts
        for one in found.values():
            assert float(one.flow.sum()) == pytest.approx(one.total, rel=1e-5, abs=1e-5)
            assert one.error is None
            assert one.lost is None
    assert max(abs(one.total) for one in found.values()) > 1e-2


def test_the_total_is_the_gradient_of_the_linear_network_times_the_output() -> None:
    """All rows of one matrix scaled by 1 + e: the derivative at e = 0, summed over tokens, by autograd on e."""
    adapter = adapted("llama", torch.float64)
    name, module = list(linears(adapter).items())[6]
    scale = torch.zeros((), dtype=torch.float64, requires_grad=True)
    handle = module.register_forward_hook(lambda _m, _given, out: out + scale * out.detach())
    try:
        with adapter.steady():
            leaf = adapter.embed(IDS).detach().requires_grad_()
            with ruled(adapter.model, Frozen("test")):
                logits = adapter.next_logits(leaf)
            (expected,) = torch.autograd.grad(logits[0, 40], scale)
    finally:
        handle.remove()
    total = sum(flow(adapter, position)[name].total for position in range(LAST + 1))
    assert abs(float(expected)) > 1e-4
    assert total == pytest.approx(float(expected), rel=1e-9)


def test_queries_keys_and_gates_carry_nothing_and_up_carries_what_down_does() -> None:
    adapter = adapted("llama", torch.float64)
    found = flow(adapter, position=3)
    for name, one in found.items():
        if any(part in name for part in ("q_proj", "k_proj", "gate_proj")):
            assert not one.flow.any()
    up, down = (found[f"model.layers.0.mlp.{role}_proj.weight"].total for role in ("up", "down"))
    assert up == pytest.approx(down, rel=1e-9)
    assert abs(up) > 1e-5


def test_rounding_of_a_group_is_that_of_a_loop_over_its_columns() -> None:
    adapter = adapted("gpt2", torch.float64)
    modules = linears(adapter)
    name = next(name for name in modules if name.endswith("1.mlp.c_proj.weight"))
    module, held = modules[name], {}
    torch.manual_seed(3)
    moved = torch.randn(32, 128, dtype=torch.float64)
    handle = module.register_forward_hook(lambda _m, given, _out: held.update(given=given[0]))
    found = flow(adapter, width=50, moved={name: moved})[name]
    handle.remove()
    given = held["given"].detach().reshape(-1, 128)[LAST]
    for group, columns in enumerate((range(50), range(50, 100), range(100, 128))):
        outputs = [sum(float(moved[o, i]) * float(given[i]) for i in columns) for o in range(32)]
        assert float(found.error[group]) == pytest.approx(sum(one**2 for one in outputs) ** 0.5, rel=1e-10)
    # what is lost is linear in the rounding: all of the weight lost is all of the flow
    whole = flow(adapter, width=50, moved={name: module.weight.detach().T})[name]
    assert whole.lost.tolist() == pytest.approx(found.flow.tolist(), rel=1e-10)
    assert whole.error.tolist() == pytest.approx(found.size.tolist(), rel=1e-10)


def test_a_log_probability_is_explained_too_and_nothing_is_left_on_the_model() -> None:
    adapter = adapted("llama")
    found = flow(adapter, target=Target("logprob", (40,), ("w40",)))
    assert all(float(one.flow.sum()) == pytest.approx(one.total, rel=1e-5, abs=1e-5) for one in found.values())
    with pytest.raises(WorkbenchError, match="matrix 'stranger' was called 0 times"):
        group_flow(adapter, IDS, LOGIT, {"stranger": nn.Linear(2, 2)}, 0, {"stranger": -1}, {})
    assert not any(module._forward_hooks for module in adapter.model.modules())
