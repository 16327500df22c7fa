"""Sums and products that people can read, with names for numbers that may not be known exactly.

Spaces multiply and ^ is a power: `2 f + samples (units + 2) f`. Every number is a range, and nothing is run but the
arithmetic and the functions that stand here.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

IMPLIED = re.compile(r"(?<=[\w)]) +(?=[\w(])")
DISTINCT = 0.6
"""Of as many draws as there are things at least, so many are different, but for a chance that never matters."""
WORTH = 512
"""Tokens of repeated beginnings from which they are run once, as `attribution.prefix` has it."""


class Between(NamedTuple):
    """A number that is not known exactly before the run; the two are equal where it is."""

    low: float
    high: float


def evaluate(text: str, names: Mapping[str, Any]) -> Between:
    """The value of a formula.

    Args:
        text: the formula.
        names: numbers, ranges, or texts for functions that read one.

    Raises:
        ValueError: something in it has no meaning here.
    """
    try:
        value = _value(ast.parse(IMPLIED.sub(" * ", text.strip().replace("^", "**")), mode="eval").body, names)
    except (SyntaxError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"{text!r} has no value: {error}") from None
    if not isinstance(value, Between):
        raise ValueError(f"{text!r} is no number")
    return value


def doubling(first: Between, most: Between) -> Between:
    """Points on a path whose number is doubled while the scores do not add up: the first try, or all tries."""
    points = total = first.high
    while points < most.high:
        points = min(2 * points, most.high)
        total += points
    return Between(first.low, total)


def distinct(of: Between, budget: Between) -> Between:
    """How many different ones of `of` things are met with a budget: all, or most draws of the budget."""
    return of if of.high <= budget.low else Between(DISTINCT * min(of.low, budget.low), min(of.high, budget.high))


def suffixes(rows: Between, tokens: Between) -> Between:
    """Prompts that leave the given one at every token in turn: half of each is new, where the model is causal."""
    return rows if rows.high * tokens.high < WORTH else Between(rows.low / 2, rows.high + 2)


def sizes(shares: str, units: Between) -> Between:
    """How many different numbers of tokens a list of shares stands for."""
    found = len({max(1, round(float(share) * units.high)) for share in shares.split(",")})
    return Between(found, found)


def _elementwise(function: Callable[..., float]) -> Callable[..., Between]:
    """A function that grows with each argument, on ranges."""
    return lambda *given: Between(*(function(*ends) for ends in zip(*given, strict=True)))


FUNCTIONS: dict[str, Callable[..., Between]] = {
    "doubling": doubling,
    "distinct": distinct,
    "sizes": sizes,
    "suffixes": suffixes,
    "min": _elementwise(min),
    "max": _elementwise(max),
    "ceil": _elementwise(math.ceil),
    "log": _elementwise(lambda value: math.log(max(value, math.e))),
    "power_of_two": _elementwise(lambda count: 1 << (int(count) - 1).bit_length()),
}
OPERATORS: dict[type[ast.operator], Callable[[Between, Between], Between]] = {
    ast.Add: _elementwise(lambda a, b: a + b),
    ast.Sub: lambda a, b: Between(max(a.low - b.high, 0), max(a.high - b.low, 0)),
    ast.Mult: _elementwise(lambda a, b: a * b),
    ast.Div: lambda a, b: Between(a.low / b.high, a.high / b.low),
    ast.Pow: _elementwise(lambda a, b: a**b),
}


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """A range, or the text of an option that is one; nothing but sums, products and the functions above is read."""
    if isinstance(node, ast.BinOp):
        return OPERATORS[type(node.op)](_value(node.left, names), _value(node.right, names))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        return FUNCTIONS[node.func.id](*(_value(argument, names) for argument in node.args))
    value = names[node.id] if isinstance(node, ast.Name) else node.value if isinstance(node, ast.Constant) else None
    if value is None:
        raise TypeError(f"{ast.dump(node)} is no part of a cost")
    return Between(value, value) if isinstance(value, int | float) else value
