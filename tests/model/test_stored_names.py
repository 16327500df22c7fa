"""Models whose files have other names than their parameters: read block by block where names are all that differs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from workbench.errors import WorkbenchError
from workbench.model.fit import fit_of
from workbench.model.gradients import gradient_sweep
from workbench.model.load import LoadedModel, load
from workbench.model.streamed_build import layout_of
from workbench.model.texts import Text, make_windows
from workbench.progress import run

NEOX: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
MIXTRAL = NEOX | {"num_key_value_heads": 2, "num_local_experts": 2, "num_experts_per_tok": 1}
IDS = torch.tensor([[0, 5, 9, 200, 31, 7, 7, 80], [4, 99, 250, 3, 17, 8, 1, 60]])


def both(folder: Path) -> tuple[LoadedModel, LoadedModel]:
    whole = load(str(folder))
    return whole, load(str(folder), memory_limit=fit_of(layout_of(whole.model), whole.model.config).smallest)


def logits(loaded: LoadedModel) -> torch.Tensor:
    with torch.no_grad():
        return loaded.model(input_ids=IDS, use_cache=False).logits


def gradients(loaded: LoadedModel) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    text = Text("test", ("One day a small bird found a red button. " * 4,))
    windows = make_windows(text, loaded.tokenizer, window=24, tokens=48, context=loaded.context)
    steps = gradient_sweep(
        loaded, windows, needs={"grad"}, consume=lambda matrix, known: found.update({matrix.name: known.get("grad")})
    )
    run(steps)
    return found


def test_a_neox_model_is_read_block_by_block(tmp_path: Path, make_model_folder: Callable[..., Path]) -> None:
    """Its head is stored as `embed_out`, and is `lm_head` in the model."""
    folder = make_model_folder(tmp_path / "neox", "gpt_neox", **NEOX)
    assert "embed_out.weight" in load_file(folder / "model.safetensors")
    whole, parts = both(folder)
    assert parts.streamed
    assert parts.identity == whole.identity
    assert torch.equal(logits(parts), logits(whole))
    there, here = gradients(whole), gradients(parts)
    assert list(here) == list(there)
    for name, gradient in there.items():
        torch.testing.assert_close(here[name], gradient, rtol=0, atol=1e-6 * float(gradient.abs().max()))


def test_a_renamed_tensor_of_another_shape_is_refused(tmp_path: Path, make_model_folder: Callable[..., Path]) -> None:
    folder = make_model_folder(tmp_path / "bad", "gpt_neox", **NEOX)
    whole = load(str(folder))
    limit = fit_of(layout_of(whole.model), whole.model.config).smallest
    tensors = load_file(folder / "model.safetensors")
    tensors["embed_out.weight"] = torch.zeros(300, 32)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WorkbenchError, match=r"'embed_out.weight' of shape \[300, 32\]; config.json gives"):
        load(str(folder), memory_limit=limit)


def test_experts_that_are_put_together_are_refused(tmp_path: Path, make_model_folder: Callable[..., Path]) -> None:
    folder = make_model_folder(tmp_path / "mixtral", "mixtral", **MIXTRAL)
    whole = load(str(folder))
    fit = fit_of(layout_of(whole.model), whole.model.config)
    with pytest.raises(WorkbenchError, match=r"experts.* are put together of other tensors .* give it more memory"):
        load(str(folder), memory_limit=fit.smallest)
