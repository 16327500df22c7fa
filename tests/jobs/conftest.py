"""A client with a worker of fake studies, on a cache folder of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from workbench.jobs.client import Client
from workbench.jobs.job import Job
from workbench.jobs.store import Store

PROGRAM = "tests.jobs.fake_program"
PATIENCE = 20.0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "workbench.sqlite")


@pytest.fixture
def make_client(tmp_path: Path) -> Iterator[Callable[..., Client]]:
    """Makes clients on the same cache folder, and ends their workers after the test."""
    made: list[Client] = []

    def make(program: str | None = PROGRAM) -> Client:
        made.append(Client(tmp_path / "cache", program=program))
        return made[-1]

    yield make
    for client in made:
        client.stop()


@pytest.fixture
def client(make_client: Callable[..., Client]) -> Client:
    return make_client()


@pytest.fixture
def until() -> Callable[..., None]:
    """Wait until a question is answered with something true."""

    def wait(question: Callable[[], object], patience: float = PATIENCE) -> None:
        limit = time.monotonic() + patience
        while not question():
            assert time.monotonic() < limit, f"not within {patience} s"
            time.sleep(0.05)

    return wait


@pytest.fixture
def ended(until: Callable[..., None]) -> Callable[[Client, Job], Job]:
    """The job once it has ended, asked for as a page does."""

    def wait(client: Client, job: Job) -> Job:
        until(lambda: not client.job(job.id).active)
        return client.job(job.id)

    return wait


@pytest.fixture
def started(until: Callable[..., None]) -> Callable[[Client, Job], Job]:
    """The job once its study has reported something."""

    def wait(client: Client, job: Job) -> Job:
        until(lambda: client.job(job.id).state == "running" and client.job(job.id).note)
        return client.job(job.id)

    return wait
