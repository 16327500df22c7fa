"""A whole question: a prompt, what is explained of what follows it, and the model laid out for both.

A continuation is explained as a whole: the log-probabilities of its tokens, each read where it is predicted with those
before it given, add up to that of all. Its own tokens are held fixed, as a part of the question. Tokens that stand in
the prompt already are explained in the same way, from what stands before them; what comes later is cut, since a token
cannot depend on it. Of two continuations the difference is explained, in one sequence (`layout`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from workbench.attribution.adapter import SAME, Adapter
from workbench.attribution.layout import Layout, behind
from workbench.attribution.target_kinds import SEVERAL, Kind, Side
from workbench.attribution.target_texts import continuation_ids, split_kind
from workbench.attribution.targets import Target, parse_target
from workbench.attribution.tokens import Prompt, fit
from workbench.errors import WorkbenchError, shown


@dataclass(frozen=True, slots=True)
class Posed:
    """What a method is asked.

    Attributes:
        adapter: the model, laid out for this sequence.
        prompt: all tokens of the sequence, those that are explained among them.
        target: F; its notes begin with those of the prompt.
    """

    adapter: Adapter
    prompt: Prompt
    target: Target


def pose(
    adapter: Adapter,
    prompt: Prompt,
    target: str = "",
    contrast: str | None = None,
    explain: Any = None,
) -> Posed:
    """Read a question as a person asks it.

    Args:
        adapter: the model.
        prompt: its tokens.
        target: as of `targets.parse_target`, or `continuation:TEXT` for the summed log-probability of all its tokens,
            `continuation_mean:TEXT` for their mean.
        contrast: what the target is held against.
        explain: instead of a text, the tokens of the prompt from the first number up to the second are the
            continuation. `target` may then be empty after `continuation:`, `continuation_mean:` or `logprob:` alone.

    Raises:
        WorkbenchError: what is asked for is not there, does not fit, or is held against itself.
    """
    kind, text = split_kind(target)
    if explain is not None:
        return _of_a_span(adapter, prompt, kind, text, contrast, explain)
    if kind in SEVERAL:
        first = continuation_ids(adapter, prompt, "continuation", text)
        return _continued(adapter, prompt, kind, [first, *_foil(adapter, prompt, contrast)])
    laid = adapter.laid_out(Layout(prompt.fixed)) if prompt.fixed else adapter
    aim = parse_target(laid, prompt, target, contrast)
    return Posed(laid, prompt, replace(aim, notes=adapter.notes + prompt.notes + aim.notes))


def _of_a_span(adapter: Adapter, prompt: Prompt, kind: Kind, text: str, contrast: str | None, explain: Any) -> Posed:
    """The question why some tokens of the prompt follow those before them."""
    start, stop = check_span(prompt, explain)
    if text or kind not in (*SEVERAL, "logit", "logprob"):
        raise WorkbenchError(
            f"explain names the tokens that are explained, so that the target {shown(f'{kind}:{text}')} cannot be asked"
            " for as well; leave it out, or write continuation_mean: alone"
        )
    count = len(prompt.tokens)
    cut = f"the {count - stop} tokens after what is explained were cut: they cannot have a part in it"
    head = prompt.take(range(start), *((cut,) if stop < count else ()))
    span = tuple(prompt.ids[0, start:stop].tolist())
    whole = head if head.offsets is None else replace(head, text=prompt.text[: prompt.offsets[start][0]])  # type: ignore[index]
    measured: Kind = kind if kind in SEVERAL else "continuation"
    return _continued(adapter, head, measured, [span, *_foil(adapter, whole, contrast)])


def check_span(prompt: Prompt, explain: Any) -> tuple[int, int]:
    """The first token that is explained and the one after the last.

    Raises:
        WorkbenchError: there are no such tokens, or none of content stands before them.
    """
    count, closed = len(prompt.tokens), prompt.closed
    whole = isinstance(explain, (list, tuple)) and len(explain) == 2 and all(type(place) is int for place in explain)
    if not whole or not 0 <= explain[0] < explain[1] <= count:
        raise WorkbenchError(
            f"explain has value {shown(explain)}; give the number of the first token, from 0, and of the one after"
            f" the last, at most {count}"
        )
    if all(closed[: explain[0]]):
        least = closed.index(False) + 1
        raise WorkbenchError(
            f"no token of content stands before token {explain[0]}, so that there is nothing to explain it by; the"
            f" first that can be explained is token {least}"
        )
    return explain[0], explain[1]


def _foil(adapter: Adapter, prompt: Prompt, contrast: str | None) -> list[Side]:
    """The tokens of what the continuation is held against, if there is one."""
    if not contrast:
        return []
    kind, text = split_kind(contrast)
    return [continuation_ids(adapter, prompt, "contrast", text if kind in SEVERAL else contrast)]


def _continued(adapter: Adapter, prompt: Prompt, kind: Kind, sides: list[Side]) -> Posed:
    """The question of one continuation, or of one rather than another."""
    longest = max(map(len, sides))
    if adapter.context is not None and longest >= adapter.context:
        raise WorkbenchError(
            f"the continuation has {longest} tokens; the model reads at most {adapter.context}, and the prompt needs at"
            " least 1 of them"
        )
    if len(sides) > 1 and sides[0] == sides[1]:
        raise WorkbenchError("target and contrast are the same continuation; choose two that differ")
    room = None if adapter.context is None else adapter.context - longest
    head = fit(prompt, room, cut=True)
    layout = behind(head.fixed or (False,) * len(head.tokens), *sides)
    laid = adapter.laid_out(layout)
    sequence = _extended(adapter, head, sides, layout)
    if len(sides) > 1:
        _check_apart(adapter, laid, sequence)
    written = tuple(repr(adapter.vocabulary.joined(side)) for side in sides)
    firsts = tuple(side[0] for side in sides)
    notes = (*adapter.notes, *head.notes, *_about(adapter, sides, kind))
    texts = tuple(map(adapter.vocabulary.text, firsts))
    return Posed(laid, sequence, Target(kind, firsts, texts, notes, tuple(sides), written))


def _extended(adapter: Adapter, head: Prompt, sides: list[Side], layout: Layout) -> Prompt:
    """The prompt with the continuations behind it."""
    added = [index for side in sides for index in side]
    end = (len(head.text), len(head.text))
    return replace(
        head,
        ids=torch.cat([head.ids, torch.tensor([added], dtype=torch.int64)], 1),
        tokens=(*head.tokens, *map(adapter.vocabulary.text, added)),
        offsets=None if head.offsets is None else (*head.offsets, *[end] * len(added)),
        special=(*head.special, *(index in adapter.vocabulary.special_ids for index in added)),
        fixed=layout.fixed,
    )


def _check_apart(adapter: Adapter, laid: Adapter, sequence: Prompt) -> None:
    """Refuse a model that cannot be shown two continuations in one sequence, by what it says of each alone."""
    layout, ids = laid.layout, sequence.ids
    with laid.steady(), torch.no_grad():
        together = laid.read_logits(laid.embed(ids))[0]
        start, alone = layout.prompt, []
        for length in layout.lengths:
            one = torch.cat([ids[:, : layout.prompt], ids[:, start : start + length]], 1)
            single = adapter.laid_out(Layout(prompt=layout.prompt, lengths=(length,)))
            alone.append(single.read_logits(single.embed(one))[0])
            start += length
    apart = torch.cat(alone)
    if bool((together - apart).abs().max() > 10 * SAME * apart.abs().max()):
        raise WorkbenchError(
            f"{type(adapter.model).__name__} takes no mask that keeps two continuations apart; explain one after the"
            " other"
        )


def _about(adapter: Adapter, sides: list[Side], kind: Kind) -> tuple[str, ...]:
    """What a reader has to know of continuations."""
    count = sum(map(len, sides))
    explained = "the token that is explained is" if count == 1 else f"the {count} tokens that are explained are"
    notes = [f"{explained} held fixed: each is predicted with those before it given"]
    if len(sides) < 2:
        return tuple(notes)
    differ = next((place for place, pair in enumerate(zip(*sides, strict=False)) if pair[0] != pair[1]), None)
    if differ:
        named = [repr(adapter.vocabulary.text(side[differ])) for side in sides]
        notes.append(
            f"the two continuations begin alike and differ first at their token {differ + 1}: {' or '.join(named)}"
        )
    if len(sides[0]) != len(sides[1]) and kind == "continuation":
        notes.append(
            f"the continuations have {len(sides[0])} and {len(sides[1])} tokens: every token makes one less likely,"
            " which favours the shorter; continuation_mean: compares means a token"
        )
    return tuple(notes)
