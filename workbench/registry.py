"""Methods describe themselves: one function with a decorator is a method, its keyword-only parameters are its controls.

A registry imports every module of its package and then the entry points of its group, so that adding a method is adding
a file (here) or a package (elsewhere). Importing this module imports no method and no torch.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from workbench.errors import WorkbenchError, unknown

OptionType = Literal["int", "float", "bool", "str", "choice"]


@dataclass(frozen=True, slots=True)
class Range:
    """Bounds of a numeric option, written `Annotated[int, Range(1, 64)]`."""

    minimum: float
    maximum: float


@dataclass(frozen=True, slots=True)
class Option:
    """One control of a method: a page draws a widget from it, the command line takes it as `--option NAME=VALUE`."""

    name: str
    type: OptionType
    default: Any
    choices: tuple[str, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None

    def parse(self, value: Any, method: str) -> Any:
        """The value as the option's type; text is read as a person would write it.

        Raises:
            WorkbenchError: the value is not of the type, not among the choices or out of bounds.
        """
        where = f"option {self.name!r} of {method!r}"
        text = str(value).strip()
        if self.type == "choice":
            if text not in (self.choices or ()):
                raise unknown(where, value, self.choices or ())
            return text
        if self.type == "bool":
            spoken = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
            if text.lower() not in spoken:
                raise unknown(where, value, ("true", "false"))
            return spoken[text.lower()]
        if self.type == "str":
            return str(value)
        try:
            number = int(text) if self.type == "int" else float(text)
        except ValueError:
            raise WorkbenchError(
                f"{where} has value {text[:80]!r}, which is not a number of type {self.type}"
            ) from None
        low = -float("inf") if self.minimum is None else self.minimum
        high = float("inf") if self.maximum is None else self.maximum
        if not low <= number <= high:
            raise WorkbenchError(f"{where} has value {number}; it must lie between {low:g} and {high:g}")
        return number


@dataclass(frozen=True, slots=True)
class Method:
    """A registered function and what it says of itself.

    Attributes:
        needs: names of the statistics that the method reads (`model.statistics`), or other needs of its kind.
        signed: whether the sign of a score means something.
        cost: its cost as a formula in the kind's usual symbols.
        note: where it differs from its paper, in words for its user; empty when it does not.
        traits: further facts that a kind of method declares (for example `fixed_width=True` of a quantizer).
    """

    kind: str
    name: str
    summary: str
    reference: str
    function: Callable[..., Any] = field(repr=False)
    needs: tuple[str, ...] = ()
    signed: bool = False
    cost: str = ""
    note: str = ""
    traits: Mapping[str, Any] = field(default_factory=dict)
    options: tuple[Option, ...] = ()

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        """Call the method's function."""
        return self.function(*args, **keywords)

    def parse_options(self, values: Mapping[str, Any] | None) -> dict[str, Any]:
        """All options with their values, defaults filled in.

        Raises:
            WorkbenchError: an option that the method does not have, or a bad value.
        """
        known = {option.name: option for option in self.options}
        for name in values or {}:
            if name not in known:
                raise unknown(f"option of {self.name!r}", name, tuple(known) or ("(it has none)",))
        given = {name: known[name].parse(value, self.name) for name, value in (values or {}).items()}
        return {option.name: given.get(option.name, option.default) for option in self.options}

    def describe(self) -> dict[str, Any]:
        """The method as JSON: what `workbench methods` prints and pages draw their controls from."""
        return {
            "name": self.name,
            "summary": self.summary,
            "reference": self.reference,
            "needs": list(self.needs),
            "signed": self.signed,
            "cost": self.cost,
            "note": self.note,
            "traits": dict(self.traits),
            "options": [
                {
                    "name": option.name,
                    "type": option.type,
                    "default": option.default,
                    "choices": list(option.choices) if option.choices else None,
                    "minimum": option.minimum,
                    "maximum": option.maximum,
                }
                for option in self.options
            ],
        }


def read_option(parameter: inspect.Parameter, hint: Any) -> Option:
    """A keyword-only parameter as an option."""
    bounds = Range(-float("inf"), float("inf"))
    if get_origin(hint) is Annotated:
        hint, *marks = get_args(hint)
        bounds = next((mark for mark in marks if isinstance(mark, Range)), bounds)
    if get_origin(hint) is Literal:
        return Option(parameter.name, "choice", parameter.default, choices=tuple(str(c) for c in get_args(hint)))
    kinds: dict[Any, OptionType] = {int: "int", float: "float", bool: "bool", str: "str"}
    if hint not in kinds:
        raise TypeError(f"option {parameter.name!r} has type {hint!r}; options are int, float, bool, str or Literal")
    finite = [None if abs(bound) == float("inf") else bound for bound in (bounds.minimum, bounds.maximum)]
    return Option(parameter.name, kinds[hint], parameter.default, minimum=finite[0], maximum=finite[1])


class Registry:
    """The methods of one kind, found by scanning the kind's package and its entry-point group.

    Args:
        kind: singular word for messages, such as `salience metric`.
        package: dotted name of the package to scan, also the name of the entry-point group.
        reserved: keyword-only parameters that are part of the kind's contract and therefore no options.
    """

    def __init__(self, kind: str, package: str, reserved: tuple[str, ...] = ()) -> None:
        self.kind = kind
        self.package = package
        self.reserved = reserved
        self._methods: dict[str, Method] = {}
        self._loaded = False

    def register(
        self,
        name: str,
        *,
        summary: str,
        reference: str,
        needs: tuple[str, ...] = (),
        signed: bool = False,
        cost: str = "",
        note: str = "",
        **traits: Any,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Decorator that makes a function a method; the function itself is returned unchanged."""

        def enrol(function: Callable[..., Any]) -> Callable[..., Any]:
            hints = get_type_hints(function, include_extras=True)
            options = tuple(
                read_option(parameter, hints[parameter.name])
                for parameter in inspect.signature(function).parameters.values()
                if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in self.reserved
            )
            method = Method(self.kind, name, summary, reference, function, needs, signed, cost, note, traits, options)
            former = self._methods.get(name)
            if former is not None and former.function.__module__ != function.__module__:
                raise ValueError(
                    f"{self.kind} {name!r} is defined twice, in {former.function.__module__} and {function.__module__}"
                )
            self._methods[name] = method
            return function

        return enrol

    def load(self) -> None:
        """Import every module of the package and every entry point of its group, once."""
        if self._loaded:
            return
        self._loaded = True
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        for point in entry_points(group=self.package):
            point.load()

    def names(self) -> list[str]:
        """All names, sorted."""
        self.load()
        return sorted(self._methods)

    def methods(self) -> list[Method]:
        """All methods, by name."""
        return [self._methods[name] for name in self.names()]

    def get(self, name: str) -> Method:
        """The method of that name.

        Raises:
            WorkbenchError: there is none; the message names the choices.
        """
        self.load()
        if name not in self._methods:
            raise unknown(self.kind, name, self.names())
        return self._methods[name]


salience = Registry("salience metric", "workbench.salience")
quantizers = Registry("quantizer", "workbench.quantizers", reserved=("bits", "group_size", "symmetric"))
attribution = Registry("attribution method", "workbench.attribution")

KINDS = {"salience": salience, "quantizers": quantizers, "attribution": attribution}


def describe_all() -> dict[str, list[dict[str, Any]]]:
    """Every method of every kind as JSON."""
    return {kind: [method.describe() for method in registry.methods()] for kind, registry in KINDS.items()}
