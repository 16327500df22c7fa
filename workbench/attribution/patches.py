"""Other derivatives for the operations of one forward pass, without touching the code of the model.

A torch function mode sees every operation of the thread that entered it; operations whose derivative is to be another
one are handed to a rule, all others keep theirs or are refused. Activation modules get, for the time being, a `forward`
of their own on the instance, so that a rule sees one function of one variable and not the products it is written with.
No class is changed, and other threads and other models see nothing. Left out: operations that torch functions cannot
see (kernels called as autograd functions), which show as a gap in the sums that methods promise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, handle_torch_function, has_torch_function
from transformers.activations import ACT2CLS

from workbench.errors import WorkbenchError

Function = Callable[..., Any]
Rule = Callable[[Function, Sequence[Any], Mapping[str, Any]], Any]
"""(operation, its arguments, its keywords) -> its result, with the derivative that the method wants."""

ADDING = frozenset({"add", "sub", "rsub", "__rsub__", "masked_fill", "where", "linear", "addmm"})
"""Operations that may add a constant to what depends on the input."""
MOVES = (
    "view view_as reshape reshape_as transpose permute contiguous expand expand_as unsqueeze squeeze flatten unflatten"
    " movedim swapaxes t cat stack split chunk unbind narrow repeat repeat_interleave index_select flip roll clone to"
    " float double half bfloat16 type type_as dropout neg sum mean cumsum __getitem__ __get__"
)
MOVING = frozenset(MOVES.split())
"""Operations that are linear in everything they are given: moves, casts, sums (dropout is off)."""
DIVIDING = frozenset({"div", "true_divide", "__truediv__"})
MULTIPLYING = frozenset({"mul", "multiply", "matmul", "__matmul__", "bmm", "mm", "einsum"})
SCALING = MULTIPLYING | DIVIDING | {"linear", "addmm"}
"""Operations that are linear as long as one argument alone depends on the input."""
CASTING = frozenset({"to", "float", "type", "type_as"})
ACTIVATIONS = tuple({entry[0] if isinstance(entry, tuple) else entry for entry in ACT2CLS.values()})


class Rules(TorchFunctionMode):
    """What happens to each operation inside a `with` block.

    Args:
        method: name for the message when an operation has no rule.
        table: name of an operation that is not linear -> its rule.
    """

    def __init__(self, method: str, table: Mapping[str, Rule]) -> None:
        super().__init__()
        self.method = method
        self.table = table
        self.path: list[tuple[str, str]] = []
        """(name, class) of the modules that are running, the innermost last."""

    def linear(self, function: Function, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """Run an operation that is affine in what depends on the input.

        A network in double precision stays there: the norms of transformers compute in single, which is meant for half.
        """
        result = function(*arguments, **keywords)
        narrowed = function.__name__ in CASTING and arguments[0].dtype == torch.float64
        return arguments[0] if narrowed and result.dtype != torch.float64 else result

    def __torch_function__(
        self, func: Function, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Torch calls this instead of the operation; operations inside it are not seen."""
        keywords = kwargs or {}
        count = sum(depends(given) for given in (*args, *keywords.values()))
        if not count:
            return func(*args, **keywords)
        name = func.__name__
        if is_linear(name, args, count):
            return self.linear(func, args, keywords)
        if name in self.table:
            return self.table[name](func, args, keywords)
        result = func(*args, **keywords)
        if depends(result):
            raise self._refusal(name)
        return result  # a size, a comparison, an index

    def _refusal(self, operation: str) -> WorkbenchError:
        name, kind = self.path[-1] if self.path else ("", "the target")
        place = f"module {name!r} ({kind})" if name else kind
        return WorkbenchError(
            f"{self.method} has no rule for the operation {operation!r} in {place}; choose integrated_gradients, which"
            " needs none"
        )


def depends(given: Any) -> bool:
    """Whether a value, or a part of it, depends on the input (weights are frozen, so gradients say so)."""
    if isinstance(given, Tensor):
        return given.requires_grad
    return isinstance(given, (tuple, list)) and any(depends(part) for part in given)


def is_linear(name: str, arguments: Sequence[Any], count: int) -> bool:
    """Whether an operation is affine in those of its arguments that depend on the input, `count` of them."""
    if name in SCALING:
        return count == 1 and (name not in DIVIDING or depends(arguments[0]))
    return name in ADDING or name in MOVING


def activation(given: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """A whole activation module as one operation, named `activation` in tables of rules."""
    if has_torch_function((given,)):
        return handle_torch_function(activation, (given,), given, function)
    return function(given)


@contextmanager
def ruled(model: nn.Module, rules: Rules) -> Iterator[None]:
    """Run the model under rules inside; hooks and activations are as they were after, also when something raises."""
    shadowed: list[tuple[nn.Module, Any]] = []
    handles = []
    try:
        for name, module in model.named_modules():
            entered = (name, type(module).__name__)
            handles.append(module.register_forward_pre_hook(partial(_enter, rules, entered)))
            handles.append(module.register_forward_hook(partial(_leave, rules)))
            if isinstance(module, ACTIVATIONS):
                shadowed.append((module, vars(module).get("forward")))
                vars(module)["forward"] = partial(activation, function=module.forward)
        with rules:
            yield
    finally:
        for handle in handles:
            handle.remove()
        for module, former in shadowed:
            del vars(module)["forward"]
            if former is not None:
                vars(module)["forward"] = former


def _enter(rules: Rules, entered: tuple[str, str], module: nn.Module, arguments: Any) -> None:
    rules.path.append(entered)


def _leave(rules: Rules, module: nn.Module, arguments: Any, output: Any) -> None:
    rules.path.pop()
