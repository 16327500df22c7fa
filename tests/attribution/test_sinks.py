"""Sinks: what is planted is found and nothing else, and what is left out leaves rows that add up."""

from __future__ import annotations

import pytest
import torch
from attribution_models import IDS, adapted

from workbench.attribution.adapter import Adapter
from workbench.attribution.held_states import block_states, logits_with_held
from workbench.attribution.sinks import find_sinks, normalised, phi, sink_mass, without_sinks

ROOT = 32**0.5
"""Of the width: the largest phi that there can be."""


def planted(position: int, dimension: int, size: float = 1000.0) -> Adapter:
    """A model in which one token of the usual prompt has a huge entry in one dimension."""
    adapter = adapted("llama")
    with torch.no_grad():
        adapter.table.weight[IDS[0, position], dimension] += size
    return adapter


@pytest.mark.parametrize(("position", "dimension"), [(0, 3), (4, 17), (7, 31)])
def test_a_planted_token_is_a_sink_and_only_it(position: int, dimension: int) -> None:
    sinks = find_sinks(planted(position, dimension), IDS)
    assert sinks.dimensions == (dimension,)
    assert sinks.positions == [position]
    assert bool(sinks.flags[1, position])
    assert float(sinks.phi[1, position]) == pytest.approx(ROOT, abs=0.01)


def test_a_model_without_a_huge_entry_has_no_sinks(either: Adapter) -> None:
    assert find_sinks(either, IDS).positions == []
    assert find_sinks(either, torch.tensor([[17]])).positions == []


def test_the_limit_can_be_given() -> None:
    adapter = planted(4, 17)
    assert find_sinks(adapter, IDS, limit=20.0).positions == []  # beyond the root of 32 channels
    assert find_sinks(adapter, IDS, limit=5.5).positions == [4]
    assert find_sinks(adapter, IDS, limit=0.0).positions == list(range(8))
    both = planted(2, 5)
    with torch.no_grad():
        both.table.weight[IDS[0, 6], 9] += 1000
    assert set(find_sinks(both, IDS, count=2).dimensions) == {5, 9}
    assert find_sinks(both, IDS, count=2).positions == [2, 6]


def test_phi_is_the_entry_over_the_root_mean_square() -> None:
    hidden = torch.randn(5, 400, dtype=torch.float64)
    expected = torch.nn.functional.rms_norm(hidden, (400,), eps=1e-6).abs()
    torch.testing.assert_close(normalised(hidden), expected)
    torch.testing.assert_close(phi(hidden, (7, 300)), expected[:, [7, 300]].amax(-1))
    hidden[3, 7] += 1000
    assert (phi(hidden, (7,)) > 19.9).tolist() == [False, False, False, True, False]


def test_rows_without_sinks_add_up_to_one() -> None:
    maps = torch.rand(3, 6, 6).tril()
    maps = maps / maps.sum(-1, keepdim=True)
    sinks = torch.tensor([True, False, False, True, False, False])
    left = without_sinks(maps, sinks)
    assert left[..., sinks].abs().max() == 0
    torch.testing.assert_close(left[:, 1:].sum(-1), torch.ones(3, 5))
    assert left[:, 0].abs().max() == 0  # it saw nothing else
    kept = [1, 2, 4, 5]
    torch.testing.assert_close(left[:, 5, kept] / left[:, 5, 5:], maps[:, 5, kept] / maps[:, 5, 5:])
    torch.testing.assert_close(without_sinks(maps, torch.zeros(6, dtype=torch.bool)), maps)


def test_mass_on_sinks_is_asked_of_positions_that_have_a_choice() -> None:
    maps = torch.rand(2, 5, 5).tril()
    maps = maps / maps.sum(-1, keepdim=True)
    found = sink_mass(maps, torch.tensor([False, True, False, True, False]))
    assert found.isnan().tolist() == [[True, True, False, True, False]] * 2
    torch.testing.assert_close(found[:, 2], maps[:, 2, 1])
    torch.testing.assert_close(found[:, 4], maps[:, 4, 1] + maps[:, 4, 3])


def test_holding_tokens_at_the_states_of_another_run(either: Adapter) -> None:
    states = block_states(either, IDS)
    assert len(states) == 2
    full = either.predict(IDS)
    first_block = [(name, one) for name, one in either.model.named_parameters() if ".0." in name]
    changed = [parameter for name, parameter in first_block if name.endswith("proj.weight")]
    held = [parameter.data for parameter in changed]
    try:
        for parameter in changed:
            parameter.data = 1.5 * parameter.data
        damaged = either.predict(IDS)
        rows = torch.zeros(3, 8, dtype=torch.bool)
        rows[1, -1] = True
        rows[2] = True
        nothing, last, everything = logits_with_held(either, IDS, states, rows)
    finally:
        for parameter, data in zip(changed, held, strict=True):
            parameter.data = data
    torch.testing.assert_close(nothing, damaged)
    assert (damaged - full).norm() > 0.1
    assert (last - full).norm() > 0.1
    torch.testing.assert_close(everything, full, atol=1e-5, rtol=0)  # the second block is whole
    assert logits_with_held(either, IDS, states, rows[:1])[0].allclose(full, atol=1e-5)
    assert not any(module._forward_pre_hooks for module in either.model.modules())
