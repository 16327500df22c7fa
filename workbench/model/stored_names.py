"""The names that stored tensors have in a model: transformers renames some when it loads, and makes some of several.

Its own list of conversions is asked (`transformers.conversion_mapping`): GPT-NeoX stores its head as `embed_out`, old
checkpoints call norms gamma and beta. What is only renamed can be read on its own; what is put together, split or
turned (fused experts) needs all its parts in memory, and is told apart here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import transformers
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from workbench.model.tensor_files import StoredTensor


@dataclass(frozen=True)
class StoredNames:
    """Where parameters and buffers of a model are stored.

    Attributes:
        plain: name in the model -> the tensor that holds its values as they are.
        converted: names in the model whose values are made of stored ones by an operation.
    """

    plain: Mapping[str, StoredTensor]
    converted: frozenset[str]


def names_in(model: transformers.PreTrainedModel, tensors: Mapping[str, StoredTensor]) -> StoredNames:
    """Bring stored tensors under the names of a model, as `from_pretrained` would.

    Args:
        model: the model; its parameters may lie on the meta device.
        tensors: stored name -> tensor.
    """
    changes = get_model_conversion_mapping(model)
    renamings = [one for one in changes if isinstance(one, WeightRenaming)]
    converters = [one for one in changes if isinstance(one, WeightConverter)]
    known, prefix = model.state_dict(), model.base_model_prefix
    plain: dict[str, StoredTensor] = {}
    converted: set[str] = set()
    for name, stored in sorted(tensors.items()):
        own, converter = rename_source_key(name, renamings, converters, prefix, known)
        if own not in known and name in known:
            own, converter = name, None
        if converter is None:
            plain[own] = stored
        else:
            converted.add(own)
    return StoredNames(plain, frozenset(converted))
