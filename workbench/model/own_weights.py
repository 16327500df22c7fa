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

    They stay what they are, also while other weights lie over the model. Those of a model that is read block by block
    are read when they are asked for.
    """
    stream = stream_of(model)
    read = [] if stream is None else [one for one in matrices if one.name in stream]
    if stream is None or len(read) < len(matrices):
        return {one.name: read_weight(model, one) for one in matrices}
    known, values = {one.name: one for one in read}, stream.reader()
    return LazyWeights(
        {one.name: one.shape for one in read}, lambda name: oriented(values(name), known[name]).float().contiguous()
    )
