"""Small studies for the worker under test; named to it as `tests.jobs.fake_program`."""

import ctypes
import os
import time

import pandas as pd

from workbench.errors import WorkbenchError
from workbench.jobs.program import Program
from workbench.progress import Progress
from workbench.results import Result

METHODS = {"salience": [{"name": "fake"}], "quantizers": [], "attribution": []}


class Context:
    def __init__(self, store):
        self.store = store
        self.jobs = 0
        self.restored = True


def program(store):
    return Program(start, lambda: METHODS, Context(store))


def start(kind, spec, context):
    context.jobs += 1
    return STUDIES[kind](spec, context)


def count(spec, context):
    """`steps` steps of `seconds` each; the table says which process did them."""
    context.restored = False
    try:
        for step in range(spec["steps"]):
            yield Progress(step, spec["steps"], f"step {step}")
            time.sleep(spec.get("seconds", 0.01))
    finally:
        context.restored = True
    return Result(
        {"steps": spec["steps"], "pid": os.getpid()}, {"steps": pd.DataFrame({"value": range(spec["steps"])})}
    )


def sweep(spec, context):
    """Cells that are kept one by one; the document counts those that were there already."""
    keys = [f"{spec['name']}-{number}" for number in range(spec["cells"])]
    held = context.store.get_cells(keys)
    for number, key in enumerate(keys):
        yield Progress(number, len(keys), key)
        if key not in held:
            time.sleep(spec["seconds"])
            context.store.put_cell(key, {"value": number})
    cells = context.store.get_cells(keys)
    return Result({"reused": len(held), "values": [cells[key]["value"] for key in keys]})


def refuse(spec, context):
    yield Progress(0, 1)
    raise WorkbenchError("bits has value 99; choose one of: 2, 3, 4, 8")


def defect(spec, context):
    yield Progress(0, 1)
    raise IndexError("list index out of range\nsecond line")


def exhaust(spec, context):
    yield Progress(0, 1)
    raise MemoryError


def deaf(spec, context):
    """One step that never answers a cancel."""
    yield Progress(0, 1, "busy")
    time.sleep(spec["seconds"])
    return Result({})


def crash(spec, context):
    yield Progress(0, 1)
    ctypes.string_at(0)
    return Result({})


def about(spec, context):
    """What the worker's process looks like."""
    yield Progress(0, 1)
    return Result({"pid": os.getpid(), "nice": os.nice(0), "jobs": context.jobs, "restored": context.restored})


STUDIES = {
    "count": count,
    "sweep": sweep,
    "refuse": refuse,
    "defect": defect,
    "exhaust": exhaust,
    "deaf": deaf,
    "crash": crash,
    "about": about,
}
