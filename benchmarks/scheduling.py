"""An event simulation of workers that take parts from one queue: load times, bunches in flight, workers that end.

It follows `workbench.cluster`: every worker loads the model, holds at most so many bunches at a time, hands the cells
of a bunch over when the bunch is done, and what an ended worker had goes back to the front of the queue. Time is in
seconds; nothing is drawn by chance.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Crew:
    """How a queue is worked off.

    Attributes:
        workers: how many.
        load: seconds until a worker, also one in the place of an ended one, has its model.
        in_flight: bunches that a worker has at a time.
        bunch_seconds: work that is sent at once; 0 sends single parts.
        message: seconds between a bunch and the next one where that lies with the worker already.
    """

    workers: int
    load: float = 0.0
    in_flight: int = 1
    bunch_seconds: float = 0.0
    message: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What a simulated run came to.

    Attributes:
        makespan: seconds until the last part was done.
        warm: seconds until the first worker had its model.
        busy: of each worker, seconds of parts that were kept.
        lost: seconds of work that ended with its worker.
        done: parts that were made, in order of delivery.
    """

    makespan: float
    warm: float
    busy: tuple[float, ...]
    lost: float
    done: tuple[int, ...]


@dataclass(eq=False)
class _Worker:
    """One worker: its bunches, the first of which is being made since `since`."""

    life: int = 0
    ready: bool = False
    since: float = 0.0
    bunches: deque[tuple[int, ...]] = field(default_factory=deque)
    busy: float = 0.0


class _Simulation:
    """State of one run; `simulate` is how it is used."""

    def __init__(self, parts: Sequence[float], crew: Crew) -> None:
        self.parts, self.crew = parts, crew
        self.waiting = deque(range(len(parts)))
        self.workers = [_Worker() for _ in range(crew.workers)]
        self.done: list[int] = []
        self.spent = self.lost = self.makespan = 0.0
        self._events: list[tuple[float, int, str, int, int]] = []
        self._order = itertools.count()

    def at(self, time: float, what: str, place: int) -> None:
        """Plan an event; those of an ended worker's former life are passed over when their time comes."""
        heapq.heappush(self._events, (time, next(self._order), what, place, self.workers[place].life))

    def run(self) -> None:
        while self._events and len(self.done) < len(self.parts):
            time, _, what, place, life = heapq.heappop(self._events)
            worker = self.workers[place]
            if what == "end":
                self._end(time, place)
            elif life == worker.life:
                self._go_on(time, place, made=what == "made")

    def _go_on(self, time: float, place: int, *, made: bool) -> None:
        worker = self.workers[place]
        worker.ready = True
        if made:
            self._deliver(time, worker)
        self._fill(worker)
        if worker.bunches:
            worker.since = time + (self.crew.message if made else 0.0)
            self.at(worker.since + self._seconds(worker.bunches[0]), "made", place)
        for other, idle in enumerate(self.workers):  # parts that came back go to those who had run out
            if other != place and idle.ready and not idle.bunches and self.waiting:
                self._go_on(time, other, made=False)

    def _deliver(self, time: float, worker: _Worker) -> None:
        bunch = worker.bunches.popleft()
        self.done.extend(bunch)
        worker.busy += self._seconds(bunch)
        self.spent += self._seconds(bunch)
        self.makespan = time

    def _end(self, time: float, place: int) -> None:
        """The worker ends; what it had waits again, in front, and another one starts in its place."""
        worker = self.workers[place]
        if worker.bunches:
            self.lost += max(0.0, time - worker.since)
        for bunch in reversed(worker.bunches):
            self.waiting.extendleft(reversed(bunch))
        worker.bunches.clear()
        worker.ready, worker.life = False, worker.life + 1
        self.at(time + self.crew.load, "ready", place)
        for other, idle in enumerate(self.workers):
            if idle.ready and not idle.bunches and self.waiting:
                self._go_on(time, other, made=False)

    def _fill(self, worker: _Worker) -> None:
        while self.waiting and len(worker.bunches) < self.crew.in_flight:
            count = min(len(self.waiting), self._bunch())
            worker.bunches.append(tuple(self.waiting.popleft() for _ in range(count)))

    def _bunch(self) -> int:
        """Parts of the next bunch: about `bunch_seconds`, and few enough that all end together."""
        if self.crew.bunch_seconds <= 0:
            return 1
        ready = sum(worker.ready for worker in self.workers)
        fair = -(-len(self.waiting) // (2 * self.crew.in_flight * max(1, ready)))
        paced = int(self.crew.bunch_seconds * len(self.done) / self.spent) if self.spent > 0 else 1
        return max(1, min(fair, paced))

    def _seconds(self, bunch: tuple[int, ...]) -> float:
        return sum(self.parts[part] for part in bunch)


def simulate(
    parts: Sequence[float],
    crew: Crew,
    ended: Sequence[tuple[float, int]] = (),
    ready: Sequence[float] | None = None,
) -> Outcome:
    """Work off parts in their order.

    Args:
        parts: seconds of each.
        crew: who does it, and how.
        ended: times at which a worker is ended, with its number from 0; another one takes its place.
        ready: when each worker has its model at first, where that is known; `crew.load` for all by default.
    """
    simulation = _Simulation(parts, crew)
    for place in range(crew.workers):
        simulation.at(crew.load if ready is None else ready[place], "ready", place)
    for time, place in ended:
        simulation.at(time, "end", place)
    simulation.run()
    busy = tuple(worker.busy for worker in simulation.workers)
    return Outcome(simulation.makespan, crew.load, busy, simulation.lost, tuple(simulation.done))


def bounds(parts: Sequence[float], workers: int) -> tuple[float, float]:
    """What no schedule can beat, and what no greedy one exceeds (Graham 1966), once all workers have their model."""
    least = max(max(parts, default=0.0), sum(parts) / workers)
    return least, (2 - 1 / workers) * least
