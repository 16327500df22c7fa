"""The full weights of a model, for work that needs them while other weights lie over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import transformers
from jaxtyping import Float
from torch import Tensor

from workbench.model.backward import oriented
from workbench.model.lazy_weights import LazyWeights
from workbench.model.matrices import Matrix, read_weight
from workbench.model.streaming import stream_of


def own_weights(
    model: transformers.PreTrainedModel, matrices: Sequence[Matrix]
) -> Mapping[str, Float[Tensor, "out in"]]:
    """The weights of matrices as they are now, float32 on the CPU; not to be written to.

    They stay what they are, also while other weights lie over the model. Those that a model reads block by block are
    read when they are asked for.
    """
    stream = stream_of(model)
    if stream is None:
        return {one.name: read_weight(model, one) for one in matrices}
    known, values = {one.name: one for one in matrices}, stream.reader()
    resting = {one.name: read_weight(model, one) for one in matrices if one.name not in stream}

    def make(name: str) -> Tensor:
        return resting[name] if name in resting else oriented(values(name), known[name]).float().contiguous()

    return LazyWeights({one.name: one.shape for one in matrices}, make)
