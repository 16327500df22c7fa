"""Parts of the joint change: they sum to what is measured, and to what a finite difference says."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from workbench import studies
from workbench.model.matrices import quantizable_matrices, read_weight
from workbench.model.path import path_points
from workbench.model.texts import make_windows, read_text
from workbench.quantizers.driving.schemes import quantize_matrix
from workbench.scheme import Scheme
from workbench.studies.sensitivity_cells import nodes_of

SIZES: dict[str, Any] = {"tokens": 192, "window": 32}


def loss_at(loaded: Any, texts: dict[str, str], bits: int, share: float) -> float:
    """Mean loss in float64 with all matrices that far on the way to their rounded values."""
    windows = make_windows(read_text(texts["calibration"]), loaded.tokenizer, context=loaded.context, **SIZES)
    values: dict[str, torch.Tensor] = {}
    for matrix in quantizable_matrices(loaded.model):
        weight = read_weight(loaded.model, matrix)
        end = quantize_matrix(weight, None, Scheme(bits=bits)).dequantize().double()
        value = weight.double() + share * (end - weight.double())
        values[matrix.name] = value.T if matrix.transposed else value
    double = {name: one.double() for name, one in loaded.model.named_parameters()} | values
    given = {"input_ids": windows.ids, "use_cache": False}
    with torch.no_grad():
        logits = torch.func.functional_call(loaded.model, double, (), given).logits.double()
    return float(-logits[:, :-1].log_softmax(-1).gather(-1, windows.ids[:, 1:, None]).mean())


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_gpt2"])
def test_the_shares_of_the_joint_path_sum_to_the_joint_change(name, texts, finish, request) -> None:
    loaded = request.getfixturevalue(name)
    asked = {"bits": [3], "by": "joint-path", "calibration": texts["calibration"], **SIZES}
    joint = loss_at(loaded, texts, 3, 1.0) - loss_at(loaded, texts, 3, 0.0)
    gaps = []
    for nodes in (2, 8):
        document = finish(studies.sensitivity(loaded, nodes=nodes, **asked)).document
        gaps.append(abs(sum(cell["value"] for cell in document["cells"]) - joint))
        assert all(cell["standard_error"] is None for cell in document["cells"])
        assert document["nodes"] == nodes
    assert gaps[1] < 0.01 * abs(joint)
    assert gaps[1] < gaps[0]


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_gpt2"])
def test_second_order_shares_sum_to_slope_and_half_the_bend(name, texts, finish, request) -> None:
    loaded = request.getfixturevalue(name)
    asked = {"bits": [4], "by": "second-order", "calibration": texts["calibration"], **SIZES}
    cells = finish(studies.sensitivity(loaded, **asked)).document["cells"]
    h = 0.02
    before, here, after = (loss_at(loaded, texts, 4, share) for share in (-h, 0.0, h))
    expected = (after - before) / (2 * h) + (after - 2 * here + before) / h**2 / 2
    assert sum(cell["value"] for cell in cells) == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("by", ["joint-path", "second-order"])
def test_a_width_that_is_there_is_not_walked_again(by, tiny_llama, texts, finish, monkeypatch) -> None:
    context, asked = studies.Context(), {"by": by, "calibration": texts["calibration"], **SIZES}
    first = finish(studies.sensitivity(tiny_llama, bits=[4], **asked, context=context)).document
    more = finish(studies.sensitivity(tiny_llama, bits=[3, 4], **asked, context=context)).document
    assert (more["computed"], more["reused"]) == (len(first["cells"]), len(first["cells"]))
    monkeypatch.setattr("workbench.studies.sensitivity_whole.gradient_sweep", None)
    again = finish(studies.sensitivity(tiny_llama, bits=[3, 4], **asked, context=context)).document
    assert again["cells"] == more["cells"]
    assert [cell for cell in again["cells"] if cell["bits"] == 4] == first["cells"]


def test_gauss_points_are_exact_where_midpoints_are_not() -> None:
    for rule, miss in (("gauss", 1e-12), ("midpoint", 0.2)):
        points = path_points(3, rule)
        found = sum(point.weight * 6 * point.place**5 for point in points)
        assert sum(point.weight for point in points) == pytest.approx(1.0)
        assert abs(found - 1.0) == pytest.approx(0.0, abs=miss)
    assert abs(sum(point.weight * 6 * point.place**5 for point in path_points(3)) - 1.0) > 0.01


@pytest.mark.parametrize(("bits", "most"), [(2, 3), (3, 3), (4, 2), (8, 1)])
def test_wide_grids_take_fewer_points_and_still_sum_to_the_joint_change(bits, most, tiny_llama, texts, finish) -> None:
    assert nodes_of(bits, 4) == most
    asked = {"bits": [bits], "by": "joint-path", "calibration": texts["calibration"], **SIZES}
    joint = loss_at(tiny_llama, texts, bits, 1.0) - loss_at(tiny_llama, texts, bits, 0.0)
    document = finish(studies.sensitivity(tiny_llama, **asked)).document
    assert sum(cell["value"] for cell in document["cells"]) == pytest.approx(
        joint, rel=0.06 if bits == 2 else 0.02, abs=2e-6
    )
