"""Where a model looks: every head's attention at the last position, one whole map, rollout and sinks."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import pandas as pd
import torch

from workbench.attribution.adapter import Adapter
from workbench.attribution.heads import watch_attention
from workbench.attribution.held_states import States, block_states, logits_with_held
from workbench.attribution.sinks import Sinks, find_sinks
from workbench.attribution.targets import top_tokens
from workbench.attribution.tokens import Prompt
from workbench.errors import WorkbenchError
from workbench.measures.divergence import kl
from workbench.model.load import LoadedModel
from workbench.model.overlay import overlay
from workbench.progress import Progress, Steps, within
from workbench.results import Result
from workbench.studies.attention_reading import AttentionReading
from workbench.studies.attribute import quantized_weights
from workbench.studies.context import Context
from workbench.studies.prompt_document import of_prompt
from workbench.studies.sink_damage import answer, layer_table, look, marks, panel, watched

LIKELIEST = 10


def attention_maps(
    loaded: LoadedModel,
    *,
    prompt: str,
    layer: int | None = None,
    head: int | None = None,
    limit: float | None = None,
    scheme: Mapping[str, Any] | None = None,
    plan: Mapping[str, Any] | None = None,
    calibration: str | None = None,
    context: Context | None = None,
) -> Steps[Result]:
    """Read the attention of a prompt, and the sinks in it.

    Sinks are those of the full model, also for a quantized one, so that the two are asked about the same tokens. For a
    quantized model it is measured, too, how much of the damage goes when the hidden states of a token are kept as the
    full model has them; of the sinks together also for the loss of the prompt's own tokens.

    Args:
        loaded: the model.
        prompt: the text.
        layer: layer whose map is wanted as well, counted from 0; no map when not given.
        head: head of that map; the mean over heads when not given.
        limit: phi above which a token is a sink; five times each layer's median, at least 5, when not given.
        scheme: quantizer and width for all matrices.
        plan: a plan, in place of the scheme.
        calibration: text for quantizers that read one.
        context: shared with other studies.
    """
    context = context or Context()
    adapter = Adapter(loaded.model, loaded.tokenizer, loaded.context)
    read = adapter.encode(prompt, cut=True)
    _check_place(adapter, layer, head)
    weights = yield from within(quantized_weights(loaded, scheme, plan, calibration, context), 0.0, 0.4)
    yield Progress(0.4, 1.0, "looking for sinks")
    sinks = find_sinks(adapter, read.ids, limit=limit)
    truth = adapter.predict(read.ids)
    states = block_states(adapter, read.ids) if weights is not None else []
    full = look(adapter, read.ids, sinks) if states else None
    yield Progress(0.7, 1.0, f"attention of {len(read.tokens)} tokens")
    reading = AttentionReading(sinks, layer, head)
    with overlay(loaded.model, weights) if weights is not None else nullcontext():
        _, logits = watch_attention(adapter, read.ids, reading.visit)
        repaired = _repair(adapter, read, states, truth, sinks) if states else None
        other = look(adapter, read.ids, sinks) if states else None
        kept = answer(adapter, read.ids, states, marks(sinks)) if states else None
    likeliest = top_tokens(adapter, truth, 1)[0]["token"]
    document = {
        **of_prompt(loaded, prompt, read),
        "notes": list(read.notes),
        "layers": len(sinks.phi),
        "heads": len(reading.heads) // len(sinks.phi),
        "layer": layer,
        "head": head,
        "sinks": {"positions": sinks.positions, "dimensions": list(sinks.dimensions), "limit": limit},
        "rollout": reading.rollout(without_sinks=False),
        "rollout_without_sinks": reading.rollout(without_sinks=True),
        "kl": float(kl(truth[None].cpu(), logits.cpu())),
        "repair": None if repaired is None else {"watched": watched(sinks), "kl": repaired["kl_kept"][-1]},
        "sink_damage": panel(full, other, kept, sinks, likeliest) if full and other and kept else None,
        "top": top_tokens(adapter, logits[0], LIKELIEST),
    }
    layers = {"sink_layers": layer_table(full, other)} if full and other else {}
    return Result(document, _tables(reading, read, repaired) | layers)


def _check_place(adapter: Adapter, layer: int | None, head: int | None) -> None:
    config = adapter.model.config.get_text_config()
    for name, value, count in (
        ("layer", layer, config.num_hidden_layers),
        ("head", head, config.num_attention_heads),
    ):
        if value is not None and not 0 <= value < count:
            raise WorkbenchError(f"{name} has value {value}; this model has the {name}s 0 to {count - 1}")
    if layer is None and head is not None:
        raise WorkbenchError(f"head {head} was given without its layer; give both, or neither")


def _repair(
    adapter: Adapter, read: Prompt, states: States, truth: torch.Tensor, sinks: Sinks
) -> dict[str, list[float]]:
    """KL that is left with each token's states kept exact, one at a time, and with the watched ones together (last)."""
    together = torch.zeros(1, len(read.tokens), dtype=torch.bool)
    together[0, watched(sinks)] = True
    rows = torch.cat([torch.eye(len(read.tokens), dtype=torch.bool), together])
    logits = logits_with_held(adapter, read.ids, states, rows)
    return {"kl_kept": kl(truth[None].cpu().expand_as(logits), logits).tolist()}


def _tables(
    reading: AttentionReading, read: Prompt, repaired: dict[str, list[float]] | None
) -> dict[str, pd.DataFrame]:
    lists = {"heads": reading.heads, "last": reading.looks, "tokens": reading.tokens, "layers": reading.layers}
    tables = {f"attention_{name}": pd.DataFrame(rows) for name, rows in lists.items()}
    for name in ("attention_last", "attention_tokens"):
        tables[name]["token"] = [read.tokens[position] for position in tables[name]["position"]]
    if reading.map is not None:
        tables["attention_map"] = _map_table(reading.map, read)
    if repaired is not None:
        kept = repaired["kl_kept"][:-1]
        tables["repair"] = pd.DataFrame({"position": range(len(kept)), "token": list(read.tokens), "kl_kept": kept})
    return tables


def _map_table(shares: torch.Tensor, read: Prompt) -> pd.DataFrame:
    """A row for every pair of a position and a token that it can see."""
    rows, columns = torch.tril_indices(*shares.shape).tolist()
    return pd.DataFrame(
        {
            "position": rows,
            "token": [read.tokens[position] for position in rows],
            "key": columns,
            "key_token": [read.tokens[position] for position in columns],
            "attention": shares[rows, columns].double().tolist(),
        }
    )
