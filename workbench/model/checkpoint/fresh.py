"""The proof of a checkpoint: a fresh process opens it without our code and must compute what we measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from workbench.errors import WorkbenchError, shown
from workbench.model.build import embedded_tokens
from workbench.model.load import LoadedModel
from workbench.model.overlay import overlay
from workbench.progress import Progress, Steps

PROGRAM = Path(__file__).with_name("plain_load.py")
SEQUENCES, LENGTH = 4, 64
TOLERANCE = 1e-4
"""Share of the largest logit by which two ways of rounding sums may differ; a wrong weight differs by far more."""
PATIENCE = 0.2


@dataclass(frozen=True)
class Reloaded:
    """What the fresh process found: the largest difference of a logit, and the versions that it ran with."""

    difference: float
    versions: dict[str, Any]


def trial_ids(loaded: LoadedModel) -> Int64[Tensor, "sequence token"]:
    """Random tokens, the same ones every time; a format error shows on any."""
    chance = torch.Generator().manual_seed(0)
    length = min(LENGTH, loaded.context)
    return torch.randint(embedded_tokens(loaded.model), (SEQUENCES, length), generator=chance)


def our_logits(
    loaded: LoadedModel, weights: Mapping[str, Tensor], ids: Int64[Tensor, "sequence token"]
) -> Float[Tensor, "sequence token vocab"]:
    """The logits of the model with these dense weights `[out, in]` laid over it."""
    with overlay(loaded.model, weights), torch.no_grad():
        return loaded.model(input_ids=ids, use_cache=False).logits.float()


def reload(folder: Path, loaded: LoadedModel, weights: Mapping[str, Tensor]) -> Steps[Reloaded]:
    """Open `folder` in a fresh process and compare its logits with ours.

    Args:
        folder: the checkpoint.
        loaded: the model that it was made from.
        weights: matrix name -> the dense weight `[out, in]` that it should stand for.

    Raises:
        WorkbenchError: it does not open, or computes something else.
    """
    ids = trial_ids(loaded)
    ours = our_logits(loaded, weights, ids)
    with tempfile.TemporaryDirectory(prefix="workbench-") as scratch:
        asked, answer = Path(scratch) / "asked.safetensors", Path(scratch) / "answer.safetensors"
        save_file({"ids": ids}, asked)
        printed = yield from _run([str(folder), str(asked), str(answer), str(torch.get_num_threads())])
        try:
            theirs, facts = load_file(answer)["logits"], json.loads(printed.splitlines()[-1])
        except (OSError, SafetensorError, KeyError, ValueError, IndexError) as error:
            raise WorkbenchError(f"the checkpoint was read back without an answer: {shown(error, 120)}") from error
    if not facts.pop("alone"):
        raise WorkbenchError("the process that read the checkpoint back had the workbench in it, which proves nothing")
    difference = float((theirs - ours).abs().max()) if theirs.shape == ours.shape else float("inf")
    most = float(ours.abs().max())
    if not difference <= TOLERANCE * most:
        raise WorkbenchError(
            f"a fresh process computes other logits from the checkpoint than were measured: they differ by up to "
            f"{difference:.3g} where the largest is {most:.3g}; it was not kept"
        )
    return Reloaded(difference, facts)


def _run(arguments: list[str]) -> Steps[str]:
    """What the program printed; it is stopped when the caller is."""
    quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
    program = [sys.executable, "-I", str(PROGRAM), *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(program, env={**os.environ, **quiet}, **pipes) as process:
        try:
            while True:
                try:
                    printed, complaints = process.communicate(timeout=PATIENCE)
                    break
                except subprocess.TimeoutExpired:
                    yield Progress(0, 1, "opening the checkpoint in a fresh process")
        finally:
            if process.poll() is None:
                process.kill()
    if process.returncode:
        last = (complaints.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
        raise WorkbenchError(f"plain transformers cannot open the checkpoint, so it was not kept: {shown(last, 200)}")
    return printed
