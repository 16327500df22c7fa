"""A continuation of a prompt, token by token: the likeliest ones, or drawn by chance that every model shares."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from jaxtyping import Float, Int64
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel
from workbench.progress import Progress, Steps

NEW_AT_MOST = 512
TEMPERATURE_AT_MOST = 5.0


@dataclass(frozen=True)
class Wish:
    """How a continuation is written.

    Attributes:
        new_tokens: most tokens that are written.
        temperature: what logits are divided by before a token is drawn; 0 takes the likeliest.
        seed: of the draws. One number a step is drawn and looked up in the model's distribution, so that two models
            that predict alike also write alike.
        ends: tokens after which nothing is written.
    """

    new_tokens: int
    temperature: float = 0.0
    seed: int = 0
    ends: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        """Refuse lengths and temperatures that cannot be."""
        if not 1 <= self.new_tokens <= NEW_AT_MOST:
            raise WorkbenchError(f"new tokens has value {self.new_tokens}; choose 1 to {NEW_AT_MOST}")
        if not 0 <= self.temperature <= TEMPERATURE_AT_MOST:
            raise WorkbenchError(
                f"temperature has value {self.temperature:g}; choose 0 (the likeliest token) to {TEMPERATURE_AT_MOST:g}"
            )


@dataclass(frozen=True)
class Written:
    """A continuation.

    Attributes:
        ids: its tokens, the one that ended it included.
        seconds: time spent in the model, without what stood between two steps.
    """

    ids: list[int]
    seconds: float

    @property
    def speed(self) -> float:
        """Tokens a second, the reading of the prompt included."""
        return len(self.ids) / self.seconds


def end_tokens(loaded: LoadedModel) -> frozenset[int]:
    """Tokens that end a text, as the model's generation settings name them, or else its tokenizer."""
    settings = getattr(loaded.model, "generation_config", None)
    named: Any = getattr(settings, "eos_token_id", None)
    named = loaded.tokenizer.eos_token_id if named is None else named
    return frozenset(named if isinstance(named, Iterable) else () if named is None else (named,))


def write(
    model: transformers.PreTrainedModel, prompt: Int64[Tensor, "1 tok"], wish: Wish, note: str = "writing"
) -> Steps[Written]:
    """Continue a prompt with the model as it is now, keys and values of earlier tokens kept."""
    draws = torch.Generator().manual_seed(wish.seed)
    ids, spent, cache = [], 0.0, None
    given = prompt
    while len(ids) < wish.new_tokens and not (ids and ids[-1] in wish.ends):
        yield Progress(len(ids), wish.new_tokens, note)
        begun = time.perf_counter()
        logits, cache = _next(model, given, cache)
        ids.append(_pick(logits, wish.temperature, draws))
        spent += time.perf_counter() - begun
        given = torch.tensor([ids[-1:]])
    return Written(ids, spent)


@torch.no_grad()
def _next(model: Any, ids: Int64[Tensor, "1 tok"], cache: Any) -> tuple[Float[Tensor, " vocab"], Any]:
    """Logits of the token that comes next, float32 on the CPU, and the keys and values so far."""
    device = next(model.parameters()).device
    found = model(input_ids=ids.to(device), past_key_values=cache, use_cache=True)
    return found.logits[0, -1].float().cpu(), found.past_key_values


def _pick(logits: Float[Tensor, " vocab"], temperature: float, draws: torch.Generator) -> int:
    if not temperature:
        return int(logits.argmax())
    below = (logits.double() / temperature).softmax(-1).cumsum(-1)
    point = torch.rand((1,), generator=draws, dtype=torch.float64) * below[-1]
    return min(int(torch.searchsorted(below, point)), len(logits) - 1)
