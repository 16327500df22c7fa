"""Every kind of target: its closed form, how it is written, and that path methods share it out completely."""

from __future__ import annotations

import pytest
import torch
from attribution_models import IDS, PROMPT, adapted, explain, quick
from scipy.special import log_softmax, rel_entr, softmax
from scipy.stats import entropy as shannon

from workbench.attribution.adapter import Adapter
from workbench.attribution.layout import behind
from workbench.attribution.targets import Target, parse_target
from workbench.errors import WorkbenchError
from workbench.registry import attribution

LOGITS = torch.randn(3, 4, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
NEXT = LOGITS[:, 0]
WRITTEN = (
    ("prob:w20", None),
    ("prob:w20", "w21"),
    ('group:["w20", "w21"]', None),
    ('group:["w20", "w21"]', '["w30"]'),
    ("entropy:", None),
    ("kl:", None),
    ('attentiveness:["w20", "w21"]', None),
)


def asked(adapter: Adapter, written: str, contrast: str | None) -> Target:
    return parse_target(adapter, adapter.encode(PROMPT), written, contrast)


def test_values_of_one_position_are_those_of_scipy() -> None:
    shares = softmax(NEXT.numpy(), -1)
    reference = torch.randn(10, dtype=torch.float64).log_softmax(-1)
    expected = {
        "prob": (Target("prob", (4,), ("a",)), shares[:, 4]),
        "prob, contrast": (Target("prob", (4, 7), ("a", "b")), shares[:, 4] - shares[:, 7]),
        "group": (Target("group", (4,), ("a",), sides=((4, 7, 1),)), torch.tensor(shares[:, [4, 7, 1]].sum(1)).log()),
        "groups": (
            Target("group", (4, 2), ("a", "b"), sides=((4, 7), (2,))),
            torch.tensor(shares[:, [4, 7]].sum(1) / shares[:, 2]).log(),
        ),
        "attentiveness": (Target("attentiveness", (4,), ("a",), sides=((4, 7),)), shares[:, [4, 7]].sum(1)),
        "entropy": (Target("entropy", (4,), ("a",)), shannon(shares, axis=1)),
        "kl": (Target("kl", (4,), ("a",), reference=reference), rel_entr(reference.exp().numpy(), shares).sum(1)),
    }
    for name, (target, value) in expected.items():
        for logits in (NEXT, LOGITS):  # of several positions the first one follows the prompt
            torch.testing.assert_close(target.value(logits), torch.as_tensor(value), msg=name)


def test_a_continuation_is_the_sum_or_mean_of_what_each_position_says() -> None:
    logs = log_softmax(LOGITS.numpy(), -1)
    first = logs[:, 0, 5] + logs[:, 1, 6] + logs[:, 2, 5]
    sides = ((5, 6, 5), (9,))
    one = Target("continuation", (5,), ("a",), sides=sides[:1])
    two = Target("continuation", (5, 9), ("a", "b"), sides=sides)
    mean = Target("continuation_mean", (5, 9), ("a", "b"), sides=sides)
    torch.testing.assert_close(one.value(LOGITS[:, :3]), torch.as_tensor(first))
    torch.testing.assert_close(two.value(LOGITS), torch.as_tensor(first - logs[:, 3, 9]))
    torch.testing.assert_close(mean.value(LOGITS), torch.as_tensor(first / 3 - logs[:, 3, 9]))


@pytest.mark.parametrize(("written", "contrast"), WRITTEN)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_path_methods_share_out_every_kind(family: str, written: str, contrast: str | None) -> None:
    adapter = adapted(family, torch.float64)
    target = asked(adapter, written, contrast)
    ends = adapter.values(torch.cat([adapter.embed(IDS), adapter.embed(torch.tensor([[1] + 7 * [2]]))]), target.value)
    change = float(ends[0] - ends[1])
    assert abs(change) > 1e-5
    close = 1e-5 if family == "llama" else 1e-10  # Llama's norm computes in single precision whatever the weights are
    for name, options in (("integrated_gradients", {"tolerance": 0.0, "max_nodes": 64}), ("deeplift", {})):
        found = explain(name, adapter, target, **options)
        assert float(found.scores.sum()) == pytest.approx(change, abs=close), name
        assert found.scores.abs().max() > 1e-5


@pytest.mark.parametrize(("written", "contrast"), WRITTEN)
def test_linearised_says_where_it_is_no_sum(llama: Adapter, written: str, contrast: str | None) -> None:
    found = explain("linearised", llama, asked(llama, written, contrast))
    assert "the target is no sum of logits" in found.notes[-1]
    assert found.completeness_gap is None
    complete = explain("linearised", llama, asked(llama, "w20", "w21"))
    assert complete.relative_gap is not None
    assert complete.relative_gap < 1e-4


@pytest.mark.parametrize("name", ["integrated_gradients", "deeplift", "linearised", "occlusion", "kernel_shap"])
def test_the_map_of_two_groups_is_the_difference_of_their_maps(name: str, llama: Adapter) -> None:
    """The normaliser cancels, so that the map of log(sum p_A) less that of log(sum p_B) is that of the contrast."""
    options = {"tolerance": 0.0, "max_nodes": 64} if name == "integrated_gradients" else {}
    both = asked(llama, 'group:["w20", "w21"]', '["w30", "w31"]')
    first, second = (asked(llama, written, None) for written in ('group:["w20", "w21"]', 'group:["w30", "w31"]'))
    maps = [explain(name, llama, target, **options).scores for target in (both, first, second)]
    torch.testing.assert_close(maps[0], maps[1] - maps[2], atol=2e-5, rtol=1e-4)
    assert maps[0].abs().max() > 1e-3


def test_attentiveness_adds_the_chances_of_both_spellings_in_any_order(stories: Adapter) -> None:
    prompt = stories.encode("Once upon a time, there was a girl named")
    targets = [parse_target(stories, prompt, f"attentiveness:{names}") for names in ('["Lily","a"]', '["a","Lily"]')]
    shares = stories.predict(prompt.ids).double().softmax(-1)
    known = {stories.vocabulary.find(text) for text in ("Lily", " Lily", "a", " a")} - {None}
    assert known == set(targets[0].parts[0]) == set(targets[1].parts[0])
    assert len(known) >= 3
    for target in targets:
        value = float(stories.values(stories.embed(prompt.ids), target.value))
        assert value == pytest.approx(float(sum(shares[index] for index in known)), abs=1e-6)


def test_the_divergence_is_from_the_full_model_at_this_prompt(llama: Adapter) -> None:
    target = asked(llama, "kl:", None)
    changed = adapted("llama")
    with torch.no_grad():
        changed.model.lm_head.weight.mul_(1.5)
    one, other = (adapter.predict(IDS).double().softmax(-1) for adapter in (llama, changed))
    assert float(llama.values(llama.embed(IDS), target.value)) == pytest.approx(0.0, abs=1e-6)
    expected = float(torch.tensor(rel_entr(one.numpy(), other.numpy())).sum())
    assert float(changed.values(changed.embed(IDS), target.value)) == pytest.approx(expected, rel=1e-4)
    assert "least value" in target.notes[0]


@pytest.mark.parametrize(
    ("written", "contrast", "message"),
    [
        ("group:w20", None, "is no list of texts; write one such as"),
        ("group:[]", None, "is no list of texts"),
        ('group:["w20", 3]', None, "is no list of texts"),
        ('group:["w20"', None, "is no list of texts"),
        ('group:["w20","nonsense"]', None, "unknown to this tokenizer"),
        ('group:["w20","w21"]', '["w30","w21"]', "token 'w21' is in both groups"),
        ('group:["w20"]', "w30", "contrast 'w30' is no list of texts"),
        ("entropy:w20", None, "is of the whole distribution and takes no text"),
        ("entropy:", "w20", "has no contrast; leave out 'w20'"),
        ("kl:", "w20", "has no contrast"),
        ('attentiveness:["w20"]', '["w21"]', "has no contrast"),
        ("continuation:w20 w21", None, "is of several positions"),
        ("prob:w20", "id:20", "same token 'w20'"),
    ],
)
def test_bad_kinds_are_refused(llama: Adapter, written: str, contrast: str | None, message: str) -> None:
    with pytest.raises(WorkbenchError, match=message):
        asked(llama, written, contrast)


def test_a_word_that_reads_as_a_kind_can_still_be_asked_for(stories: Adapter) -> None:
    prompt = stories.encode("Once upon a time")
    assert parse_target(stories, prompt, "logit:kl:").kind == "logit"
    assert parse_target(stories, prompt, "logit:kl:").texts != parse_target(stories, prompt).texts


def test_labels_name_what_is_measured(llama: Adapter) -> None:
    labels = [asked(llama, written, contrast).label for written, contrast in WRITTEN]
    assert labels[1] == "probability of 'w20' minus probability of 'w21'"
    assert labels[3] == (
        "log of the summed probability of {'w20', 'w21'} minus log of the summed probability of {'w30'}"
    )
    assert labels[4] == "entropy of the next token (nats)"


@pytest.mark.parametrize("name", attribution.names())
def test_every_method_explains_one_continuation_rather_than_another(name: str, either: Adapter) -> None:
    sides = ((40, 41, 42), (43, 44))
    added = [index for side in sides for index in side]
    ids = torch.cat([IDS, torch.tensor([added])], 1)
    adapter = either.laid_out(behind([False] * 8, *sides))
    target = Target("continuation", tuple(side[0] for side in sides), ("a", "b"), sides=sides)
    found = attribution.get(name)(adapter, ids, target, **quick(name))
    assert found.scores.shape == (8 + len(added),)
    assert bool(found.scores.isfinite().all())
    assert found.scores[:8].abs().sum() > 0
    alone = []
    for side in sides:
        with torch.no_grad():
            logs = either.model(torch.cat([IDS, torch.tensor([side])], 1)).logits[0].log_softmax(-1)
        alone.append(sum(float(logs[7 + place, token]) for place, token in enumerate(side)))
    assert found.value == pytest.approx(alone[0] - alone[1], abs=1e-4)
    if found.held_fixed:
        assert found.held_fixed == (True, *[False] * 7, *[True] * len(added))
        assert not found.scores[8:].any()
