"""Is a prompt covered by the calibration text? The weights that matter for each, held side by side.

Salience is |gradient x weight| (SNIP, Lee et al. 2019, arXiv:1810.02340) of the mean token loss, of the prompt and of
the calibration text. A prompt is short, so that its salience differs from a long text's whatever it says: passages of
the calibration text that are as long as the prompt are held against the rest of it in the same way, and the prompt is
judged by them. The measure and its thresholds are our own. Left out: the split of a prompt's salience over its tokens
(study `token_weights`), and single predictions in place of the mean loss.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.measures.distribution import block_means
from workbench.model.gradients import gradient_sweep
from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix, read_weight
from workbench.model.memory import require_memory
from workbench.model.texts import Text, Windows, make_windows, read_text
from workbench.model.weightstats import WeightStatistics
from workbench.ordering import spearman, topk_mask
from workbench.progress import Steps, within
from workbench.results import Result
from workbench.studies.choice import find_matrices
from workbench.studies.context import Context
from workbench.studies.prompt_verdict import MEASURES, coverage_of, mean_known, summary, verdict
from workbench.studies.texts import calibration_windows, describe, text_name

PASSAGES = 12
LONGEST = 2048
"""Tokens of a prompt that are read at most."""

SHOWN_CHANNELS = 512


@dataclass(frozen=True, eq=False)
class Salient:
    """What is kept of one matrix's salience on one text: the sums of its input channels, and the top ones.

    Attributes:
        channels: sums over outputs `[in]`, float64.
        top_channels: mask `[in]` of the largest.
        top_weights: mask `[out, in]` of the largest.
    """

    channels: Tensor
    top_channels: Tensor
    top_weights: Tensor


Seen = Mapping[str, Salient]


def prompt_coverage(
    loaded: LoadedModel,
    *,
    prompt: str,
    calibration: str | None = None,
    tokens: int | None = None,
    window: int | None = None,
    top: float = 0.01,
    context: Context | None = None,
) -> Steps[Result]:
    """Rank correlation of channels and overlap of the salient ones between a prompt and the calibration text.

    Args:
        loaded: the model.
        prompt: two tokens at least; of a very long one the beginning is read.
        calibration: the text that it is held against.
        tokens: cap of its tokens.
        window: tokens of one sequence.
        top: share of channels, and of weights, that count as salient.
        context: what the process shares.

    Raises:
        WorkbenchError: a prompt of fewer than two tokens, a bad share, or whatever a gradient sweep refuses.
    """
    del context
    if not 0 < top < 1:
        raise WorkbenchError(f"top has value {top!r}; give a part of one above 0 and below 1, such as 0.01")
    matrices = find_matrices(loaded)
    require_memory(3 * sum(one.parameters for one in matrices), "the masks of the weights that matter")
    own = _prompt_window(loaded, prompt)
    text = calibration_windows(loaded, calibration, tokens, window)
    passages = _passages(loaded, read_text(text_name(loaded, calibration, "calibration")), own, text)
    seen = yield from within(_salient(loaded, text, top, "calibration text"), 0.0, 0.6)
    mine = yield from within(_salient(loaded, own, top, "prompt"), 0.6, 0.7)
    rows = _compared(matrices, mine, seen)
    others: list[list[dict[str, Any]]] = []
    for place, passage in enumerate(passages):
        low, high = (0.7 + 0.3 * (place + step) / len(passages) for step in (0, 1))
        note = f"passage {place + 1} of {len(passages)}"
        others.append(_compared(matrices, (yield from within(_salient(loaded, passage, top, note), low, high)), seen))
    for place, row in enumerate(rows):
        alike = [passage[place] for passage in others]
        row |= {f"passage_{name}": mean_known([one[name] for one in alike]) for name in MEASURES}
    whole, ordinary = summary(rows), [summary(one) for one in others]
    document = {
        "model": {"id": loaded.identity.id, "digest": loaded.identity.digest},
        "prompt": prompt,
        "tokens": own.tokens,
        "calibration": describe(text),
        "top": top,
        "prompt_summary": whole,
        "passages": ordinary,
        "passage_tokens": passages[0].window if passages else 0,
        "covered": coverage_of(whole, ordinary),
        "verdict": verdict(whole, ordinary),
        "matrices": rows,
    }
    return Result(document, {"prompt_coverage": _frame(rows), "channels": _channels(matrices, mine, seen)})


def _salient(loaded: LoadedModel, windows: Windows, top: float, note: str) -> Steps[Seen]:
    """One gradient sweep; of each matrix only sums and masks outlive their turn."""
    found: dict[str, Salient] = {}

    def take(matrix: Matrix, known: WeightStatistics) -> None:
        scores = (read_weight(loaded.model, matrix) * known.get("grad")).abs()
        channels = scores.double().sum(0)
        found[matrix.name] = Salient(channels, _top(channels, top), _top(scores, top))

    yield from gradient_sweep(loaded, windows, needs={"grad"}, consume=take)
    return found


def _top(scores: Tensor, share: float) -> Tensor:
    return topk_mask(scores, max(1, math.ceil(share * scores.numel() - 1e-9)))


def _prompt_window(loaded: LoadedModel, prompt: str) -> Windows:
    """The prompt as the model is given it, with the tokenizer's special tokens, in one window."""
    encoded: Any = loaded.tokenizer(prompt, verbose=False)
    ids = list(encoded["input_ids"])[: min(LONGEST, loaded.context)]
    if len(ids) < 2:
        raise WorkbenchError(
            f"the prompt has {len(ids)} token{'' if len(ids) == 1 else 's'}; a loss needs a next token, so at least 2"
        )
    return _window(torch.tensor(ids), "the prompt")


def _window(ids: Tensor, name: str) -> Windows:
    digest = hashlib.sha256(ids.numpy().astype("<i8").tobytes()).hexdigest()
    return Windows(ids[None], name, digest, digest, len(ids), len(ids))


def _passages(loaded: LoadedModel, text: Text, own: Windows, seen: Windows) -> list[Windows]:
    """Passages as long as the prompt and begun like it, from behind the standard's tokens or, if few are there, from
    all of the text; shorter ones where a window of the standard is shorter than the prompt."""
    length = min(own.window, seen.window)
    cap = seen.tokens + 4 * PASSAGES * length
    cut = make_windows(text, loaded.tokenizer, window=length, tokens=cap, context=loaded.context).ids
    fresh = cut[-(-seen.tokens // length) :]
    pool = fresh if len(fresh) >= PASSAGES else cut
    places = torch.linspace(0, len(pool) - 1, min(PASSAGES, len(pool))).round().long()
    begin = own.ids[0, :1]
    starts = bool(begin == loaded.tokenizer.bos_token_id)
    return [_window(torch.cat([begin, ids[:-1]]) if starts else ids, text.name) for ids in pool[places]]


def _compared(matrices: Sequence[Matrix], one: Seen, standard: Seen) -> list[dict[str, Any]]:
    """A row a matrix: how far the salience of a text agrees with the standard's."""
    rows = []
    for matrix in matrices:
        mine, other = one[matrix.name], standard[matrix.name]
        common = int((mine.top_channels & other.top_channels).sum())
        rows.append(
            {
                "matrix": matrix.name,
                "block": matrix.block,
                "role": matrix.role,
                "spearman": _known(spearman(mine.channels, other.channels)),
                "common": common,
                "salient": int(mine.top_channels.sum()),
                "overlap": common / int(mine.top_channels.sum()),
                "weight_overlap": int((mine.top_weights & other.top_weights).sum()) / int(mine.top_weights.sum()),
            }
        )
    return rows


def _frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows).drop(columns=["common", "salient"])


def _channels(matrices: Sequence[Matrix], mine: Seen, seen: Seen) -> pd.DataFrame:
    """Channels of every matrix on both texts, at most 512 a matrix, as shares of the matrix's salience."""
    parts = []
    for matrix in matrices:
        own, other = (_shares(one[matrix.name].channels) for one in (mine, seen))
        held = {"matrix": matrix.name, "channel": own.start.tolist()}
        held |= {"prompt_score": own.mean.tolist(), "calibration_score": other.mean.tolist()}
        parts.append(pd.DataFrame(held))
    return pd.concat(parts, ignore_index=True)


def _shares(channels: Tensor) -> Any:
    total = channels.sum()
    return block_means(channels / total if total > 0 else channels, SHOWN_CHANNELS)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
