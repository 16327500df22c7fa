"""Quantized weights on disk: every kind comes back bit by bit, and what cannot be read is nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.quantizers.driving import packing
from workbench.quantizers.driving.packing import Part
from workbench.quantizers.rtn import rtn
from workbench.quantizers.weights.detached import DenseAndSparse, detach


def held(bits: int = 3) -> DenseAndSparse:
    weight = torch.randn(6, 100, generator=torch.Generator().manual_seed(0))
    weight[2, 7] = 9.0
    made = detach(rtn(weight, bits=bits, group_size=32), weight, weight.abs() > 4)
    assert isinstance(made, DenseAndSparse)
    return made


def test_a_weight_with_its_sparse_part_comes_back(tmp_path: Path) -> None:
    part = Part({"a.weight": held(), "b.weight": held(1)}, {"a.weight": "damping raised"})
    packing.save(part, tmp_path / "part.safetensors")
    found = packing.load(tmp_path / "part.safetensors")
    assert found is not None
    assert found.notes == part.notes
    for name, weight in part.weights.items():
        assert torch.equal(found.weights[name].dequantize(), weight.dequantize())
        assert found.weights[name].stored_bits == weight.stored_bits
        assert {key: tensor.dtype for key, tensor in found.weights[name].tensors().items()} == {
            key: tensor.dtype for key, tensor in weight.tensors().items()
        }


@pytest.mark.parametrize("damage", ["cut", "text", "missing"])
def test_what_cannot_be_read_is_nothing(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "part.safetensors"
    if damage != "missing":
        packing.save(Part({"a.weight": held()}, {}), path)
        path.write_bytes(path.read_bytes()[:50] if damage == "cut" else b"no weights")
    assert packing.load(path) is None


def test_a_folder_that_cannot_be_written_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WorkbenchError, match="cannot be written"):
        packing.save(Part({"a.weight": held()}, {}), tmp_path / "file" / "part.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
