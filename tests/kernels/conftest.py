"""Kernel tests run Triton's interpreter where there is no GPU, and the compiled kernels where there is one."""

from __future__ import annotations

import os
import sys

import pytest
import torch

# Triton binds its library functions to one mode when it is first imported, so this must come before that. Importing
# torch does not import triton. If something already has, asking for triton fails with a sentence that says so.
if not torch.cuda.is_available() and "triton" not in sys.modules:
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(autouse=True)
def _no_outside_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own WORKBENCH_KERNELS must not decide which backend is tested."""
    monkeypatch.delenv("WORKBENCH_KERNELS", raising=False)


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(params=["torch", "triton"])
def backend(request: pytest.FixtureRequest) -> str:
    return request.param
