"""What the court holds predictions against: the measured loss change of one quantized matrix, and of all at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from workbench.measures.perplexity import paired_difference, summarize
from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix
from workbench.model.texts import Windows
from workbench.progress import Steps, within
from workbench.scheme import Scheme
from workbench.studies.context import Context, cell_key
from workbench.studies.court_parts import RiseWork, missing_parts
from workbench.studies.reference import Reference, compare, reference
from workbench.vocabulary import STUDY_VERSION

Dense = Mapping[str, Tensor]
"""Matrix name -> its dequantized weight."""


@dataclass
class Truth:
    """Measured rises of the loss on one text, nats a token.

    Attributes:
        reference_loss: of the full model.
        joint: width -> rise with all matrices quantized.
        isolated: (matrix name, width) -> rise with that one quantized.
        joint_error: width -> paired standard error of the joint rise.
        isolated_error: likewise of the isolated ones.
    """

    reference_loss: float
    joint: dict[int, float] = field(default_factory=dict)
    isolated: dict[tuple[str, int], float] = field(default_factory=dict)
    joint_error: dict[int, float] = field(default_factory=dict)
    isolated_error: dict[tuple[str, int], float] = field(default_factory=dict)


def measure(
    loaded: LoadedModel,
    windows: Windows,
    fed_by: Windows,
    matrices: Sequence[Matrix],
    weights: Sequence[tuple[Scheme, Dense]],
    context: Context,
) -> Steps[Truth]:
    """Measure every width together and every matrix alone; cells that the store knows are not measured again.

    Args:
        loaded: the model.
        windows: the text that measures.
        fed_by: the text whose statistics the quantizer read.
        matrices: what was quantized.
        weights: each scheme with the dense weights of all matrices.
        context: holds the store.
    """
    full = yield from within(reference(loaded, windows), 0.0, 0.02)
    truth = Truth(summarize(full.losses).loss)
    if context.crew is not None:
        schemes = [scheme for scheme, _ in weights]
        parts = missing_parts(context, (None, *matrices), schemes, lambda *one: _key(loaded, windows, fed_by, *one))
        yield from within(context.spread(loaded, RiseWork(windows, fed_by), parts), 0.02, 1.0)
    total, done = len(weights) * (1 + len(matrices)), 0
    for scheme, dense in weights:
        for matrix in (None, *matrices):
            subset = dense if matrix is None else {matrix.name: dense[matrix.name]}
            start, end = (0.02 + 0.98 * place / total for place in (done, done + 1))
            key = _key(loaded, windows, fed_by, matrix, scheme)
            found = yield from within(rise(full, subset, key, f"{scheme.label}: {_title(matrix)}", context), start, end)
            _note(truth, matrix, int(scheme.bits or 0), found)
            done += 1
    return truth


def _title(matrix: Matrix | None) -> str:
    return "all matrices" if matrix is None else matrix.name


def _note(truth: Truth, matrix: Matrix | None, bits: int, found: Mapping[str, float]) -> None:
    if matrix is None:
        truth.joint[bits], truth.joint_error[bits] = found["loss"], found["loss_error"]
    else:
        cell = (matrix.name, bits)
        truth.isolated[cell], truth.isolated_error[cell] = found["loss"], found["loss_error"]


def rise(full: Reference, weights: Dense, key: str, note: str, context: Context) -> Steps[dict[str, Any]]:
    """The rise of the loss with some weights quantized, as the store has it, or measured and kept."""
    held = context.cells.get_cells([key])
    if key in held:
        return held[key]
    compared = yield from compare(full, weights, note)
    difference = paired_difference(compared.losses, full.losses)
    cell = {"loss": difference.difference, "loss_error": difference.standard_error}
    context.cells.put_cell(key, cell)
    return cell


def _key(loaded: LoadedModel, windows: Windows, fed_by: Windows, matrix: Matrix | None, scheme: Scheme) -> str:
    return cell_key(
        {
            "study": "court",
            "version": STUDY_VERSION,
            "model": loaded.identity.digest,
            "windows": windows.digest,
            "fed_by": fed_by.digest,
            "matrix": None if matrix is None else matrix.name,
            "scheme": scheme.to_json(),
        }
    )
