"""What every target is told: the plan by module, and which names and classes its model has."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from workbench.allocation.schema import Plan, TensorPlan
from workbench.errors import WorkbenchError, shown
from workbench.scheme import UNTOUCHED

Scheme = tuple[int, int, bool]
"""Bits, group size (-1 a row) and whether symmetric: what is the same in two matrices of one config group."""

Losses = list[str]
"""What a target cannot carry, a sentence each."""

CONV1D = ("GPT2LMHeadModel", "OpenAIGPTLMHeadModel")
"""Architectures whose matrices are held by transformers' Conv1D, transposed, and not by nn.Linear."""

SUFFIX = ".weight"


@dataclass(frozen=True)
class Subject:
    """A plan as targets see it.

    Attributes:
        plan: the plan.
        modules: path of the module, without `.weight` -> how its matrix is treated, in the plan's order.
        heads: modules of the output head, which no plan touches.
    """

    plan: Plan
    modules: dict[str, TensorPlan]
    heads: tuple[str, ...]

    @property
    def quantized(self) -> dict[str, TensorPlan]:
        """The modules that lose bits."""
        return {name: one for name, one in self.modules.items() if one.bits != UNTOUCHED}

    @property
    def untouched(self) -> list[str]:
        """The modules that are left at 16 bits."""
        return [name for name, one in self.modules.items() if one.bits == UNTOUCHED]

    @property
    def conv1d(self) -> bool:
        """Whether the matrices belong to Conv1D modules."""
        return self.plan.model.architecture in CONV1D


def subject_of(plan: Plan) -> Subject:
    """The plan by module.

    Raises:
        WorkbenchError: weights are kept apart from the grid, or nothing is quantized.
    """
    apart = next((name for name, one in plan.tensors.items() if one.salient is not None), None)
    if apart is not None:
        raise WorkbenchError(
            f"the plan keeps salient weights of {shown(apart)} apart, which no other tool's plan can say; "
            "`workbench quantize MODEL --plan PLAN --out DIR --format dense` carries them"
        )
    modules = {name.removesuffix(SUFFIX): one for name, one in plan.tensors.items()}
    subject = Subject(plan, modules, _heads(plan))
    if not subject.quantized:
        raise WorkbenchError("the plan leaves every matrix at 16 bits: there is nothing to export")
    return subject


def _heads(plan: Plan) -> tuple[str, ...]:
    """Modules of the output head by what the plan says of the parameters that it leaves out."""
    named = (name for name, why in plan.excluded.items() if why.startswith(("output head", "shares its values")))
    return tuple(name.removesuffix(SUFFIX) for name in named) or ("lm_head",)


def scheme_of(tensor: TensorPlan) -> Scheme:
    """Bits, group size and symmetry; a group that holds the whole row is a row."""
    whole = tensor.group_size >= tensor.shape[1]
    return tensor.bits, -1 if whole else tensor.group_size, tensor.symmetric


def by_scheme(modules: Mapping[str, TensorPlan]) -> dict[Scheme, list[str]]:
    """The modules of each scheme, both in order of appearance."""
    found: dict[Scheme, list[str]] = {}
    for name, tensor in modules.items():
        found.setdefault(scheme_of(tensor), []).append(name)
    return found


def label(scheme: Scheme) -> str:
    """A name for a scheme that Python, YAML and JSON take as it is: `w4_g64_sym`."""
    bits, group_size, symmetric = scheme
    group = "row" if group_size == -1 else f"g{group_size}"
    return f"w{bits}_{group}_{'sym' if symmetric else 'asym'}"


def anchored(name: str) -> str:
    """A regular expression that matches this name and no other: `layers.1` is not found in `layers.10`."""
    return f"^{re.escape(name)}$"


def counted(names: Sequence[str]) -> str:
    """`3 matrices (first x)`, for a sentence."""
    return f"1 matrix ({names[0]})" if len(names) == 1 else f"{len(names)} matrices (first {names[0]})"


def most_common(values: Iterable[object]) -> object:
    """The value that occurs most often, the first of several."""
    return Counter(values).most_common(1)[0][0]
