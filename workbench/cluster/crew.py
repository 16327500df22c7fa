"""Workers that make the parts of a study: who does what, who was lost, and their cells into the store as they come."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from workbench.cluster.room import no_room
from workbench.cluster.seats import RESTARTS, Errand, Seat, check_greeting, check_model
from workbench.cluster.task import IN_FLIGHT, Task
from workbench.cluster.wish import Wish
from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel
from workbench.progress import Progress, Steps
from workbench.studies.context import CellStore
from workbench.studies.parts import Part, Work

START_PATIENCE = 300.0
"""Seconds after which a cluster has no room for any worker; it may have to start machines first."""

TICK = 0.2


class Crew:
    """The workers of one run; `studies.Context.crew`.

    Args:
        ray: the package, connected.
        wish: how many workers, and what each gets; `workers` is a number here.
        model: keywords of `Context.model` on every worker, the name resolved.
        seed: seed of torch's generator.
    """

    def __init__(self, ray: Any, wish: Wish, model: Mapping[str, Any], seed: int = 0) -> None:
        self._ray, self._wish, self._model, self._seed = ray, wish, dict(model), seed
        self._seats: list[Seat] = []
        self._works: list[Work] = []
        self._digest = ""
        self._last_loss = ""

    def rows(self) -> list[dict[str, Any]]:
        """Every worker as the Jobs page shows it."""
        return [seat.row() for seat in self._seats]

    def make(self, loaded: LoadedModel, work: Work, parts: Sequence[Part], cells: CellStore) -> Steps[None]:
        """Have the parts made; all workers are ended when this is left before its end.

        Raises:
            WorkbenchError: a worker is refused or refuses, none is left, or the store cannot be written.
        """
        self._digest = loaded.identity.digest
        task = Task(work, self._number(work), cells, deque(parts), len(parts))
        try:
            self._hire(min(self._wish.workers or 1, len(parts)))
            while task.done < task.total:
                yield Progress(task.done, task.total, self._note())
                for seat in self._ready():
                    self._fill(seat, task)
                for seat, errand, answer in self._answers(task):
                    self._take(seat, errand, answer, task)
        except BaseException:  # a cancel closes this generator; whatever it was, nobody works on
            self.close()
            raise

    def close(self) -> None:
        """End all workers at once."""
        for seat in self._seats:
            with suppress(Exception):  # a connection that is gone has taken them along
                seat.dismiss(self._ray)
            seat.state = "ended"
        self._seats, self._works = [], []

    def _number(self, work: Work) -> int:
        """The number of a work; one that was made before keeps its own."""
        for number, known in enumerate(self._works):
            if known is work:
                return number
        self._works.append(work)
        return len(self._works) - 1

    def _hire(self, count: int) -> None:
        while len(self._seats) < count:
            seat = Seat(len(self._seats) + 1)
            seat.hire(self._ray, self._wish, self._seed)
            self._seats.append(seat)

    def _ready(self) -> list[Seat]:
        return [seat for seat in self._seats if seat.state == "ready"]

    def _fill(self, seat: Seat, task: Task) -> None:
        """Give a worker something to do, with what the store has of it."""
        while task.waiting and len(seat.errands) < IN_FLIGHT:
            bunch = task.bunch(len(self._ready()))
            known = task.cells.get_cells([key for part in bunch for key in part.keys])
            seat.ask(task.number, task.work, bunch, known)
            seat.note = next(iter(seat.errands.values())).parts[0].note

    def _answers(self, task: Task) -> Iterator[tuple[Seat, Errand, Any]]:
        """What workers have answered within a tick; lost ones are replaced, their parts wait again."""
        asked = {ref: seat for seat in self._seats for ref in seat.errands}
        if not asked:
            raise WorkbenchError(f"no worker is left: each was replaced {RESTARTS} times; {self._last_loss}")
        self._check_patience()
        for ref in self._ray.wait(list(asked), num_returns=1, timeout=TICK)[0]:
            seat = asked[ref]
            try:
                answer = self._ray.get(ref)
            except self._ray.exceptions.RayTaskError:
                raise  # a fault of the program, on another machine
            except self._ray.exceptions.RayError as error:
                self._lost(seat, error, task)
            else:
                yield seat, seat.errands.pop(ref), answer

    def _take(self, seat: Seat, errand: Errand, answer: Any, task: Task) -> None:
        """Go on with a worker by what it answered."""
        if errand.kind == "greet":
            seat.greeting, seat.state, seat.note = answer, "loading", "loads the model"
            check_greeting(seat)
            seat.errands[seat.handle.load.remote(self._model)] = Errand("load")
        elif errand.kind == "load":
            check_model(seat, answer, str(self._model["name"]), self._digest)
            seat.state, seat.note = "ready", ""
        elif "refused" in answer:
            raise WorkbenchError(f"{seat.name}: {answer['refused']}")
        else:
            for key, value in answer["cells"].items():
                task.cells.put_cell(key, value)
            seat.parts += len(errand.parts)
            seat.cells += len(answer["cells"])
            task.done += len(errand.parts)
            task.seconds += answer["seconds"]
            seat.note = "" if not seat.errands else next(iter(seat.errands.values())).parts[0].note

    def _lost(self, seat: Seat, error: Exception, task: Task) -> None:
        """A worker has ended: what it had is put back in front, and its place is filled again.

        Raises:
            WorkbenchError: its machine has no workbench, or one of its parts ends every worker.
        """
        self._last_loss = f"{seat.name} ended: {_first_line(error)}"
        if "No module named 'workbench" in str(error):
            raise WorkbenchError(f"{seat.name}: its machine has no salience-workbench; install it there") from error
        left = seat.dismiss(self._ray)
        for errand in reversed(left):
            task.waiting.extendleft(reversed(errand.parts))
        for part in left[0].parts if left else ():
            task.ended[part.keys] = task.ended.get(part.keys, 0) + 1
            if task.ended[part.keys] > RESTARTS:
                raise WorkbenchError(
                    f"{part.note!r} has ended {task.ended[part.keys]} workers, it may need more memory than they have;"
                    f" {self._last_loss}"
                )
        seat.restarts += 1
        if seat.restarts > RESTARTS:
            seat.state, seat.note = "ended", self._last_loss
        else:
            seat.hire(self._ray, self._wish, self._seed)

    def _check_patience(self) -> None:
        """Refuse to wait for ever for a first worker.

        Raises:
            WorkbenchError: none has a place since `START_PATIENCE`.
        """
        going = [seat for seat in self._seats if seat.state != "ended"]
        if all(seat.state == "starting" and time.monotonic() - seat.since > START_PATIENCE for seat in going):
            raise no_room(self._ray, self._wish, f" for {START_PATIENCE:.0f} seconds")

    def _note(self) -> str:
        ready = self._ready()
        if not ready:
            loading = sum(seat.state == "loading" for seat in self._seats)
            return f"{loading} workers load the model" if loading else f"starting {len(self._seats)} workers"
        notes = [seat.note for seat in ready if seat.note]
        return f"{len(ready)} of {len(self._seats)} workers{': ' + notes[0] if notes else ''}"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]
