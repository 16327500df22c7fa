"""What a quantizer that works on top of another one is given: the matrices, the text, and the other quantizers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.model.gradients import gradient_sweep
from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix, read_weight
from workbench.model.texts import Windows
from workbench.model.weightstats import WeightStatistics
from workbench.progress import Steps
from workbench.quantizers.weight import QuantizedWeight
from workbench.scheme import Scheme

Weights = Mapping[str, Float[Tensor, "out in"]]
Quantize = Callable[[Scheme, Weights | None], Steps[dict[str, QuantizedWeight]]]


@dataclass(frozen=True, eq=False)
class ModelTask:
    """Matrices of a model that are to be quantized together.

    Attributes:
        loaded: the model.
        matrices: those to be quantized, in the model's order.
        windows: the calibration text; None where the quantizer below reads none.
        quantize: quantizes these matrices under another scheme, with other full weights where some are given.
    """

    loaded: LoadedModel
    matrices: tuple[Matrix, ...]
    windows: Windows | None
    quantize: Quantize

    def weights(self) -> dict[str, Float[Tensor, "out in"]]:
        """The full weights, float32; not to be written to."""
        return {matrix.name: read_weight(self.loaded.model, matrix) for matrix in self.matrices}

    def path_salience(self, quantized: Weights, nodes: int) -> Steps[dict[str, Float[Tensor, "out in"]]]:
        """PQI of every weight on the way to the dense quantized weights: (1/N) sum_k |g(t_k) (q - w)|.

        Raises:
            WorkbenchError: there is no calibration text.
        """
        if self.windows is None:
            raise WorkbenchError("the salience along a path is of the loss on a text, and no text was given")
        held = {matrix.name for matrix in self.matrices}
        scores: dict[str, Tensor] = {}

        def take(matrix: Matrix, known: WeightStatistics) -> None:
            if matrix.name in held:
                scores[matrix.name] = known.get("path_abs")

        yield from gradient_sweep(
            self.loaded, self.windows, needs={"path"}, weights=quantized, nodes=nodes, consume=take
        )
        return scores
