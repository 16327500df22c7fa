"""How many workers a cluster has room for."""

from __future__ import annotations

from typing import Any

from workbench.cluster.wish import Wish
from workbench.errors import WorkbenchError


def room(ray: Any, wish: Wish) -> int:
    """How many workers the machines of the cluster hold at once, as it is now."""
    found = 0
    for node in ray.nodes():
        if node["Alive"]:
            cpus, gpus = (node["Resources"].get(name, 0) for name in ("CPU", "GPU"))
            found += int(min(cpus, gpus / wish.gpus + 1e-9) if wish.gpus else cpus)
    return found


def no_room(ray: Any, wish: Wish, since: str) -> WorkbenchError:
    """The sentence for a cluster without a place for a worker."""
    held = ray.cluster_resources()
    machines = sum(node["Alive"] for node in ray.nodes())
    return WorkbenchError(
        f"the cluster has no room for a worker of 1 CPU and {wish.gpus:g} GPUs{since}; it has {held.get('CPU', 0):g}"
        f" CPUs and {held.get('GPU', 0):g} GPUs on {machines} machines"
    )
