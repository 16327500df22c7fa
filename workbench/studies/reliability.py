"""Error bars for maps: how far each token's score moves while the weights are rounded up or down by chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from workbench.attribution.result import Attribution
from workbench.attribution.tokens import Prompt
from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel
from workbench.model.matrices import read_weight
from workbench.model.overlay import overlay
from workbench.progress import Progress, Steps, within
from workbench.quantizers.arithmetic.stochastic import stochastic_rounding
from workbench.results import Result
from workbench.scheme import Scheme
from workbench.studies.attribute import explained
from workbench.studies.choice import find_matrices
from workbench.studies.compare_attribution import answer_all, ask
from workbench.studies.context import Context
from workbench.studies.map_checks import Question, randomised_spearman
from workbench.studies.map_spread import Look, Looks, method_row, tables
from workbench.studies.prompt_document import of_prompt
from workbench.studies.prompt_verdict import mean_known

MOST_DRAWS = 32
SHUFFLES = 3
"""Orders of shuffled weights whose correlations are averaged: one alone is a matter of chance on a short prompt."""

NOTE = (
    "Mean and standard deviation are over draws of stochastic rounding, which is right on average: the same size of"
    " noise as that many bits make, without its direction. All methods see the same draws. A token whose score is less"
    " than twice its standard deviation from zero is unsteady. Fragility: how much the order of the tokens differs from"
    " the full model's in the draws that keep its likeliest next token. Blindness: how much of the order is left when"
    " the weights are shuffled. Near 0 is good for both."
)


def reliability(
    loaded: LoadedModel,
    *,
    prompt: str,
    methods: Sequence[str] = ("integrated_gradients",),
    target: str | None = None,
    contrast: str | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    bits: int = 4,
    group_size: int = 64,
    symmetric: bool = False,
    draws: int = 8,
    seed: int = 0,
    context: Context | None = None,
) -> Steps[Result]:
    """Maps of the full model and of `draws` models whose matrices are rounded by chance, the same for all methods.

    Ours, but for the shuffled weights (Adebayo et al. 2018, arXiv:1810.03292). A method that refuses this model is
    listed with its reason and left out.

    Args:
        loaded: the model.
        prompt: the text.
        methods: names of attribution methods.
        target: next token, the full model's likeliest when not given, in every draw.
        contrast: explain the target rather than this.
        options: method name -> its options.
        bits: width whose steps the noise has; 16 for hardly any.
        group_size: columns that share a step.
        symmetric: steps of the symmetric grid.
        draws: how many.
        seed: of the first draw, and of the shuffled weights; the next draw has the next one.
        context: not used.

    Raises:
        WorkbenchError: too few draws, a width that there is not, or no method works on this model.
    """
    del context
    if not 2 <= draws <= MOST_DRAWS:
        raise WorkbenchError(f"draws has value {draws}; it must lie between 2 and {MOST_DRAWS}")
    Scheme(bits=bits, group_size=group_size, symmetric=symmetric)  # refuses what no kernel has
    noise = Noise(loaded, bits, group_size, symmetric)
    adapter, read, aim = explained(loaded, prompt, target, contrast)
    questions = ask(adapter, read, aim, methods, options)
    full, refused = yield from within(_full(questions), 0.0, 1 / (draws + 2))
    able = {name: questions[name] for name in full.maps}
    looks = Looks(full, [])
    for place in range(draws):
        steps = _draw(noise, seed + place, able, f"draw {place + 1} of {draws}")
        looks.draws.append((yield from within(steps, place + 1, place + 2, draws + 2)))
    rows = yield from within(_rows(loaded, able, looks, read, seed), draws + 1, draws + 2, draws + 2)
    document = {
        **of_prompt(loaded, prompt, read),
        "target": aim.to_json(),
        "bits": bits,
        "group_size": group_size,
        "symmetric": symmetric,
        "draws": draws,
        "seed": seed,
        **looks.outputs(adapter.vocabulary),
        "methods": rows,
        "refused": refused,
        "note": NOTE,
    }
    return Result(document, tables(rows, read))


class Noise:
    """All matrices of a model, rounded by chance at one width."""

    def __init__(self, loaded: LoadedModel, bits: int, group_size: int, symmetric: bool) -> None:
        self.loaded, self.matrices = loaded, find_matrices(loaded)
        self.grid: dict[str, Any] = {"bits": bits, "group_size": group_size, "symmetric": symmetric}

    def weights(self, seed: int) -> Steps[dict[str, Tensor]]:
        """The weights of one draw; those of a seed are the same whenever they are drawn."""
        generator = torch.Generator().manual_seed(seed)
        found = {}
        for place, matrix in enumerate(self.matrices):
            yield Progress(place, len(self.matrices), "rounding by chance")
            weight = read_weight(self.loaded.model, matrix)
            found[matrix.name] = stochastic_rounding(weight, **self.grid, generator=generator)
        return found


def _full(questions: Mapping[str, Question]) -> Steps[tuple[Look, list[dict[str, str]]]]:
    """The full model's map by every method that works, and why the others do not."""
    maps, refused = yield from answer_all(questions)
    return Look(_logits(questions), maps), refused


def _draw(noise: Noise, seed: int, questions: Mapping[str, Question], note: str) -> Steps[Look]:
    """The same in the model of one draw."""
    weights = yield from within(noise.weights(seed), 0.0, 0.3)
    maps: dict[str, Attribution] = {}
    with overlay(noise.loaded.model, weights):
        for done, (name, question) in enumerate(questions.items()):
            yield Progress(0.3 + 0.7 * done / len(questions), 1.0, f"{name}, {note}")
            maps[name] = question.answer()
        return Look(_logits(questions), maps)


def _rows(
    loaded: LoadedModel, questions: Mapping[str, Question], looks: Looks, read: Prompt, seed: int
) -> Steps[list[dict[str, Any]]]:
    """What each method's maps are worth, and whether they stay where the weights are shuffled."""
    rows = []
    for done, (name, question) in enumerate(questions.items()):
        yield Progress(done, len(questions), f"{name} with shuffled weights")
        row = method_row(question, looks, read)
        rows.append({**row, "blindness": _blindness(loaded, question, row, seed)})
    return rows


def _logits(questions: Mapping[str, Question]) -> Tensor:
    """Logits of the next token in the model as it is now; all questions are about the same prompt."""
    question = next(iter(questions.values()))
    return question.adapter.predict(question.ids)


def _blindness(loaded: LoadedModel, question: Question, row: Mapping[str, Any], seed: int) -> float | None:
    """Mean rank correlation with the maps of shuffled weights, None where there is none."""
    scores, places = torch.tensor(row["scores"], dtype=torch.float64), torch.tensor(row["compared"], dtype=torch.int64)
    if len(places) < 2:
        return None
    return mean_known([randomised_spearman(loaded, question, scores, places, seed + one) for one in range(SHUFFLES)])
