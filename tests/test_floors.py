"""Who may import whom: the floor plan, read from the syntax trees, and what that keeps out of the UI process."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"torch", "transformers", "captum", "triton", "lowbit"}
SHOWN = {"streamlit", "plotly"}
METHODS = ("salience", "attribution", "quantizers", "measures")

# room -> what its modules must not import: first names of packages, or dotted names inside the project
FORBIDDEN: dict[str, set[str]] = {
    "kernels/lowbit": {"workbench", "transformers", "pandas", *SHOWN},
    "workbench/salience": {
        "pandas",
        "transformers",
        *SHOWN,
        "workbench.studies",
        "workbench.measures",
        "workbench.attribution",
        "workbench.quantizers",
    },
    "workbench/attribution": {
        "pandas",
        *SHOWN,
        "workbench.studies",
        "workbench.measures",
        "workbench.salience",
        "workbench.quantizers",
    },
    "workbench/quantizers": {
        "pandas",
        "transformers",
        *SHOWN,
        "workbench.studies",
        "workbench.measures",
        "workbench.attribution",
        "workbench.salience",
    },
    "workbench/measures": {
        "pandas",
        "transformers",
        *SHOWN,
        "workbench.studies",
        "workbench.salience",
        "workbench.attribution",
        "workbench.quantizers",
    },
    "workbench/model": {"pandas", *SHOWN, *(f"workbench.{room}" for room in METHODS), "workbench.studies"},
    "workbench/studies": {
        *SHOWN,
        "workbench.cluster",
        "workbench.jobs",
        "workbench.figures",
        "workbench.ui",
        "workbench.cli",
    },
    "workbench/allocation": {*HEAVY, *SHOWN, "workbench.studies", "workbench.model"},
    "workbench/bundle": {*HEAVY, *SHOWN, "workbench.studies", "workbench.ui", "workbench.cli"},
    "workbench/cluster": {*SHOWN, "pandas", "workbench.jobs", "workbench.ui", "workbench.figures", "workbench.cli"},
    "workbench/jobs": {*SHOWN, "workbench.ui", "workbench.figures", "workbench.cli"},
    "workbench/figures": {*HEAVY, "streamlit", "workbench.studies", "workbench.jobs", "workbench.ui"},
    "workbench/report": {*HEAVY, "streamlit", "workbench.studies", "workbench.jobs", "workbench.cli"},
    "workbench/ui": {*HEAVY, "workbench.studies", "workbench.cli"},
    "workbench/cli": {*SHOWN, "workbench.ui"},
    "pages": {*HEAVY, "workbench.studies", "workbench.model", "workbench.cli"},
}
DUMPS = {"utils", "helpers", "common", "manager"}


def modules_in(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    """Dotted names of everything a file imports, wherever in the file it does so."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def offends(name: str, forbidden: set[str]) -> bool:
    return any(name == bad or name.startswith(f"{bad}.") for bad in forbidden)


@pytest.mark.parametrize("room", sorted(FORBIDDEN))
def test_a_room_imports_only_what_the_floor_plan_allows(room: str) -> None:
    files = modules_in(room)
    assert files, f"room {room} is empty"
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imports_of(path)
        if offends(name, FORBIDDEN[room])
    }
    assert not wrong


def test_entry_points_of_the_app_keep_torch_out() -> None:
    for name in ("app.py", "asgi.py"):
        assert not {found for found in imports_of(ROOT / name) if offends(found, HEAVY)}


def test_ray_is_imported_in_the_room_of_the_cluster_alone() -> None:
    outside = [p for room in ("workbench", "kernels", "pages") for p in modules_in(room) if p.parent.name != "cluster"]
    assert not [path for path in outside if any(offends(name, {"ray"}) for name in imports_of(path))]
    inside = {dotted(path): path for path in modules_in("workbench/cluster")}
    assert not [name for name, path in inside.items() if "ray" in top_level_imports(path, {"ray": path})]


def test_no_module_is_called_by_a_name_that_says_nothing() -> None:
    named = [p for room in ("workbench", "kernels", "pages") for p in modules_in(room) if p.stem in DUMPS]
    assert not named


def test_no_import_cycles_between_modules_of_the_project() -> None:
    names = {dotted(path): path for room in ("workbench", "kernels/lowbit") for path in modules_in(room)}
    graph = {name: top_level_imports(path, names) - {name} for name, path in names.items()}
    while True:
        leaves = {name for name, needs in graph.items() if not needs & graph.keys()}
        if not leaves:
            break
        graph = {name: needs for name, needs in graph.items() if name not in leaves}
    assert not graph, f"these modules import each other: {sorted(graph)}"


def dotted(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    parts = parts[1:] if parts[0] == "kernels" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def top_level_imports(path: Path, names: dict[str, Path]) -> set[str]:
    """Modules of the project that a file imports at its top level, not inside functions or for types alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in names else node.module for name in whole}
    return found & names.keys()


@pytest.mark.parametrize(
    "module",
    [
        "workbench",
        "workbench.jobs.client",
        "workbench.cluster.wish",
        "workbench.allocation.plan",
        "workbench.allocation.solve",
        "workbench.figures.style",
        "workbench.ui.defaults",
        "workbench.results",
        "workbench.settings",
        "workbench.cli",
        "workbench.registry",
    ],
)
def test_importing_it_leaves_torch_out_of_the_process(module: str) -> None:
    code = (
        f"import sys, {module}; print([n for n in ('torch', 'transformers', 'triton', 'captum') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"
