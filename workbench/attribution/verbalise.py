"""A map in a few sentences, made from templates and nothing but the map, so that every number can be looked up in it.

No language model writes here: sentences that people liked best were found to be unfaithful in their numbers. Left out:
other languages (`SENTENCES` is the one place that holds words) and words made of several tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from workbench.attribution.result import Attribution
from workbench.errors import WorkbenchError
from workbench.ordering import gini

COVERED = 0.6
"""Tokens are named, strongest first, until they hold this share of the mass of their sign."""
MOST_NAMED = 5
EXACT = 0.01
"""A relative gap up to this is called adding up."""

SENTENCES = {
    "for": "{tokens} {carry} {share:.0%} of the support for the {label}.",
    "unsigned": "{tokens} {carry} {share:.0%} of what counts for the {label}; the method does not tell for or against.",
    "none_for": "No token supports the {label}.",
    "nothing": "No token moves the {label}: every score is 0.",
    "against": "{tokens} {carry} {share:.0%} of what speaks against it.",
    "none_against": "No token speaks against it.",
    "spread": "The scores are {word} (Gini {gini:.2f}, where 0 is even and 1 is all on one token).",
    "adds_up": "The scores add up to what they explain within {gap:.2%}.",
    "gap": "The scores miss {gap:.2%} of what they explain: take them as a ranking.",
}
SPREAD = ((0.4, "spread over many tokens"), (0.7, "uneven"), (1.0, "concentrated on few tokens"))
"""Up to this Gini coefficient the word behind it."""


@dataclass(frozen=True, slots=True)
class Mass:
    """The tokens of one sign that are named.

    Attributes:
        positions: of the tokens, strongest first.
        share: of the mass of that sign that they hold, 0 when there is none.
    """

    positions: tuple[int, ...]
    share: float


def verbalise(tokens: Sequence[str], found: Attribution, label: str, *, signed: bool) -> tuple[str, ...]:
    """Sentences on which tokens count, how concentrated the scores are, and whether they add up.

    Args:
        tokens: as shown to people.
        found: the map; tokens that were held fixed do not count.
        label: what is explained, such as `logit of ' ball'`.
        signed: whether the sign of a score means something.

    Raises:
        WorkbenchError: there is not one token for every score.
    """
    if len(tokens) != found.scores.numel():
        raise WorkbenchError(f"{len(tokens)} tokens were given for {found.scores.numel()} scores")
    scores = found.scores if signed else found.scores.abs()
    if not bool(scores.any()):
        return (SENTENCES["nothing"].format(label=label),)
    said = [_mass(tokens, scores, "for" if signed else "unsigned", "none_for", label)]
    if signed:
        said.append(_mass(tokens, -scores, "against", "none_against", label))
    free = ~torch.tensor(found.held_fixed) if found.held_fixed else torch.ones_like(scores, dtype=torch.bool)
    if int(free.sum()) > 1:
        spread = gini(scores[free].abs())
        word = next(word for limit, word in SPREAD if spread <= limit)
        said.append(SENTENCES["spread"].format(word=word, gini=spread))
    if found.relative_gap is not None:
        name = "adds_up" if found.relative_gap <= EXACT else "gap"
        said.append(SENTENCES[name].format(gap=found.relative_gap))
    return tuple(said)


def strongest(scores: Float64[Tensor, " tok"], covered: float = COVERED) -> Mass:
    """The fewest tokens of positive score that hold `covered` of the positive mass, `MOST_NAMED` at most."""
    positive = scores.clamp(min=0)
    total = float(positive.sum())
    if total <= 0:
        return Mass((), 0.0)
    order = positive.argsort(descending=True, stable=True)[:MOST_NAMED]
    reached = positive[order].cumsum(0) / total
    count = min(int((reached < covered).sum()) + 1, len(order), int((positive > 0).sum()))
    return Mass(tuple(order[:count].tolist()), float(reached[count - 1]))


def _mass(tokens: Sequence[str], scores: Float64[Tensor, " tok"], filled: str, empty: str, label: str) -> str:
    """The sentence for the tokens of one sign."""
    mass = strongest(scores)
    if not mass.positions:
        return SENTENCES[empty].format(label=label)
    named = [repr(tokens[place]) for place in mass.positions]
    listed = " and ".join(part for part in (", ".join(named[:-1]), named[-1]) if part)
    text = f"{'The token' if len(named) == 1 else 'The tokens'} {listed}"
    return SENTENCES[filled].format(
        tokens=text, carry="carries" if len(named) == 1 else "carry", share=mass.share, label=label
    )
