"""Statistics of all sites of a model over a set of windows: looked up, merged, kept in one safetensors file."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
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
from workbench.model.sites import LEVELS, SAMPLE, SiteStatistics, merge_sites
from workbench.model.sites_file import SitesFile
from workbench.model.texts import Windows

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
    sites: Mapping[str, SiteStatistics]
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
        if isinstance(self.sites, SitesFile):
            return self.sites.held
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
