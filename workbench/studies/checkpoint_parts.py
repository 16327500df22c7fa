"""One choice of quantization on its way into a folder: its tensors, its plan, and what it cannot say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from workbench.allocation.export.compressed_tensors import quantization_config
from workbench.allocation.export.subject import Scheme as Grid
from workbench.allocation.items import Choice
from workbench.allocation.plan import Plan, read_plan
from workbench.allocation.written import plan_of_choice
from workbench.errors import WorkbenchError, shown
from workbench.model.checkpoint.packed import format_group, packed_tensors
from workbench.model.checkpoint.write import dense_tensors
from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix, skipped_parameters
from workbench.quantizers.driver import Quantized
from workbench.quantizers.weight import AffineWeight
from workbench.scheme import UNTOUCHED
from workbench.studies.choice import Assignment

DENSE, PACKED = "dense", "compressed-tensors"
FORMATS = (DENSE, PACKED)


class Parts:
    """One choice of quantization on its way into a folder."""

    def __init__(
        self, loaded: LoadedModel, matrices: list[Matrix], assignment: Assignment, quantized: Quantized
    ) -> None:
        self.loaded, self.matrices, self.assignment, self.quantized = loaded, matrices, assignment, quantized
        self.groups: dict[Grid, list[str]] = {}

    def dense(self) -> dict[str, Tensor]:
        """The matrices' values."""
        return dense_tensors(self.loaded, self.quantized.dense())

    def packed(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The matrices' codes and steps, and the configuration that says how to read them."""
        tensors: dict[str, Tensor] = {}
        for matrix in self.matrices:
            weight = self.quantized.weights.get(matrix.name)
            if weight is None:
                continue
            if not isinstance(weight, AffineWeight):
                raise WorkbenchError(
                    f"{shown(matrix.name)} is held as {type(weight).__name__}, and compressed-tensors carries plain "
                    f"groups of neighbouring columns only; write --format {DENSE}, or quantize with rtn, or with gptq "
                    "without act_order or with static_groups"
                )
            held = weight.packed
            grid = held.bits, format_group(held.group_size, matrix.columns), held.symmetric
            self.groups.setdefault(grid, []).append(matrix.module)
            tensors |= packed_tensors(matrix, held)
        untouched = [m.module for m in self.matrices if m.name not in self.quantized.weights]
        return tensors, quantization_config(self.groups, [*untouched, *self._heads()])

    def _heads(self) -> list[str]:
        head = self.loaded.model.get_output_embeddings()
        return [name for name, module in self.loaded.model.named_modules() if module is head and head is not None]

    def plan(self, plan: Mapping[str, Any] | None, inspected: Mapping[str, Any]) -> Plan | None:
        """The plan that was carried out: the given one, or one made from the one scheme; None without widths."""
        if plan is not None:
            return read_plan(dict(plan))
        first = next(iter(self.assignment.values()))
        if first.bits is None:
            return None
        choices = {
            name: Choice(s.quantizer, s.bits or UNTOUCHED, s.group_size, s.symmetric, self._bits_of(name), 0.0)
            for name, s in self.assignment.items()
        }
        return plan_of_choice(choices, json.loads(json.dumps(dict(first.options))), inspected)

    def _bits_of(self, name: str) -> int:
        weight = self.quantized.weights.get(name)
        numel = next(matrix.parameters for matrix in self.matrices if matrix.name == name)
        return UNTOUCHED * numel if weight is None else 8 * weight.nbytes

    def losses(self, format: str, others: Mapping[str, Tensor]) -> list[str]:
        """What the folder does not hold as it was planned, or what a reader has to mind."""
        said: list[str] = []
        left = [m.name for m in self.matrices if m.name not in self.quantized.weights]
        if left:
            kinds = ", ".join(sorted({str(others[name].dtype).removeprefix("torch.") for name in left}))
            said.append(f"{len(left)} matrices are left as they are, in {kinds} (first {left[0]})")
        if format == DENSE:
            said.append("the values are quantized, the file is not smaller: float32 holds them exactly")
        if len(self.groups) > 1:
            said.append(
                "load it in the default mode: CompressedTensorsConfig(dequantize=True) of transformers 5.23 reads all "
                "widths as the first"
            )
        apart = [one.name for one in skipped_parameters(self.loaded.model) if one.parameters]
        if apart:
            said.append(f"embeddings, head and norms are not quantized ({len(apart)} kinds of parameter)")
        return said
