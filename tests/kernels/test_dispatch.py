"""Which backend serves a call, what is said about it, and that the CPU path never imports Triton."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

import lowbit


def test_a_weight_on_the_cpu_goes_to_torch() -> None:
    choice = lowbit.choose_backend(torch.zeros(1))
    assert (choice.name, choice.reason) == ("torch", "torch: the weight is on the CPU")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_weight_on_a_gpu_goes_to_triton() -> None:
    choice = lowbit.choose_backend(torch.zeros(1, device="cuda"))
    assert (choice.name, choice.reason) == ("triton", "triton: the weight is on cuda:0")


def test_the_argument_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch, device: torch.device) -> None:
    tensor = torch.zeros(1, device=device)
    monkeypatch.setenv("WORKBENCH_KERNELS", "triton")
    asked = lowbit.choose_backend(tensor)
    assert (asked.name, asked.reason) == ("triton", "triton: asked for by the environment variable WORKBENCH_KERNELS")
    assert lowbit.choose_backend(tensor, "torch").reason == "torch: asked for by the argument backend"
    monkeypatch.setenv("WORKBENCH_KERNELS", "torch")
    assert lowbit.choose_backend(tensor, "triton").name == "triton"
    assert lowbit.choose_backend(tensor).name == "torch"


def test_unknown_names_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(lowbit.LowbitError, match="the argument backend has value 'cuda'; choose one of: torch, triton"):
        lowbit.choose_backend(torch.zeros(1), "cuda")
    with pytest.raises(lowbit.LowbitError, match="the argument backend has value ''"):
        lowbit.choose_backend(torch.zeros(1), "")
    monkeypatch.setenv("WORKBENCH_KERNELS", "numba")
    with pytest.raises(lowbit.LowbitError, match="WORKBENCH_KERNELS has value 'numba'; choose one of: torch, triton"):
        lowbit.quantize(torch.zeros(1, 1), bits=4, group_size=1)


def test_triton_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(lowbit.LowbitError, match="cannot run here: triton is not installed; choose torch"):
        lowbit.choose_backend(torch.zeros(1), "triton")


def test_triton_on_another_device() -> None:
    with pytest.raises(lowbit.LowbitError, match="cannot run here: the weight is on meta; choose torch"):
        lowbit.choose_backend(torch.zeros(1, device="meta"), "triton")
    assert lowbit.choose_backend(torch.zeros(1, device="meta")).reason == "torch: the weight is on meta"


SCRIPT = """
import os, sys, torch, lowbit
w = torch.randn(4, 100)
packed = lowbit.quantize(w, bits=3, group_size=32)
lowbit.dequantize(packed)
lowbit.errors(w, bits=3, group_size=32, h=torch.ones(100))
lowbit.error_table(w, widths=(2, 4), group_sizes=(32, -1))
lowbit.group_grid(w, bits=4, group_size=32)
print(lowbit.__file__ is not None, [name for name in sys.modules if name.split(".")[0] in ("triton", "workbench")])

def ask():
    try:
        lowbit.quantize(w, bits=4, group_size=32, backend="triton")
    except lowbit.LowbitError as error:
        print(error)

ask()
os.environ["TRITON_INTERPRET"] = "1"  # too late: the first question imported triton
ask()
"""


def test_a_process_without_the_interpreter() -> None:
    """The CPU path imports neither Triton nor the workbench; asking for Triton there is refused."""
    chosen = ("TRITON_INTERPRET", "WORKBENCH_KERNELS")
    environment = {key: value for key, value in os.environ.items() if key not in chosen}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    sentence = (
        "the argument backend asks for triton, which cannot run here: "
        "the weight is on the CPU and triton was not imported with TRITON_INTERPRET=1 set; choose torch"
    )
    assert done.stdout.splitlines() == ["True []", sentence, sentence]
