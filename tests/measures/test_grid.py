"""What a grid did to single weights, by hand and by chance."""

from __future__ import annotations

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.measures.grid import near_boundary_share, sign_flips, zeroed_share


def test_flips_and_losses_are_told_apart():
    weight = torch.tensor([[1.0, -1.0, 0.2, -0.2], [0.0, 0.0, 2.0, -2.0]])
    quantized = torch.tensor([[1.0, 1.0, 0.0, -0.5], [0.0, 1.0, -2.0, 0.0]])
    assert sign_flips(weight, quantized) == 2 / 8
    assert zeroed_share(weight, quantized) == 2 / 8
    assert sign_flips(weight, weight) == zeroed_share(weight, weight) == 0


def test_near_a_boundary_by_hand():
    """Steps of 2 and 10 with a short last group: 1.0 and -1.0 sit on a boundary, so does 14.8 almost, 12 does not."""
    weight = torch.tensor([[1.0, -1.0, 1.2, 14.8, 12.0]])
    scale = torch.tensor([[2.0, 10.0]])
    assert near_boundary_share(weight, scale, group_size=3) == pytest.approx(3 / 5)
    assert near_boundary_share(weight, scale, group_size=3, margin=0.11) == pytest.approx(4 / 5)


def test_chance_is_twice_the_margin():
    weight = torch.rand(200, 256, generator=torch.Generator().manual_seed(0)) * 100 - 50
    share = near_boundary_share(weight, torch.ones(200, 1), group_size=-1)
    assert share == pytest.approx(0.1, abs=0.005)
    assert near_boundary_share(weight.round(), torch.ones(200, 1).half(), group_size=256) == 0


@pytest.mark.parametrize(
    ("scale", "group_size"),
    [(torch.ones(2, 2), 3), (torch.ones(2, 3), 4), (torch.zeros(2, 2), 4), (torch.ones(2, 2), 0)],
)
def test_steps_that_do_not_fit_are_refused(scale: torch.Tensor, group_size: int):
    with pytest.raises(WorkbenchError, match="do not make 8 columns"):
        near_boundary_share(torch.ones(2, 8), scale, group_size=group_size)
