"""Where things lie: the cache folder, the models folder, the embedded model. No torch here."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path

PROJECT = Path(__file__).resolve().parent.parent


def cache_folder() -> Path:
    """Results, statistics and the job store: `WORKBENCH_CACHE`, or the platform's user cache folder."""
    given = os.environ.get("WORKBENCH_CACHE")
    return Path(given).expanduser() if given else user_cache_path("salience-workbench")


def demo_folder() -> Path:
    """The embedded model: `WORKBENCH_DEMO`, or the one that lies in the checkout."""
    given = os.environ.get("WORKBENCH_DEMO")
    return Path(given).expanduser() if given else PROJECT / "data" / "demo"


def models_folder() -> Path | None:
    """The folder whose sub-folders are offered as models: `WORKBENCH_MODELS`, or none."""
    given = os.environ.get("WORKBENCH_MODELS")
    return Path(given).expanduser().resolve() if given else None


def local_models() -> dict[str, Path]:
    """Name -> folder of the models that pages offer: sub-folders of the models folder that hold a config.json.

    A link that leads out of the models folder is not followed.
    """
    root = models_folder()
    if root is None or not root.is_dir():
        return {}
    found = {}
    for entry in sorted(root.iterdir()):
        folder = entry.resolve()
        if folder.is_relative_to(root) and (folder / "config.json").is_file():
            found[entry.name] = folder
    return found
