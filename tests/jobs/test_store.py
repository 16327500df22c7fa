"""The state machine on its own: no worker process."""

from __future__ import annotations

import threading
import time

import pytest

from workbench.errors import WorkbenchError
from workbench.jobs.job import INTERACTIVE, LONG, Counts
from workbench.jobs.store import HISTORY_LIMIT, QUEUE_LIMIT, Store

FINISHED = ("done", "failed", "cancelled", "interrupted")


def submit(store: Store, key: str, priority: int = LONG) -> str:
    return store.submit("count", {"key": key}, key, priority=priority)


def in_state(store: Store, state: str) -> str:
    """A job that has been brought to that state by the operations of the store."""
    job = submit(store, state)
    if state == "queued":
        return job
    store.claim("w")
    if state == "interrupted":
        store.recover()
    elif state != "running":
        assert store.finish(job, state, "why" if state == "failed" else None)
    assert store.get(job).state == state
    return job


def test_a_job_is_queued_then_runs_then_is_done(store: Store) -> None:
    before = time.time()
    job = submit(store, "a")
    assert (store.get(job).state, store.get(job).spec, store.counts()) == ("queued", {"key": "a"}, Counts(0, 1))
    taken = store.claim("pid 7")
    assert taken is not None
    assert (taken.id, taken.state, taken.worker) == (job, "running", "pid 7")
    assert store.running() == taken
    assert store.progress(job, 3, 12, "block 3")
    assert store.finish(job, "done")
    done = store.get(job)
    assert (done.state, done.done, done.total, done.note, done.error) == ("done", 12, 12, "block 3", None)
    assert before <= done.created <= (done.started or 0) <= (done.heartbeat or 0) <= (done.ended or 0) <= time.time()


@pytest.mark.parametrize("state", FINISHED)
def test_nothing_changes_a_finished_job(store: Store, state: str) -> None:
    job = in_state(store, state)
    before = store.get(job)
    assert not store.progress(job, 1, 2, "late")
    assert not store.finish(job, "done")
    assert store.claim("w") is None
    assert store.recover() == []
    assert store.request_cancel(job) == before
    assert store.get(job) == before


def test_a_queued_job_cannot_end_before_it_was_claimed(store: Store) -> None:
    job = submit(store, "a")
    assert not store.finish(job, "done")
    assert not store.progress(job, 1, 2, "")
    assert store.recover() == []
    assert store.get(job).state == "queued"


@pytest.mark.parametrize("state", ["queued", "running"])
def test_the_same_question_joins_the_active_job(store: Store, state: str) -> None:
    job = in_state(store, state)
    assert submit(store, state) == job
    assert [one.id for one in store.recent()] == [job]
    assert submit(store, "other") != job


@pytest.mark.parametrize("state", FINISHED)
def test_the_same_question_runs_again_once_the_job_has_ended(store: Store, state: str) -> None:
    job = in_state(store, state)
    again = submit(store, state)
    assert again != job
    latest = store.latest(state)
    assert latest is not None
    assert latest.id == again


def test_interactive_jobs_go_first_and_otherwise_the_first_come(store: Store) -> None:
    order = [("a", LONG), ("b", INTERACTIVE), ("c", LONG), ("d", INTERACTIVE)]
    ids = {key: submit(store, key, priority) for key, priority in order}
    assert [store.ahead(ids[key]) for key in "bdac"] == [0, 1, 2, 3]
    taken = [store.claim("w") for _ in range(5)]
    assert [job.key if job else None for job in taken] == ["b", "d", "a", "c", None]
    assert store.ahead(ids["a"]) == 0


def test_many_threads_submitting_the_same_question_get_one_job(store: Store) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(submit(store, "same"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert len(store.recent()) == 1


def test_no_job_is_claimed_twice(store: Store) -> None:
    ids = [submit(store, str(number)) for number in range(12)]
    taken: list[str] = []

    def take() -> None:
        while (job := store.claim("w")) is not None:
            taken.append(job.id)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(ids)


def test_the_queue_has_an_end(store: Store) -> None:
    ids = [submit(store, str(number)) for number in range(QUEUE_LIMIT)]
    with pytest.raises(WorkbenchError, match=f"{QUEUE_LIMIT} jobs wait already"):
        submit(store, "one more")
    assert submit(store, "3") == ids[3], "joining a job that waits takes no place"
    store.request_cancel(ids[0])
    submit(store, "one more")


def test_a_queued_job_is_cancelled_at_once_and_a_running_one_is_asked(store: Store) -> None:
    queued, running = submit(store, "long"), submit(store, "now", INTERACTIVE)
    store.claim("w")
    assert store.request_cancel(queued).state == "cancelled"
    asked = store.request_cancel(running)
    assert asked.state == "running"
    assert asked.cancel_asked is not None
    assert not store.cancel_ignored(running, seconds=60)
    assert store.cancel_ignored(running, seconds=-1)
    assert store.request_cancel(running).cancel_asked == asked.cancel_asked, "asking again does not extend the time"
    assert not store.progress(running, 1, 2, ""), "the next report says that it should stop"


def test_recovery_interrupts_what_ran_and_cancels_what_was_to_be_cancelled(store: Store) -> None:
    first, second, waiting = (submit(store, key) for key in "abc")
    store.claim("w"), store.claim("w")
    store.request_cancel(second)
    assert set(store.recover()) == {first, second}
    assert [store.get(job).state for job in (first, second, waiting)] == ["interrupted", "cancelled", "queued"]
    assert "run it again" in (store.get(first).error or "")


def test_old_finished_jobs_are_forgotten(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.jobs.store.HISTORY_LIMIT", 5)
    assert HISTORY_LIMIT > 100
    waiting = submit(store, "waiting", LONG)
    for number in range(8):
        submit(store, str(number), INTERACTIVE)
        job = store.claim("w")
        assert job is not None
        store.finish(job.id, "done")
    assert [job.key for job in store.recent()] == ["7", "6", "5", "4", "3", "waiting"]
    assert store.get(waiting).state == "queued"


def test_an_unknown_job_is_named(store: Store) -> None:
    for ask in (store.get, store.request_cancel):
        with pytest.raises(WorkbenchError, match="there is no job 'x; drop table job'"):
            ask("x; drop table job")


def test_a_number_that_json_cannot_hold_is_refused(store: Store) -> None:
    with pytest.raises(WorkbenchError, match="a number that JSON cannot write"):
        store.submit("count", {"damping": float("nan")}, "k")


def test_cells_are_kept_by_key(store: Store) -> None:
    store.put_cell("a", {"value": 1.5, "standard_error": float("inf")})
    store.put_cell("b", [1, 2])
    store.put_cell("b", [3])
    asked = ["a", "b", "missing", *(f"other-{number}" for number in range(1200))]
    assert store.get_cells(asked) == {"a": {"value": 1.5, "standard_error": None}, "b": [3]}
    assert store.get_cells(iter(())) == {}


def test_descriptions_replace_each_other(store: Store) -> None:
    assert store.read("methods") is None
    store.publish("methods", {"salience": []})
    store.publish("methods", {"salience": [{"name": "wanda"}]})
    assert Store(store.path).read("methods") == {"salience": [{"name": "wanda"}]}
    store.withdraw("methods")
    assert store.read("methods") is None


def test_share_and_seconds_left(store: Store) -> None:
    submit(store, "a")
    job = store.claim("w")
    assert job is not None
    assert job.seconds_left(time.time()) is None
    store.progress(job.id, 1, 4, "")
    job = store.get(job.id)
    assert job.share == 0.25
    assert job.seconds_left((job.started or 0) + 10) == pytest.approx(30)
    store.progress(job.id, 0, 0, "")
    assert store.get(job.id).share == 0
