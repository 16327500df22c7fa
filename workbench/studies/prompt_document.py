"""What the document of a study of one prompt begins with."""

from __future__ import annotations

from typing import Any

from workbench.attribution.tokens import Prompt
from workbench.model.load import LoadedModel


def of_prompt(loaded: LoadedModel, prompt: str, read: Prompt) -> dict[str, Any]:
    """The model, the text as it was given, and the tokens that were read of it."""
    return {
        "model": {"id": loaded.identity.id, "digest": loaded.identity.digest},
        "prompt": prompt,
        "tokens": list(read.tokens),
        "ids": read.ids[0].tolist(),
        "special": list(read.special),
    }
