"""What studies of weights need: salience and what is made of it, errors of matrices, windows that drive statistics."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.estimates.bench import Bench, Spec
from workbench.estimates.need import Need, in_turn, only
from workbench.estimates.parts import (
    collect,
    compare,
    dense,
    forwards,
    gradient_pass,
    gradients,
    output_errors,
    reference,
)
from workbench.estimates.rounding import quantize, values
from workbench.estimates.table import costs_of
from workbench.model.sites import LEVELS
from workbench.model.texts import Windows
from workbench.quantizers.driving.schemes import complete_scheme, label_of, reads_text
from workbench.scheme import Scheme
from workbench.studies.agreement import SAMPLED
from workbench.studies.asked import Asked, ask, sweeps_for
from workbench.studies.choice import read_assignment
from workbench.studies.detach import TOKENS as DETACH_TOKENS
from workbench.studies.prompt_coverage import LONGEST, PASSAGES
from workbench.studies.scores import ask_for_weights
from workbench.studies.scoring import DEFAULT_SCHEME
from workbench.studies.signal import TOKENS as SIGNAL_TOKENS

TABLES = 8e-3
"""Seconds a matrix for the tables and charts of scores: histograms, quantiles, channels; measured on one core."""

SORTED = 5
"""Times that tables and charts of scores sort a weight, what else they do with it counted in sorts; measured with
`magnitude` on 33 million weights."""

SORT = 60
"""A weight that is ranked, in weights that are touched."""


def schemes_of_choice(bench: Bench, spec: Spec) -> list[tuple[Scheme, float]]:
    """The schemes of a scheme or a plan, with the part of the weights that each is for; none for the full model."""
    assignment = read_assignment(bench.loaded, spec.get("scheme"), spec.get("plan"))
    found: dict[str, tuple[Scheme, int]] = {}
    for scheme in (assignment or {}).values():
        before = found.get(label_of(scheme), (scheme, 0))[1]
        found[label_of(scheme)] = (scheme, before + 1)
    return [(scheme, count / len(assignment or ())) for scheme, count in found.values()]


def quantize_choice(bench: Bench, spec: Spec, windows: Windows | None) -> Need:
    """The dense weights of a scheme or a plan."""
    parts = [(values(bench, scheme, windows), part) for scheme, part in schemes_of_choice(bench, spec)]
    seconds = sum(part * one.seconds for one, part in parts)
    most = max((one for one, _ in parts), key=lambda one: one.peak, default=Need())
    return Need(seconds, most.peak, most.kept)


def reads(bench: Bench, spec: Spec) -> bool:
    """Whether a choice of quantization reads the calibration text."""
    return any(reads_text(scheme) for scheme, _ in schemes_of_choice(bench, spec))


def gather(bench: Bench, asked: Sequence[Asked], windows: Windows, spec: Spec, *, quantized: bool = False) -> Need:
    """Statistics and quantized weights for some metrics."""
    needs = {need for one in asked for need in one.method.needs if need in LEVELS}
    parts = [collect(bench, windows, needs)] if needs else []
    if quantized or any(one.compares for one in asked):
        chosen = spec if spec.get("scheme") or spec.get("plan") else {"scheme": DEFAULT_SCHEME.to_json()}
        parts.append(quantize_choice(bench, chosen, windows))
    return in_turn(parts)


def score(bench: Bench, asked: Sequence[Asked], windows: Windows) -> Need:
    """Gradient sweeps, and every metric on every matrix."""
    parts = []
    for group in sweeps_for([one for one in asked if one.gradients]):
        needs = {need for one in group for need in one.method.needs if need not in LEVELS}
        parts.append(gradients(bench, windows, needs, max(one.nodes for one in group) or 1).let_go())
    largest = 8 * max(columns**2 + 3 * rows * columns for rows, columns in bench.shape.matrices)
    seconds = sum(bench.scoring(one.method, one.options) for one in asked)
    return in_turn([*parts, Need(seconds, largest)])


@costs_of("salience", "salience_export")
def salience(bench: Bench, spec: Spec) -> Need:
    """One metric over all matrices."""
    asked, windows = [ask(spec["metric"], spec["options"])], bench.calibration(spec)
    whole = gather(bench, asked, windows, spec).then(score(bench, asked, windows))
    tables = len(bench.shape.matrices) * TABLES + SORTED * bench.shape.weights * bench.units.sort
    kept = dense(bench) if "top" in spec or spec.get("tensors") or spec.get("keep") is not None else 0
    return whole.then(Need(tables, 3 * kept, kept))


@costs_of("agreement")
def agreement(bench: Bench, spec: Spec) -> Need:
    """Several metrics held against each other, by rank."""
    asked, windows = ask_for_weights(spec["metrics"]), bench.calibration(spec, DETACH_TOKENS)
    whole = gather(bench, asked, windows, spec).then(score(bench, asked, windows))
    ranked = sum(min(SAMPLED, rows * columns) for rows, columns in bench.shape.matrices)
    ranked += min(SAMPLED, bench.shape.weights)
    seconds = 2 * SORT * len(asked) * ranked * bench.units.touch
    seconds += 3e-5 * len(asked) ** 2 * len(bench.shape.matrices)
    return whole.then(Need(seconds, 2 * len(asked) * dense(bench), len(asked) * dense(bench)))


@costs_of("detach")
def detach(bench: Bench, spec: Spec) -> Need:
    """Metrics by what sparing their top weights saves, on two texts."""
    asked = ask_for_weights(spec["metrics"])
    seen, unseen = bench.calibration(spec, DETACH_TOKENS), bench.evaluation(spec, DETACH_TOKENS)
    whole = gather(bench, asked, seen, spec, quantized=True).then(score(bench, asked, seen))
    whole = whole.then(Need(0.0, (len(asked) + 1) * dense(bench), (len(asked) + 1) * dense(bench)))
    points = 1 + (len(asked) + 1) * len(spec["shares"])
    texts = [part for one in (seen, unseen) for part in (reference(bench, one), compare(bench, one, points))]
    masks = Need(points * SORT / 2 * bench.shape.weights * bench.units.touch, 3 * dense(bench))
    return in_turn([whole, *texts, masks])


@costs_of("layer_error")
def layer_error(bench: Bench, spec: Spec) -> Need:
    """All matrices under several schemes, errors from Gram matrices."""
    windows = bench.calibration(spec)
    chosen = {label_of(one): one for one in map(complete_scheme, spec["schemes"])}.values()
    errors = output_errors(bench)
    return collect(bench, windows, {"gram"}).then(
        in_turn(quantize(bench, one, windows).then(errors).let_go() for one in chosen)
    )


@costs_of("matrix_detail")
def matrix_detail(bench: Bench, spec: Spec) -> Need:
    """One matrix in every detail: Gram matrices of all, a walk to its block."""
    windows, scheme = bench.calibration(spec), complete_scheme(spec["scheme"])
    one = quantize(bench, scheme, windows).times(1 / len(bench.shape.matrices) if not reads_text(scheme) else 0.5)
    return collect(bench, windows, {"gram"}).then(one).then(only(0.05))


@costs_of("windows")
def windows(bench: Bench, spec: Spec) -> Need:
    """The gradient of every window alone."""
    text = bench.calibration(spec)
    softmax = 4 * text.tokens * bench.shape.vocabulary * bench.units.touch
    norms = 6 * len(text.ids) * bench.shape.weights * bench.units.touch
    return gradient_pass(bench, text, one_by_one=True).then(only(softmax + norms))


@costs_of("prompt_coverage")
def prompt_coverage(bench: Bench, spec: Spec) -> Need:
    """Gradients of the calibration text, of the prompt, and of passages as long."""
    text = bench.calibration(spec)
    length = min(LONGEST, len(bench.loaded.tokenizer(spec["prompt"], verbose=False)["input_ids"]))
    sweeps = 1 + min(PASSAGES, max(1, text.tokens // max(1, length)))
    one = bench.units.gradient_run + length * bench.units.gradient
    masks = (sweeps + 1) * SORT * bench.shape.weights * bench.units.touch
    kept = 3 * bench.shape.weights
    return gradients(bench, text, {"grad"}).then(Need(sweeps * one + masks, kept + dense(bench), kept))


@costs_of("signal")
def signal(bench: Bench, spec: Spec) -> Need:
    """Hidden states behind every block, of the full model and of quantized ones."""
    windows = bench.evaluation(spec, SIGNAL_TOKENS)
    body = forwards(bench, windows)
    sums = 12 * windows.tokens * bench.shape.hidden * bench.shape.blocks * bench.units.touch
    one = Need(
        (1 - bench.shape.head_share) * body.seconds + sums,
        body.peak + 8 * 2 * min(16, len(windows.ids)) * windows.window * bench.shape.hidden * bench.shape.blocks,
    )
    parts = [one]
    for document in spec["schemes"]:
        scheme = complete_scheme(document)
        seen = bench.calibration({**spec, "tokens": None}) if reads_text(scheme) else None
        parts.append(values(bench, scheme, seen).then(one.times(2)).let_go())
    return in_turn(parts)
