"""LexRank and position, which never ask the model."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from attribution_models import IDS, LOGIT, explain

from workbench.attribution.adapter import Adapter
from workbench.attribution.lexrank import pagerank, similarity, tally
from workbench.attribution.targets import parse_target
from workbench.registry import attribution

STORY = "The cat met a dog and Tom. Cat ran. Dog sat. Tom fell."


@pytest.mark.parametrize("damping", [0.0, 0.5, 0.85, 0.99])
def test_the_walk_is_the_dense_eigenvector(damping: float) -> None:
    weights = torch.rand(12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64).fill_diagonal_(1.0)
    weights[weights < 0.6] = 0.0
    ours = pagerank(weights, damping)
    steps = damping * (weights / weights.sum(1, keepdim=True)).numpy() + (1 - damping) / 12
    values, vectors = np.linalg.eig(steps.T)
    theirs = np.real(vectors[:, np.argmax(np.real(values))])
    np.testing.assert_allclose(ours.numpy(), theirs / theirs.sum(), atol=1e-8)
    assert float(ours.sum()) == pytest.approx(1.0, abs=1e-10)


def test_a_ring_is_uniform_and_a_hub_is_central() -> None:
    ring = torch.eye(7, dtype=torch.float64) + torch.eye(7, dtype=torch.float64).roll(1, 0)
    torch.testing.assert_close(pagerank(ring, 0.85), torch.full((7,), 1 / 7, dtype=torch.float64))
    star = torch.eye(5, dtype=torch.float64)
    star[0, :] = star[:, 0] = 1.0
    ranks = pagerank(star, 0.85)
    assert float(ranks[0]) > 2 * float(ranks[1:].max())


def test_the_cosine_by_hand() -> None:
    """Two sentences of two words, one of them shared: idf is 1 for the shared one and 1 + ln 2 for the others."""
    rare = 1 + math.log(2)
    found = similarity([tally("Red ball"), tally("red, car!")])
    expected = 1 / (1 + rare**2)
    torch.testing.assert_close(found, torch.tensor([[1.0, expected], [expected, 1.0]], dtype=torch.float64))
    assert similarity([Counter(), tally("a")]).tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_every_token_scores_its_sentence(stories: Adapter) -> None:
    prompt = stories.encode(STORY)
    result = attribution.get("lexrank")(stories, prompt.ids, parse_target(stories, prompt))
    assert result.held_fixed == (True, *[False] * (len(prompt.tokens) - 1))
    starts = [0, STORY.index(" Cat"), STORY.index(" Dog"), STORY.index(" Tom fell"), len(STORY)]
    assert prompt.offsets is not None
    means = []
    for start, stop in pairwise(starts):
        chosen = [i for i, (a, b) in enumerate(prompt.offsets) if start < b <= stop and not prompt.special[i]]
        assert len(set(result.scores[chosen].tolist())) == 1
        means.append(float(result.scores[chosen[0]]))
    assert sum(means) == pytest.approx(1.0)
    assert means[0] > 1.5 * max(means[1:])  # it shares a word with each of the others, which share none
    weighted = attribution.get("lexrank")(stories, prompt.ids, parse_target(stories, prompt), continuous=True)
    assert not torch.equal(weighted.scores, result.scores)


def test_position_grows_evenly_over_the_content(llama: Adapter) -> None:
    assert explain("position", llama).scores.tolist() == pytest.approx([0.0, *(i / 7 for i in range(1, 8))])
    first = explain("position", llama, most="first")
    assert first.scores.tolist() == pytest.approx([0.0, *(i / 7 for i in range(7, 0, -1))])
    assert first.held_fixed == (True, *[False] * 7)
    within = attribution.get("position")(llama, torch.cat([IDS, torch.tensor([[2]])], 1), LOGIT)
    assert within.scores.tolist() == pytest.approx([0.0, *(i / 7 for i in range(1, 8)), 0.0])
