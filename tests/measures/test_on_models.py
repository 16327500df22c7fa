"""Measures on models of transformers: what is computed from statistics must be what the model does."""

from __future__ import annotations

import pytest
import torch

from workbench.measures.error import channel_errors, output_error_from_gram, output_error_measured
from workbench.measures.perplexity import losses_of_logits, summarize, token_losses, window_logits
from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix, quantizable_matrices, read_weight
from workbench.model.statistics import collect
from workbench.model.texts import Text, make_windows
from workbench.progress import run


def ids_for(loaded: LoadedModel) -> torch.Tensor:
    return torch.randint(3, loaded.model.config.vocab_size, (3, 24), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_gpt2"])
def test_the_loss_is_that_of_transformers(name: str, request: pytest.FixtureRequest):
    loaded: LoadedModel = request.getfixturevalue(name)
    ids = ids_for(loaded)
    with torch.no_grad():
        theirs = float(loaded.model(input_ids=ids, labels=ids).loss)
    assert summarize(run(token_losses(loaded.model, ids, batch=2))).loss == pytest.approx(theirs, rel=1e-5)


def test_losses_and_logits_of_one_pass_agree(tiny_llama: LoadedModel):
    ids = ids_for(tiny_llama)
    logits = window_logits(tiny_llama.model, ids)
    assert logits.shape == (3, 24, tiny_llama.model.config.vocab_size)
    assert not logits.requires_grad
    torch.testing.assert_close(losses_of_logits(logits, ids), run(token_losses(tiny_llama.model, ids, batch=3)))


def inputs_of(loaded: LoadedModel, matrix: Matrix, ids: torch.Tensor) -> torch.Tensor:
    """What a matrix is given, [tok, in], seen by a hook of our own."""
    seen: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        seen.append(inputs[0].flatten(0, 1))

    hook = loaded.model.get_submodule(matrix.module).register_forward_pre_hook(keep)
    window_logits(loaded.model, ids)
    hook.remove()
    return torch.cat(seen)


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_gpt2"])
def test_the_gram_tells_what_the_layers_outputs_lose(name: str, request: pytest.FixtureRequest):
    """The output error from collected statistics against the outputs that the layer gives on the same tokens."""
    loaded: LoadedModel = request.getfixturevalue(name)
    text = Text("test", ("The cat sat by the door and saw the rain. " * 40,))
    windows = make_windows(text, loaded.tokenizer, window=32, tokens=256, context=loaded.context)
    statistics = run(collect(loaded, windows, needs=["gram"]))
    for matrix in quantizable_matrices(loaded.model)[:4]:
        inputs = inputs_of(loaded, matrix, windows.ids)
        weight = read_weight(loaded.model, matrix)
        coarse = (weight * 20).round() / 20
        gram = statistics.of(matrix).gram
        assert gram is not None
        measured = output_error_measured(weight, coarse, inputs)
        assert measured > 0
        assert output_error_from_gram(weight, coarse, gram) == pytest.approx(measured, rel=1e-5)
        first = output_error_measured(weight[:1], coarse[:1], inputs)
        assert float(channel_errors(weight, coarse, gram)[0]) == pytest.approx(first, rel=1e-5)
