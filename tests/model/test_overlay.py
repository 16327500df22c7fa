"""Other weights for a while: what is computed meanwhile, and that every original byte comes back."""

from __future__ import annotations

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel
from workbench.model.matrices import quantizable_matrices, read_weight
from workbench.model.overlay import is_overlaid, overlay

IDS = torch.tensor([[0, 5, 9, 200, 31]])


@pytest.fixture(params=["tiny_llama", "tiny_gpt2"])
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    return request.getfixturevalue(request.param)


def logits(loaded: LoadedModel) -> torch.Tensor:
    with torch.no_grad():
        return loaded.model(input_ids=IDS, use_cache=False).logits


def in_bytes(loaded: LoadedModel) -> dict[str, torch.Tensor]:
    return {name: tensor.clone().view(torch.uint8) for name, tensor in loaded.model.state_dict().items()}


def same(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(before[name], after[name]) for name in before)


def other_weights(loaded: LoadedModel, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {one.name: torch.randn(one.shape, generator=generator) for one in quantizable_matrices(loaded.model)}


def test_inside_the_weights_are_the_other_ones_and_afterwards_the_original_bytes(loaded: LoadedModel) -> None:
    before, reference = in_bytes(loaded), logits(loaded)
    weights = other_weights(loaded)
    with overlay(loaded.model, weights):
        for matrix in quantizable_matrices(loaded.model):
            assert torch.equal(read_weight(loaded.model, matrix), weights[matrix.name])
        assert not torch.allclose(logits(loaded), reference)
    assert same(before, in_bytes(loaded))
    assert torch.equal(logits(loaded), reference)


def test_what_is_computed_inside_is_what_a_changed_model_computes(loaded: LoadedModel) -> None:
    """The overlay against writing into the parameters by hand."""
    matrix = quantizable_matrices(loaded.model)[2]
    weight = read_weight(loaded.model, matrix) * 0.5
    with overlay(loaded.model, {matrix.name: weight}):
        inside = logits(loaded)
    parameter = loaded.model.get_parameter(matrix.name)
    original = parameter.detach().clone()
    parameter.copy_(original * 0.5)
    by_hand = logits(loaded)
    parameter.copy_(original)
    assert torch.equal(inside, by_hand)


def test_an_exception_inside_restores_the_bytes(loaded: LoadedModel) -> None:
    before = in_bytes(loaded)
    with pytest.raises(ZeroDivisionError), overlay(loaded.model, other_weights(loaded)):
        _ = 1 / 0
    assert same(before, in_bytes(loaded))
    assert not is_overlaid(loaded.model)


def test_writing_into_the_overlaid_weights_does_not_reach_the_originals(loaded: LoadedModel) -> None:
    before = in_bytes(loaded)
    matrix = quantizable_matrices(loaded.model)[0]
    with overlay(loaded.model, other_weights(loaded)):
        loaded.model.get_parameter(matrix.name).data.zero_()
    assert same(before, in_bytes(loaded))


def test_overlays_nest(loaded: LoadedModel) -> None:
    before = in_bytes(loaded)
    name = quantizable_matrices(loaded.model)[0].name
    outer, inner = other_weights(loaded, 1), {name: other_weights(loaded, 2)[name]}
    with overlay(loaded.model, outer):
        alone = logits(loaded)
        with overlay(loaded.model, inner):
            assert not torch.equal(logits(loaded), alone)
        assert torch.equal(logits(loaded), alone)
        assert is_overlaid(loaded.model)
    assert same(before, in_bytes(loaded))
    assert not is_overlaid(loaded.model)


def test_nothing_to_lay_over_is_fine(loaded: LoadedModel) -> None:
    reference = logits(loaded)
    with overlay(loaded.model, {}):
        assert torch.equal(logits(loaded), reference)


def test_other_types_are_cast(loaded: LoadedModel) -> None:
    matrix = quantizable_matrices(loaded.model)[0]
    weight = torch.randn(matrix.shape, dtype=torch.float64)
    with overlay(loaded.model, {matrix.name: weight}):
        assert loaded.model.get_parameter(matrix.name).dtype == torch.float32
        assert torch.equal(read_weight(loaded.model, matrix), weight.float())


@pytest.mark.parametrize("bad", ["no.such.weight", "model.embed_tokens.weight", "transformer.wpe.weight", "x" * 500])
def test_an_unknown_name_is_refused_before_anything_changes(loaded: LoadedModel, bad: str) -> None:
    before = in_bytes(loaded)
    weights = other_weights(loaded) | {bad: torch.zeros(2, 2)}
    with pytest.raises(WorkbenchError, match="no quantizable matrix") as refusal, overlay(loaded.model, weights):
        pytest.fail("the block ran")
    assert same(before, in_bytes(loaded))
    assert len(str(refusal.value)) < 200


def test_a_wrong_shape_is_refused_before_anything_changes(loaded: LoadedModel) -> None:
    before = in_bytes(loaded)
    last = quantizable_matrices(loaded.model)[-1]
    weights = other_weights(loaded) | {last.name: torch.zeros(last.columns, last.rows)}
    with pytest.raises(WorkbenchError, match="has shape"), overlay(loaded.model, weights):
        pytest.fail("the block ran")
    assert same(before, in_bytes(loaded))
