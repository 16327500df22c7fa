"""LexRank: how central a token's sentence is among the sentences of the prompt; the model has no say in it.

Erkan and Radev 2004: sentences are joined where the cosine of their tf-idf vectors reaches a threshold, and PageRank is
taken over that graph. A map that looks like this one may show no more than what the text is mostly about. Document
frequencies are those of the prompt's own sentences, not of a corpus as in the paper. Left out: stemming, stop words.
"""

from __future__ import annotations

import re
from collections import Counter
from math import log
from typing import Annotated

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from workbench.attribution.adapter import Adapter
from workbench.attribution.result import Attribution
from workbench.attribution.spans import label_spans, span_texts
from workbench.attribution.targets import Target
from workbench.registry import Range, attribution

ENOUGH = 1e-13
ROUNDS = 10_000


@attribution.register(
    "lexrank",
    summary="How central the token's sentence is to the text; a yardstick that never asks the model.",
    reference="Erkan, Radev 2004, arXiv:1109.2128",
    cost="f + run + sentences^2",
    note="Model-free: the same for every model and target. Word frequencies are those of the prompt itself.",
    uses_target=False,
)
def lexrank(
    adapter: Adapter,
    ids: Int[Tensor, "1 tok"],
    target: Target,
    *,
    threshold: Annotated[float, Range(0, 1)] = 0.1,
    damping: Annotated[float, Range(0, 0.999)] = 0.85,
    continuous: bool = False,
) -> Attribution:
    """Scores [tok] in [0, 1]: the centrality of the token's sentence (over sentences they add up to 1), 0 at controls.

    Args:
        adapter: the tokenizer, and the model for `value`.
        ids: the prompt.
        target: F, for `value`.
        threshold: the cosine from which two sentences are joined.
        damping: how often a step follows the graph; else it goes anywhere.
        continuous: joined sentences count by their cosine, not all alike.
    """
    cosines = similarity([tally(text) for text in span_texts(adapter, ids, "sentence")])
    joined = cosines >= threshold
    central = pagerank(torch.where(joined, cosines, 0.0) if continuous else joined.double(), damping)
    labels = label_spans(adapter, ids, "sentence")
    scores = torch.cat([central, central.new_zeros(1)])[labels]  # the label -1 reads the last one
    value = float(adapter.values(adapter.embed(ids), target.value))
    return Attribution(
        scores,
        value,
        held_fixed=tuple((labels < 0).tolist()),
        notes=(*target.notes, f"{len(central)} sentence(s); the model was not asked for these scores"),
    )


def tally(text: str) -> Counter[str]:
    """How often each word stands in a text, upper and lower case alike."""
    return Counter(re.findall(r"\w+", text.lower()))


def similarity(sentences: list[Counter[str]]) -> Float64[Tensor, "sentence sentence"]:
    """Cosines of the sentences' tf-idf vectors, idf = 1 + ln(sentences / sentences with the word); 1 to itself."""
    spread = Counter(word for sentence in sentences for word in sentence)
    place = {word: index for index, word in enumerate(sorted(spread))}
    vectors = torch.zeros(len(sentences), len(place), dtype=torch.float64)
    for row, sentence in enumerate(sentences):
        for word, count in sentence.items():
            vectors[row, place[word]] = count * (1 + log(len(sentences) / spread[word]))
    unit = torch.nn.functional.normalize(vectors, dim=1)
    return (unit @ unit.T).fill_diagonal_(1.0)


def pagerank(weights: Float64[Tensor, "node node"], damping: float) -> Float64[Tensor, " node"]:
    """The stationary distribution of a walk over the graph, by power iteration.

    Args:
        weights: of the edges, 0 or more; every node has one.
        damping: the chance that a step follows an edge; else it goes to any node.
    """
    nodes = len(weights)
    steps = weights / weights.sum(1, keepdim=True)
    rank = torch.full((nodes,), 1 / max(nodes, 1), dtype=torch.float64)
    for _ in range(ROUNDS):
        former = rank
        rank = (1 - damping) / nodes + damping * (former @ steps) if nodes else former
        if bool((rank - former).abs().sum() <= ENOUGH):
            break
    return rank
