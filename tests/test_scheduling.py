"""The simulated queue against what is known in closed form."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.scheduling import Crew, bounds, simulate

PARTS = st.lists(st.floats(0.01, 50), min_size=1, max_size=60)
WORKERS = st.integers(1, 9)


@pytest.mark.parametrize(("count", "workers"), [(12, 4), (13, 4), (1, 8), (224, 7), (5, 5)])
def test_equal_parts(count: int, workers: int) -> None:
    outcome = simulate([2.5] * count, Crew(workers, load=10.0))
    assert outcome.makespan == pytest.approx(10.0 + math.ceil(count / workers) * 2.5)
    assert sum(outcome.busy) == pytest.approx(2.5 * count)


@given(PARTS)
def test_one_worker_takes_the_sum(parts: list[float]) -> None:
    assert simulate(parts, Crew(1, load=3.0)).makespan == pytest.approx(3.0 + sum(parts))
    paced = simulate(parts, Crew(1, load=3.0, in_flight=2, bunch_seconds=2.0))
    assert paced.makespan == pytest.approx(3.0 + sum(parts))
    assert list(paced.done) == list(range(len(parts)))


@given(PARTS, WORKERS)
def test_between_the_lower_bound_and_grahams(parts: list[float], workers: int) -> None:
    least, most = bounds(parts, workers)
    outcome = simulate(parts, Crew(workers))
    assert least - 1e-9 <= outcome.makespan <= most + 1e-9
    assert sorted(outcome.done) == list(range(len(parts)))
    assert max(outcome.busy) <= outcome.makespan + 1e-9


@given(PARTS, WORKERS, st.integers(1, 3), st.floats(0, 5))
def test_bunches_lose_no_part_and_beat_no_bound(
    parts: list[float], workers: int, in_flight: int, seconds: float
) -> None:
    outcome = simulate(parts, Crew(workers, load=1.0, in_flight=in_flight, bunch_seconds=seconds, message=0.01))
    assert outcome.makespan >= 1.0 + bounds(parts, workers)[0] - 1e-9
    assert sorted(outcome.done) == list(range(len(parts)))


@given(PARTS, WORKERS, st.lists(st.tuples(st.floats(0, 300), st.integers(0, 8)), max_size=5))
def test_ended_workers_lose_no_part(parts: list[float], workers: int, ended: list[tuple[float, int]]) -> None:
    hit = [(time, place % workers) for time, place in ended]
    outcome = simulate(parts, Crew(workers, load=2.0, in_flight=2, bunch_seconds=2.0), hit)
    assert sorted(outcome.done) == list(range(len(parts)))
    assert sum(outcome.busy) == pytest.approx(sum(parts))


def test_an_ended_worker_costs_its_running_part_and_a_load() -> None:
    # 10 parts of 4 s after a load of 6 s; at 20 s the fourth has run for 2 s
    outcome = simulate([4.0] * 10, Crew(1, load=6.0), [(20.0, 0)])
    assert outcome.lost == pytest.approx(2.0)
    assert outcome.makespan == pytest.approx(20.0 + 6.0 + 7 * 4.0)


def test_its_parts_go_to_one_who_had_run_out() -> None:
    # two workers, two parts: the first ends at 3 s, the second has been idle since 1 s
    outcome = simulate([10.0, 1.0], Crew(2, load=0.0), [(3.0, 0)])
    assert outcome.makespan == pytest.approx(13.0)
    assert outcome.lost == pytest.approx(3.0)


def test_a_bunch_that_waits_behind_another_one_makes_the_end_uneven() -> None:
    assert simulate([1.0] * 3, Crew(2, in_flight=2)).makespan == pytest.approx(2.0)
    assert simulate([4.0, 4.0, 1.0, 1.0], Crew(2, in_flight=2)).makespan == pytest.approx(8.0)
    assert simulate([4.0, 4.0, 1.0, 1.0], Crew(2)).makespan == pytest.approx(5.0)
