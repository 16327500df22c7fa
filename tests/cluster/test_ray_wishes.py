"""What can be wished for, and what is said when there is no Ray or no cluster."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from workbench import settings
from workbench.cli.sweeping import read_sweep
from workbench.cluster import connection
from workbench.cluster.run import model_of
from workbench.cluster.wish import Wish, from_environment
from workbench.errors import WorkbenchError
from workbench.jobs.client import Client
from workbench.progress import run


@pytest.mark.parametrize("address", ["local", "auto", "10.0.0.5:6379", "ray://head.example:10001", "[::1]:6379"])
def test_addresses_are_taken(address: str) -> None:
    assert Wish(address).check().address == address


@pytest.mark.parametrize("address", ["", "head", "http://h:80", "10.0.0.5:0", "h:70000", "ray://", "a b:1"])
def test_other_addresses_are_named_with_the_choices(address: str) -> None:
    with pytest.raises(WorkbenchError, match=r"--ray has value '.*'; choose local, auto, or an address"):
        Wish(address).check()


@pytest.mark.parametrize(("gpus", "fine"), [(0, True), (0.5, True), (2, True), (1.5, False), (-1, False)])
def test_a_worker_has_a_part_of_one_gpu_or_whole_ones(gpus: float, fine: bool) -> None:
    if fine:
        Wish("local", gpus=gpus).check()
    else:
        with pytest.raises(WorkbenchError, match="--gpus-per-worker has value"):
            Wish("local", gpus=gpus).check()


def test_options_without_a_cluster_are_refused() -> None:
    for given, flag in (({"workers": 2}, "--workers"), ({"gpus_per_worker": 0.5}, "--gpus-per-worker")):
        with pytest.raises(WorkbenchError, match=f"{flag} was given without --ray"):
            read_sweep(**given)
    with pytest.raises(WorkbenchError, match="--workers has value 0"):
        read_sweep(ray="local", workers=0)
    with pytest.raises(WorkbenchError, match="--memory-limit has value 'much'; write a size"):
        read_sweep(memory_limit="much")
    assert read_sweep(memory_limit="4GiB", ray="local", workers=2, threads=3).wish == Wish("local", 2, 0.0, 3)


def test_the_app_reads_its_wish_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORKBENCH_RAY", "WORKBENCH_WORKERS", "WORKBENCH_GPUS_PER_WORKER"):
        monkeypatch.delenv(name, raising=False)
    assert from_environment() is None
    monkeypatch.setenv("WORKBENCH_RAY", "local")
    monkeypatch.setenv("WORKBENCH_WORKERS", "3")
    monkeypatch.setenv("WORKBENCH_GPUS_PER_WORKER", "0.5")
    assert from_environment() == Wish("local", 3, 0.5)
    monkeypatch.setenv("WORKBENCH_WORKERS", "many")
    with pytest.raises(WorkbenchError, match="WORKBENCH_WORKERS has value 'many'; write a whole number"):
        from_environment()


def test_a_wrong_wish_is_said_where_a_job_is_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_RAY", "somewhere")
    with pytest.raises(WorkbenchError, match="--ray has value 'somewhere'"):
        Client().ensure_worker()


def test_without_ray_the_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(WorkbenchError, match=r'Ray is not installed.*pip install "salience-workbench\[cluster\]"'):
        run(connection.connect(Wish("local"), 1))


def test_an_address_where_nothing_listens_is_named_with_the_seconds() -> None:
    pytest.importorskip("ray", reason="Ray is not installed (extra cluster)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    for given in (address, f"ray://{address}"):
        with pytest.raises(WorkbenchError, match=rf"no Ray cluster answers at '{given}' \(.*waited 20 seconds at most"):
            run(connection.connect(Wish(given), 1))


def in_a_process(code: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", code]
    return subprocess.run(line, capture_output=True, text=True, cwd=settings.PROJECT, timeout=120, check=False)


@pytest.fixture
def silent() -> Iterator[str]:
    """An address where something listens that is no Ray cluster."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.slow
def test_something_else_that_listens_is_given_up_in_time(silent: str) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (extra cluster)")
    code = (
        "import sys; from workbench.cluster import connection; connection.PATIENCE = 3; from workbench import cli;"
        f"sys.exit(cli.run(['sensitivity', 'demo', '--quiet', '--ray', '{silent}']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=settings.PROJECT, timeout=90
    )
    assert done.returncode == 2
    assert f"'{silent}' does not answer as a Ray cluster within 3 seconds" in done.stderr


def test_no_cluster_on_this_machine_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**given: object) -> None:
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False, init=init))
    with pytest.raises(WorkbenchError, match=r"this machine belongs to no Ray cluster .*`ray start --head`"):
        run(connection.connect(Wish("auto"), 1))


def test_workers_are_told_where_the_model_lies(tiny_llama_folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(tiny_llama_folder)
    assert model_of("court", {"model": folder, "memory_limit": "2 GiB"}) == {
        "name": folder,
        "allow_download": False,
        "encoders": False,
        "memory_limit": 2**31,
    }
    monkeypatch.setenv("WORKBENCH_MODELS", str(tiny_llama_folder.parent))
    assert model_of("drift", {"model": "tiny-llama"})["name"] == folder
    assert model_of("drift", {"model": "tiny-llama"})["encoders"]
    assert model_of("court", {"model": "owner/name", "allow_download": True})["name"] == "owner/name"
    assert model_of("court", {"model": "demo"})["name"] == "demo"


def test_help_of_a_sweep_imports_neither_ray_nor_torch() -> None:
    code = (
        "import sys, json; from workbench import cli; codes = [cli.run([c, '--help']) for c in ('court', 'salience')];"
        "held = [name for name in ('ray', 'torch', 'transformers') if name in sys.modules];"
        "print(json.dumps([codes, held]), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=settings.PROJECT, check=True
    )
    assert json.loads(done.stderr) == [[0, 0], []]
    court, salience = done.stdout.split("salience", 1)
    for flag in ("--ray", "--workers", "--gpus-per-worker"):
        assert flag in court
        assert flag not in salience
    assert court.count("--memory-limit") == salience.count("--memory-limit") == 1
