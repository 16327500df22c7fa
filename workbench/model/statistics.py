"""One sweep over the calibration windows gives every method the statistics of activations that it needs.

Forward hooks on a run of the whole model, or of one block after the other, see the inputs of all sites. Sums are held
in float64 and add up, so that parts can be computed apart and merged. On disk they lie as safetensors under a
fingerprint of model, windows and type. Gradients are not collected here.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel
from workbench.model.overlay import is_overlaid
from workbench.model.site_statistics import FORMAT, Statistics
from workbench.model.sites import LEVELS, SiteStatistics, check_needs
from workbench.model.sites_file import SitesFile
from workbench.model.sweep import sweep
from workbench.model.sweep_by_blocks import can_go_by_blocks, sweep_by_blocks
from workbench.model.texts import Windows
from workbench.progress import Steps

__all__ = ["LEVELS", "SiteStatistics", "Statistics", "collect"]


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
    known = _read(file, fingerprint, loaded.streamed)
    if known is not None and wanted <= known.held:
        return known
    wanted |= known.held if known is not None else set()
    if loaded.streamed and can_go_by_blocks(loaded.model):
        sites = yield from sweep_by_blocks(loaded.model, windows.ids, wanted, file, fingerprint, FORMAT)
        if sites is not None:
            return Statistics(fingerprint, sites, sites.sample_keys())
    statistics = Statistics(fingerprint, *(yield from sweep(loaded.model, windows.ids, wanted)))
    if file is not None:
        statistics.save(file)
    return statistics


def _read(file: Path | None, fingerprint: str, by_site: bool) -> Statistics | None:
    """Statistics from an earlier run, or None: what is missing, damaged or of another format is computed anew."""
    try:
        if file is None or not file.is_file():
            return None
        found = _on_disk(file) if by_site else Statistics.load(file)
    except WorkbenchError:
        return None
    return found if found.fingerprint == fingerprint else None


def _on_disk(file: Path) -> Statistics:
    sites = SitesFile(file)
    return Statistics(sites.facts.get("fingerprint", ""), sites, sites.sample_keys())
