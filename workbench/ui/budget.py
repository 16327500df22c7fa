"""The budget of a plan: stored bits per weight, or bytes of the whole file, by a slider or typed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st

from workbench.allocation.budgets import Request, bits_request, file_request
from workbench.errors import WorkbenchError
from workbench.ui import address, controls, session
from workbench.ui.bench import Bench
from workbench.ui.escape import markdown
from workbench.ui.numbers import number
from workbench.ui.plans import Document

KINDS = {"bits_per_weight": "stored bits per weight", "file_bytes": "bytes of the whole file"}
STEP = 0.05
STOPS = 200
"""About so many sizes stand on the slider of the file."""

TYPED, TYPED_SIZE = "budget-typed", "size-typed"
UNITS = (("GB", 1e9, 2e10), ("MB", 1e6, 2e7), ("KB", 1e3, 0.0))
"""Unit of a file's size, its bytes, and the bytes of a file from which on it is used."""


def budget_choice(bench: Bench) -> Request:
    """Draw the budget within what is possible; returns what is asked for."""
    low, high = bench.budgets
    if low == high:
        st.info(f"There is one choice a matrix, so that every plan takes {number(low)} stored bits.")
        return bits_request(low)
    kind = controls.segments("Budget in", list(KINDS), "bits_per_weight", key="count", show=KINDS.__getitem__)
    return _bits(bench) if kind == "bits_per_weight" else _file(bench)


def as_asked(request: Request) -> float | str:
    """A budget as studies are asked for it: a number of bits, or a size as text."""
    return request.requested if request.kind == "bits_per_weight" else f"{request.requested:.0f}B"


def file_size(bits: float, inspected: Document) -> float:
    """Bytes of all weights in one file, with the matrices at a mean of that many stored bits per weight."""
    whole = inspected["sizes"][0]["total_bytes"]
    other = file_request(f"{whole}B", inspected).other_bytes or 0
    return other + bits * sum(matrix["parameters"] for matrix in inspected["matrices"]) / 8


def size_key(unit: str) -> str:
    """Name of the control that holds a file's size in a unit."""
    return f"size-{unit}"


def _bits(bench: Bench) -> Request:
    low, high = bench.budgets
    left, right = st.columns([4, 1], vertical_alignment="bottom")
    about = "Mean over all weights, scales and zero points included."
    with left:
        budget = controls.slider(
            "Budget: stored bits per weight",
            bench.usual_budget,
            key="budget",
            low=low,
            high=high,
            step=STEP,
            help=about,
        )
    with right:
        st.number_input(
            "Or type it", value=None, step=STEP, format="%.4f", key=TYPED, placeholder=f"{budget:.4g}",
            on_change=_take, args=(TYPED, "budget", lambda typed: bits_request(float(typed)), bench, 1.0),
        )  # fmt: skip
    _draw_refusal(TYPED)
    return bits_request(budget)


@dataclass(frozen=True)
class _Scale:
    """The slider of a file's size, in its unit."""

    unit: str
    size: float
    low: float
    high: float
    step: float
    usual: float


def _scale(bench: Bench) -> _Scale:
    low, high, usual = (file_size(bits, bench.inspected) for bits in (*bench.budgets, bench.usual_budget))
    unit, size, _ = next(one for one in UNITS if high >= one[2])
    step = 10.0 ** math.floor(math.log10((high - low) / size / STOPS))

    def up(count: float) -> float:
        return round(math.ceil(count / size / step - 1e-9) * step, 6)

    return _Scale(unit, size, up(low), up(high), step, up(usual))


def _file(bench: Bench) -> Request:
    scale = _scale(bench)
    key = size_key(scale.unit)
    left, right = st.columns([4, 1], vertical_alignment="bottom")
    about = (
        "The matrices as stored and everything else, embeddings and norms, in 16 bits; the file's header not counted."
    )
    with left:
        size = controls.slider(
            f"Budget: {scale.unit} of the whole file", scale.usual, key=key, low=scale.low, high=scale.high,
            step=scale.step, help=about,
        )  # fmt: skip
    with right:
        st.text_input(
            "Or type it", key=TYPED_SIZE, placeholder=f"{size:.6g} {scale.unit}", max_chars=20, on_change=_take,
            args=(TYPED_SIZE, key, lambda typed: file_request(typed, bench.inspected), bench, scale.size),
        )  # fmt: skip
    _draw_refusal(TYPED_SIZE)
    request = file_request(f"{size:.10g}{scale.unit}", bench.inspected)
    st.caption(f"That leaves {request.bits:.3f} stored bits per weight for the matrices.")
    return request


def _take(typed_key: str, key: str, read: Callable[[str], Request], bench: Bench, unit: float) -> None:
    """Move the slider to what was typed, or keep it and say why."""
    typed = st.session_state[typed_key]
    session.remember(typed_key, None)
    if typed in (None, ""):
        return
    try:
        request = read(typed)
        bench.check_budget(request)
    except WorkbenchError as error:
        session.remember(typed_key, f"The budget stays as it was: {error}.")
        return
    address.put(key, request.requested / unit)
    st.session_state[typed_key] = None if key == "budget" else ""


def _draw_refusal(typed_key: str) -> None:
    refusal = session.recall(typed_key)
    if refusal:
        st.error(markdown(refusal), icon=":material/error:")
