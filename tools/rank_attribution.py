"""Ask every attribution method where the planted trigger is, and put what was measured into docs/attribution.md.

The model of `tools/train_planted.py` answers by one word of its prompt, so the right map is known. A method points at
the trigger when its highest score stands there, among the words or among all tokens (the begin mark and the `?` that
asks). Its map is also put to the deletion test: the words are taken away from the highest score on, and the area under
the log-probability of the answer is compared with random orders of the same words, over all prompts together.

    python -m tools.rank_attribution
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from tools.train_planted import FOLDER, draw
from workbench.attribution.adapter import Adapter
from workbench.attribution.targets import Target
from workbench.measures.faithfulness import areas, deletion_curves, order_of, random_orders, standing
from workbench.registry import Method, attribution
from workbench.settings import PROJECT
from workbench.studies.removal import Removal

PAGE = PROJECT / "docs" / "attribution.md"
PROMPTS, ORDERS, SEED = 100, 20, 7


@dataclass(frozen=True)
class Case:
    """One prompt [1, tok], what is explained, where the trigger is, and the prompt with words taken away."""

    ids: Tensor
    target: Target
    place: int
    removal: Removal


@dataclass(frozen=True)
class Verdict:
    """What a method reached over all prompts.

    Attributes:
        words: share of prompts whose highest score among the words is the trigger's.
        tokens: the same among all tokens.
        deletion: mean area under the log-probability of the answer, nats; low is good.
        z: standard deviations by which that is lower than random orders.
        seconds: of the processor, a prompt.
    """

    words: float
    tokens: float
    deletion: float
    z: float
    seconds: float


def planted() -> Adapter:
    """The stored model."""
    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    return Adapter(model.eval(), AutoTokenizer.from_pretrained(FOLDER))


def cases(adapter: Adapter, count: int = PROMPTS, seed: int = SEED) -> list[Case]:
    """Fresh prompts, each with the answer of its trigger for a target."""
    found = []
    for prompt, answer, place in zip(*draw(count, torch.Generator().manual_seed(seed)), strict=True):
        target = Target("logit", (int(answer),), (adapter.vocabulary.text(int(answer)),))
        found.append(Case(prompt[None], target, int(place), Removal(adapter, prompt[None], target)))
    return found


def random_areas(asked: list[Case], orders: int = ORDERS) -> Tensor:
    """The mean deletion area over the prompts for every random order [order]."""
    return torch.stack(
        [_areas(one, random_orders(one.removal.units, orders, seed)) for seed, one in enumerate(asked)]
    ).mean(0)


def judge(method: Method, adapter: Adapter, asked: list[Case], others: Tensor) -> Verdict:
    """Run a method on every prompt with its default options."""
    began = time.process_time()
    maps = [method(adapter, one.ids, one.target).scores for one in asked]
    spent = time.process_time() - began
    return verdict(maps, asked, others, spent / len(asked))


def verdict(maps: list[Tensor], asked: list[Case], others: Tensor, seconds: float = 0.0) -> Verdict:
    """What maps of the prompts are worth."""
    words = [scores[one.removal.places] for scores, one in zip(maps, asked, strict=True)]
    among_words = [
        int(one.removal.places[scores.argmax()]) == one.place for scores, one in zip(words, asked, strict=True)
    ]
    among_all = [int(scores.argmax()) == one.place for scores, one in zip(maps, asked, strict=True)]
    deletion = torch.cat([_areas(one, order_of(scores)) for scores, one in zip(words, asked, strict=True)]).mean()
    z = standing(float(deletion), others, low_is_good=True).z
    return Verdict(_share(among_words), _share(among_all), float(deletion), z, seconds)


def _areas(one: Case, orders: Tensor) -> Tensor:
    return areas(deletion_curves(one.removal.log_probability, orders), one.removal.units)


def _share(hits: list[bool]) -> float:
    return sum(hits) / len(hits)


def page(found: dict[str, Verdict], others: Tensor, count: int) -> str:
    """The table as Markdown, best first."""
    lines = [
        "# Attribution methods on a planted trigger",
        "",
        __doc__.split("\n\n")[1],
        "",
        f"{count} prompts of 10 words; by chance a method points right in 0.10 of them. Random orders reach a deletion"
        f" area of {float(others.mean()):.2f} ± {float(others.std()):.2f} nats ({len(others)} of them). Options are"
        " the defaults; seconds are of one core. Made by `tools/rank_attribution.py`.",
        "",
        "| method | points right, words | points right, all tokens | deletion, nats | z against random | ms a prompt |",
        "|---|---|---|---|---|---|",
    ]
    ranked = sorted(found.items(), key=lambda one: (-one[1].words, one[1].deletion))
    lines += [
        f"| {name} | {one.words:.2f} | {one.tokens:.2f} | {one.deletion:.2f} | {one.z:+.1f} | {1e3 * one.seconds:.0f} |"
        for name, one in ranked
    ]
    return "\n".join([*lines, "", *notes(), ""])


def notes() -> list[str]:
    """What the figures do not say by themselves."""
    return [
        "The signed product of gradient and input is no mistake here: without the length of the embeddings, which the"
        " first norm takes away, its scores add up to nothing. Attention maps and `normgrad` give the last token a high"
        " score for where it stands. `position` and `lexrank` never ask the model.",
    ]


def main(show: Callable[[str], Any] = print) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--prompts", type=int, default=PROMPTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    adapter = planted()
    asked = cases(adapter, arguments.prompts)
    others = random_areas(asked)
    found = {}
    for method in attribution.methods():
        found[method.name] = judge(method, adapter, asked, others)
        show(f"{method.name}: {found[method.name]}")
    arguments.page.write_text(page(found, others, arguments.prompts), encoding="utf-8")


if __name__ == "__main__":
    main()
