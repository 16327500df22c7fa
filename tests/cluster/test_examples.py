"""The examples for clusters: shell that parses, documents with their required fields, commands that ours are."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import workbench
from workbench import settings
from workbench.cli import app
from workbench.cli.sweeping import read_sweep

EXAMPLES = settings.PROJECT / "docs" / "cluster"
OWN = ("ray", "workers", "gpus_per_worker", "memory_limit", "threads")


def parsed(words: list[str]) -> dict[str, Any]:
    """The parameters of a command line of ours, parsed by the very parser that runs it, and its wish checked."""
    group = typer.main.get_command(app)
    assert words[0] == "workbench"
    command = group.commands[words[1]]  # type: ignore[attr-defined]
    found = command.make_context(words[1], words[2:]).params
    wish = read_sweep(**{name: found[name] for name in OWN}).wish
    assert wish is not None
    return found


def shell_command(path: Path) -> list[str]:
    """The line that starts with `workbench`, continued lines joined and variables set to what they are by default."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    values = dict(re.findall(r": \"\$\{(\w+):=([^}]*)\}\"", text)) | {"HEAD_ADDRESS": "10.0.0.5", "PORT": "6379"}
    line = re.search(r"(?:^|\s)(workbench (?:sensitivity|court) .*)$", text, re.MULTILINE)
    assert line
    return shlex.split(re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], line[1]))


@pytest.mark.parametrize("name", ["job_submit.sh", "slurm.sbatch"])
def test_shell_examples_parse_and_run_a_command_of_ours(name: str) -> None:
    subprocess.run(["bash", "-n", str(EXAMPLES / name)], check=True)
    found = parsed(shell_command(EXAMPLES / name))
    assert found["model"] == "/shared/models/llama"
    assert found["gpus_per_worker"] == 0.5
    assert found["workers"] >= 8


def test_the_slurm_file_asks_for_what_its_workers_need() -> None:
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", (EXAMPLES / "slurm.sbatch").read_text(), re.MULTILINE))
    found = parsed(shell_command(EXAMPLES / "slurm.sbatch"))
    gpus = int(asked["nodes"]) * int(asked["gpus-per-node"])
    assert found["workers"] * found["gpus_per_worker"] <= gpus
    assert found["workers"] <= int(asked["nodes"]) * int(asked["cpus-per-task"])


def test_the_kubernetes_documents_have_their_fields() -> None:
    job, cluster = yaml.safe_load_all((EXAMPLES / "kuberay.yaml").read_text(encoding="utf-8"))
    assert [one["apiVersion"] for one in (job, cluster)] == ["ray.io/v1"] * 2
    assert [one["kind"] for one in (job, cluster)] == ["RayJob", "RayCluster"]
    found = parsed(shlex.split(job["spec"]["entrypoint"]))
    assert (found["ray"], found["workers"]) == ("auto", 8)
    assert yaml.safe_load(job["spec"]["runtimeEnvYAML"])["env_vars"]["WORKBENCH_CACHE"].startswith("/shared/")
    for spec in (job["spec"]["rayClusterSpec"], cluster["spec"]):
        groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
        assert all("rayStartParams" in group for group in groups)
        for group in groups:
            pod = group["template"]["spec"]
            volumes = {volume["name"] for volume in pod["volumes"]}
            for container in pod["containers"]:
                assert container["image"].endswith(f":{workbench.__version__}")
                assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
                assert container["resources"]["limits"] == container["resources"]["requests"]
        for group in spec["workerGroupSpecs"]:
            assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
            assert group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_the_image_has_the_ray_that_was_tested() -> None:
    pinned = re.search(r"^ray==(\S+)$", (settings.PROJECT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned
    for document in yaml.safe_load_all((EXAMPLES / "kuberay.yaml").read_text(encoding="utf-8")):
        spec = document["spec"].get("rayClusterSpec", document["spec"])
        assert spec["rayVersion"] == pinned[1]
