"""What targets refuse or lose, said in one way for all of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from workbench.allocation.export.subject import Losses, Subject, counted, scheme_of
from workbench.errors import WorkbenchError, shown
from workbench.scheme import GROUP_SIZES


def require_widths(subject: Subject, target: str, widths: Collection[int]) -> None:
    """Refuse a plan with a width that the target does not have.

    Raises:
        WorkbenchError: as said, with the widths that it has.
    """
    strange = [name for name, one in subject.quantized.items() if one.bits not in widths]
    if strange:
        listed = ",".join(map(str, sorted(widths)))
        raise WorkbenchError(
            f"{target} has no {subject.modules[strange[0]].bits} bit weights, which the plan gives "
            f"{counted(strange)}; its widths are {listed}: solve again with `workbench allocate --bits {listed}`"
        )


def require_linear(subject: Subject, target: str) -> None:
    """Refuse a model whose matrices are Conv1D, for a target that looks for nn.Linear.

    Raises:
        WorkbenchError: as said.
    """
    if subject.conv1d:
        raise WorkbenchError(
            f"{target} quantizes nn.Linear alone, and {subject.plan.model.architecture} holds its matrices in Conv1D "
            f"modules ({shown(next(iter(subject.modules)))}); gptqmodel, auto-round, modelopt and llama.cpp can be "
            "told this plan, and `workbench quantize --format dense` carries the weights"
        )


def short_groups(subject: Subject) -> list[str]:
    """Modules whose last group would be shorter than the others."""
    sizes = {name: (scheme_of(one)[1], one.shape[1]) for name, one in subject.quantized.items()}
    return [name for name, (group, columns) in sizes.items() if group > 0 and columns % group]


def require_whole_groups(subject: Subject, target: str) -> None:
    """Refuse short last groups, for a target that takes whole ones only.

    Raises:
        WorkbenchError: as said, with the group sizes that would do.
    """
    short = short_groups(subject)
    if short:
        one = subject.modules[short[0]]
        whole = [size for size in GROUP_SIZES if size > 0 and one.shape[1] % size == 0]
        raise WorkbenchError(
            f"{target} takes whole groups only; {one.shape[1]} columns are no multiple of {one.group_size} in "
            f"{counted(short)}: solve again with --group-size {', '.join(map(str, [*whole, -1]))}"
        )


def lost_methods(subject: Subject, carried: Collection[str], instead: str) -> Losses:
    """A sentence for every method that the target does not have."""
    held: dict[str, list[str]] = {}
    for name, one in subject.quantized.items():
        held.setdefault(one.method, []).append(name)
    return [
        f"the method {method!r} of {counted(names)} is not carried: {instead}"
        for method, names in held.items()
        if method not in carried
    ]


def lost_zero_points(subject: Subject, why: str) -> Losses:
    """A sentence on the asymmetric grids, where there are any."""
    names = [name for name, one in subject.quantized.items() if not one.symmetric]
    return [f"the zero points of {counted(names)} are not carried: {why}"] if names else []


def lost_options(subject: Subject, method: str, told: Mapping[str, object], each: Collection[str] = ()) -> Losses:
    """A sentence on a method's options that become others.

    Args:
        subject: the plan.
        method: whose options.
        told: option -> the value that the target uses for all matrices of the method.
        each: options that it is told matrix by matrix.
    """
    planned = (one.method_options for one in subject.quantized.values() if one.method == method)
    pairs = ((option, value) for options in planned for option, value in options.items())
    other = sorted({option for option, value in pairs if option not in each and value != told.get(option, _NOTHING)})
    return [f"options of {method!r} that are not carried as planned: {', '.join(other)}"] if other else []


_NOTHING = object()
