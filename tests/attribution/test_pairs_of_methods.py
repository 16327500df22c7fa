"""Two methods that always rank tokens alike are one method: every such pair has to stand here with its proof."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from workbench.attribution.adapter import Adapter
from workbench.attribution.targets import parse_target
from workbench.measures.ranking import rank_correlations
from workbench.registry import attribution

DEMO = Path(__file__).resolve().parents[2] / "data" / "demo"
ALIKE = 0.999
IDENTICAL = {
    frozenset({"integrated_gradients", "cross_domain_ig"}): "the cosine transform C is orthonormal and all bands"
    " together are I: sum_k (C s)_k (C g)_k = s . g at every token, so that the band `all` is integrated gradients;"
    " the bands `slow` and `fast` are not",
}
PROMPTS = (
    "Once upon a time, there was a little girl named Lily. She had a red",
    "Tom had a kite. The kite was blue. It was on the",
    "The dog was sad. It had lost its ball, and then it saw a",
    "Mia had a hat. The hat was red. She ran to the",
    "One day, Ben was hungry. He wanted to eat a big",
    "It was late. The moon was up, and the cat went to",
    "Sam was not happy. His toy car was broken, so he asked his",
    "Anna saw a bird. The bird had a hurt wing, and she wanted to",
    "The boy and his sister played. They ran, jumped and had lots of",
    "A frog lived by the pond. It liked to swim and sing a",
)


@pytest.fixture(scope="module")
def demo() -> Adapter:
    model = AutoModelForCausalLM.from_pretrained(DEMO, dtype=torch.float32)
    return Adapter(model.eval(), AutoTokenizer.from_pretrained(DEMO))


def correlations(adapter: Adapter, names: list[str], prompts: tuple[str, ...]) -> torch.Tensor:
    """Spearman of every pair over the tokens of content, mean over the prompts that both say something about."""
    found = []
    for text in prompts:
        prompt = adapter.encode(text)
        target = parse_target(adapter, prompt)
        content = ~torch.tensor(prompt.special)
        maps = [attribution.get(name)(adapter, prompt.ids, target).scores[content] for name in names]
        found.append(rank_correlations(torch.stack(maps)))
    return torch.stack(found).nanmean(0)


@pytest.mark.slow
def test_methods_that_rank_alike_are_known(demo: Adapter) -> None:
    names = attribution.names()
    mean = correlations(demo, names, PROMPTS)
    assert bool(mean.isfinite().all())
    pairs = combinations(range(len(names)), 2)
    alike = {frozenset({names[one], names[other]}) for one, other in pairs if mean[one, other] > ALIKE}
    assert alike == set(IDENTICAL)


@pytest.mark.parametrize("pair", list(IDENTICAL), ids=lambda pair: " and ".join(sorted(pair)))
def test_a_pair_that_is_listed_is_alike(pair: frozenset[str], demo: Adapter) -> None:
    assert correlations(demo, sorted(pair), PROMPTS[:2])[0, 1] > ALIKE
