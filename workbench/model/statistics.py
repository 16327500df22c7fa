"""One sweep over the calibration windows gives every method the statistics of activations that it needs.

Forward hooks on a run of the whole model see the inputs of all sites. Sums are held in float64 and add up, so that
parts can be computed apart and merged. On disk they lie as safetensors under a fingerprint of model, windows and type.
Gradients are not collected here.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from workbench.errors import WorkbenchError, shown
from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix
from workbench.model.overlay import is_overlaid
from workbench.model.sites import LEVELS, SAMPLE, SiteStatistics, check_needs, merge_sites
from workbench.model.sweep import sweep
from workbench.model.texts import Windows
from workbench.progress import Steps

__all__ = ["LEVELS", "SiteStatistics", "Statistics", "collect"]

FORMAT = "1"


@dataclass(eq=False)
class Statistics:
    """Statistics of all sites of a model over a set of windows.

    Attributes:
        fingerprint: model digest, windows digest, type and format, joined by `-`.
        sites: site -> its statistics.
        sample_keys: the random keys by which the sampled tokens were chosen, ascending; the smallest win, so that the
            sample of two halves merged is the sample of the whole.
    """

    fingerprint: str
    sites: dict[str, SiteStatistics]
    sample_keys: Int64[Tensor, " rows"]

    def of(self, matrix: Matrix) -> SiteStatistics:
        """The statistics of a matrix's input.

        Raises:
            WorkbenchError: its site was not seen, because the statistics are of another model.
        """
        if matrix.site not in self.sites:
            raise WorkbenchError(f"the statistics hold nothing for the input of {shown(matrix.name)}")
        return self.sites[matrix.site]

    def gram_of(self, matrix: Matrix) -> Float[Tensor, "in in"]:
        """The Gram matrix of a matrix's input.

        Raises:
            WorkbenchError: the site was not seen, or the Gram was not collected.
        """
        gram = self.of(matrix).gram
        if gram is None:
            raise WorkbenchError(f"the Gram of {shown(matrix.name)}'s input was not collected; collect 'gram'")
        return gram

    def check(self, loaded: LoadedModel, windows: Windows | None) -> None:
        """Refuse statistics of something else.

        Raises:
            WorkbenchError: the fingerprint is of another model, or of another text than `windows`.
        """
        model, text = self.fingerprint.split("-")[:2]
        if model != loaded.identity.digest:
            raise WorkbenchError(
                f"these statistics are of model {model}; the model at hand is {loaded.identity.digest}"
            )
        if windows is not None and text != windows.digest:
            raise WorkbenchError(f"these statistics are of the text windows {text}; those at hand are {windows.digest}")

    @property
    def held(self) -> set[str]:
        """The names of `LEVELS` that every site holds."""
        return set(LEVELS).intersection(*(site.tensors() for site in self.sites.values()))

    def merge(self, other: Statistics) -> Statistics:
        """The statistics of both sets of windows together.

        Raises:
            WorkbenchError: they are of different models or sites.
        """
        mine, theirs = self.fingerprint.split("-"), other.fingerprint.split("-")
        if (mine[0], *mine[2:]) != (theirs[0], *theirs[2:]) or set(self.sites) != set(other.sites):
            raise WorkbenchError(f"statistics {self.fingerprint} and {other.fingerprint} are not of the same model")
        both = hashlib.sha256(" ".join(sorted([mine[1], theirs[1]])).encode()).hexdigest()[:16]
        keys = torch.cat([self.sample_keys, other.sample_keys])
        kept = keys.argsort(stable=True)[:SAMPLE]
        sites = {name: merge_sites(site, other.sites[name], kept) for name, site in self.sites.items()}
        return Statistics("-".join([mine[0], both, *mine[2:]]), sites, keys[kept])

    def save(self, path: Path) -> None:
        """Write to one safetensors file, whole or not at all.

        Raises:
            WorkbenchError: the file cannot be written.
        """
        tensors = {f"{name}:{site}": t for site, one in self.sites.items() for name, t in one.tensors().items()}
        tokens = {site: one.tokens for site, one in self.sites.items()}
        facts = {"format": FORMAT, "fingerprint": self.fingerprint, "tokens": json.dumps(tokens)}
        partial = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, partial = tempfile.mkstemp(prefix=".partial-", dir=path.parent)
            os.close(descriptor)
            save_file({**tensors, "sample_keys": self.sample_keys}, partial, metadata=facts)
            os.replace(partial, path)
        except (OSError, SafetensorError) as error:
            if partial is not None:
                Path(partial).unlink(missing_ok=True)
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)[:80]
            raise WorkbenchError(
                f"the statistics cannot be written to the folder {shown(str(path.parent))} ({reason}); "
                "free space there, or set WORKBENCH_CACHE to a folder that can be written"
            ) from error

    @staticmethod
    def load(path: Path) -> Statistics:
        """Read what `save` wrote.

        Raises:
            WorkbenchError: not there, damaged, or of another format.
        """
        try:
            with safe_open(path, framework="pt") as file:
                facts = file.metadata() or {}
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a mapping)
            if facts.get("format") != FORMAT:
                raise WorkbenchError(
                    f"statistics {shown(path.name)} have format {shown(facts.get('format'))}; this is {FORMAT}"
                )
            return Statistics(
                facts["fingerprint"], _sites(tensors, json.loads(facts["tokens"])), tensors["sample_keys"]
            )
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise WorkbenchError(f"statistics {shown(path.name)} cannot be read: {type(error).__name__}") from error


def _sites(tensors: Mapping[str, Tensor], tokens: Mapping[str, int]) -> dict[str, SiteStatistics]:
    held: dict[str, dict[str, Any]] = {site: {} for site in tokens}
    for key, tensor in tensors.items():
        name, _, site = key.partition(":")
        if site:
            held[site][name] = tensor
    return {site: SiteStatistics(tokens=tokens[site], **parts) for site, parts in held.items()}


def collect(
    loaded: LoadedModel, windows: Windows, *, needs: Collection[str], folder: Path | None = None
) -> Steps[Statistics]:
    """Run the windows through the model once and gather statistics of the inputs of every matrix.

    Args:
        loaded: the model; its hooks are gone again when the generator ends, is closed or raises.
        windows: calibration windows.
        needs: names from `LEVELS`.
        folder: where statistics are kept. A file there that holds what is needed is read instead of computing; one that
            holds less is replaced by one that holds both. Not used while other weights are laid over the model.

    Raises:
        WorkbenchError: an unknown need, or more memory than there is.
    """
    wanted = check_needs(needs)
    overlaid = is_overlaid(loaded.model)
    fingerprint = "-".join([loaded.identity.digest, windows.digest, "overlaid" if overlaid else "float32", FORMAT])
    file = None if folder is None or overlaid else folder / f"{fingerprint}.safetensors"
    known = _read(file, fingerprint)
    if known is not None and wanted <= known.held:
        return known
    wanted |= known.held if known is not None else set()
    statistics = Statistics(fingerprint, *(yield from sweep(loaded.model, windows.ids, wanted)))
    if file is not None:
        statistics.save(file)
    return statistics


def _read(file: Path | None, fingerprint: str) -> Statistics | None:
    """Statistics from an earlier run, or None: what is missing, damaged or of another format is computed anew."""
    try:
        found = Statistics.load(file) if file is not None and file.is_file() else None
    except WorkbenchError:
        return None
    return found if found is not None and found.fingerprint == fingerprint else None
