"""A linear layer that keeps its weight in few bits and multiplies by it as it is stored."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lowbit import ops_products
from lowbit.api_product import matmul
from lowbit.contract import LowbitError
from lowbit.layout import layout_of
from lowbit.parts import SparseWeight, Weight
from lowbit.tensors import tensors_of, with_tensors


class LowbitLinear(nn.Module):
    """y = x W^T + b with a low-bit W; for inference, without a gradient.

    The weight's tensors are buffers: they move with `.to(device)` and are saved in `state_dict`. They keep their
    dtypes whatever a model is cast to, because they are codes and the scales that codes were made with; bias follows
    the model. A state is loaded into a layer of the same layout (kind, widths, groups, shape).

    Args:
        weight: packed, binary or mixed, `[out, in]`: a GPT-2 `Conv1D` is to be transposed before it is quantized.
        outliers: entries that are added to the weight.
        bias: one number an output.
        column_scale: what the columns of the weight were multiplied by before it was quantized (AWQ); x is divided by
            it.
        backend: see `lowbit.matmul`.
        compute: see `lowbit.matmul`.

    Raises:
        LowbitError: outliers, bias or column scales of another shape than the weight asks for.
    """

    def __init__(
        self,
        weight: Weight,
        *,
        outliers: SparseWeight | None = None,
        bias: Float[Tensor, " out"] | None = None,
        column_scale: Float[Tensor, " in"] | None = None,
        backend: str | None = None,
        compute: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.backend, self.compute = backend, compute
        self._weight, self._outliers = weight, outliers
        self._check(bias, column_scale)
        for name, tensor in self._tensors().items():
            self.register_buffer(name, tensor)
        self._layout = layout_of(weight)
        names = list(self._tensors())
        self._names = tuple([n for n in names if n.startswith(kind)] for kind in ("weight_", "outlier_"))
        scale = None if column_scale is None else column_scale.detach().to(torch.float32)
        self.register_buffer("column_scale", scale)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self.register_load_state_dict_post_hook(_rebuild_after_loading)

    @property
    def weight(self) -> Weight:
        """The weight, on the tensors that are registered."""
        return self._weight

    @property
    def outliers(self) -> SparseWeight | None:
        """The entries that are added to the weight."""
        return self._outliers

    @property
    def nbytes(self) -> int:
        """Bytes of all that is stored."""
        return sum(tensor.nbytes for tensor in (*self.buffers(), *self.parameters()))

    def forward(self, x: Float[Tensor, "... in"]) -> Float[Tensor, "... out"]:
        """The layer's output, in x's dtype."""
        if isinstance(self.column_scale, Tensor):
            x = (x / self.column_scale).to(x.dtype)
        if torch.compiler.is_compiling():
            y = self._as_operator(x)
        else:  # straight to the kernel: an operator would put the weight together again at every call
            y = matmul(x, self._weight, self._outliers, backend=self.backend, compute=self.compute)
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def _as_operator(self, x: Float[Tensor, "... in"]) -> Float[Tensor, "... out"]:
        """The same product as one opaque step of a compiled graph."""
        weight, outliers = ([self._buffers[name] for name in names] for names in self._names)
        flat = x.reshape(-1, self.in_features).contiguous()
        compute, backend = self.compute or x.dtype, self.backend or ""
        y = ops_products.matmul(flat, weight, self._layout, self.out_features, outliers, compute, backend)
        return y.view(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        """Shape and bits a weight, for printing."""
        bits = 8 * self.nbytes / (self.in_features * self.out_features)
        return f"in_features={self.in_features}, out_features={self.out_features}, stored_bits={bits:.3g}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> LowbitLinear:
        """Move or cast the layer; all but the bias is moved only."""
        stored = {id(tensor) for tensor in self.buffers()}
        super()._apply(lambda tensor: _moved(tensor, fn) if id(tensor) in stored else fn(tensor), recurse)
        self._rebuild()
        return self

    def _tensors(self) -> dict[str, Tensor]:
        outliers = {} if self._outliers is None else tensors_of(self._outliers)
        return {f"weight_{name}": tensor for name, tensor in tensors_of(self._weight).items()} | {
            f"outlier_{name}": tensor for name, tensor in outliers.items()
        }

    def _rebuild(self) -> None:
        """Put the weight together again from the buffers, which may have been replaced."""
        buffers = dict(self.named_buffers())
        weight = {name.removeprefix("weight_"): tensor for name, tensor in buffers.items()}
        self._weight = with_tensors(self._weight, weight)
        if self._outliers is not None:
            outliers = {name.removeprefix("outlier_"): tensor for name, tensor in buffers.items()}
            self._outliers = with_tensors(self._outliers, outliers)

    def _check(self, bias: Tensor | None, column_scale: Tensor | None) -> None:
        if self._outliers is not None and self._outliers.shape != self._weight.shape:
            raise LowbitError(f"the outliers have shape {self._outliers.shape}, the weight {self._weight.shape}")
        for name, tensor, length in (
            ("bias", bias, self.out_features),
            ("column_scale", column_scale, self.in_features),
        ):
            if tensor is not None and tensor.shape != (length,):
                raise LowbitError(f"{name} has shape {tuple(tensor.shape)}, but the layer has {length} of them")
        if column_scale is not None and not bool((torch.isfinite(column_scale) & (column_scale > 0)).all()):
            raise LowbitError("column_scale holds a number that is not finite and positive")


def _moved(tensor: Tensor, fn: Callable[[Tensor], Tensor]) -> Tensor:
    moved = fn(tensor)
    return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)


def _rebuild_after_loading(layer: LowbitLinear, _keys: object) -> None:
    layer._rebuild()
