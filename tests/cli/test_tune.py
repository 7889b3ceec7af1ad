"""`perfq tune`: what it says without a GPU, and what it gains with a bench that is given."""

import os
import sys
from pathlib import Path

import pytest
import torch
from tiny_models import make_model

from pytest_perfq import device
from pytest_perfq.cli import tune as tuning_command
from pytest_perfq.cli.tune import Asked
from pytest_perfq.errors import UsageError
from pytest_perfq.kernels import choices, toolchain, tuning
from pytest_perfq.kernels.cuda_ops import Problem
from pytest_perfq.materials import Materials

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kernels"))
from emulated import load as load_emulated

CACHE = Path(os.environ.get("PERFQ_CACHE") or Path(__file__).resolve().parents[2] / ".perfq" / "cache")
WHO = {"gpu": "NVIDIA H100", "torch": "2.13.0"}


def test_a_machine_without_a_gpu_is_one_sentence(command, monkeypatch):
    monkeypatch.setattr(device, "gpu_present", lambda: False)
    status, output, errors = command("tune", "synthetic:bert", "--gpu", "auto")
    assert (status, output) == (3, "")
    assert errors == (
        "perfq: perfq tune times products on an NVIDIA GPU, and this machine has none; without it the usual ways serve\n"
    )


def test_another_gpu_than_asserted_and_a_torch_without_cuda_are_one_sentence(command, monkeypatch):
    monkeypatch.setattr(device, "gpu_present", lambda: True)
    monkeypatch.setattr(device, "gpu_name", lambda: "t4")
    status, _, errors = command("tune", "synthetic:bert", "--gpu", "h100")
    assert (status, errors) == (3, "perfq: --gpu=h100 asserts a h100, and this machine has a t4; run it on one\n")
    if torch.version.cuda is None:
        with pytest.raises(UsageError, match="device cuda needs a CUDA build of PyTorch"):
            tuning_command.tune(Asked("synthetic:bert", gpu="t4"), 120)


@pytest.mark.parametrize(("fused3_ns", "better"), [(900.0, 1), (1100.0, 0)])
def test_what_was_gained_is_said_and_kept(fused3_ns, better, tmp_path, monkeypatch):
    """A clock by which one tile of our own is 900 ns and all else 1000: `up` gains, the rest does not."""
    if reason := toolchain.unavailable():
        pytest.skip(reason)
    monkeypatch.setattr(Materials, "model", lambda self, case: make_model("bert", case.task.name))
    calls = []

    def clock(call):
        calls.append(call)
        return fused3_ns if call.args[0] == "fused3" and call().shape[1] == 64 else 1000.0

    bench = tuning.Bench(load_emulated(CACHE), clock, torch.device("cpu"))
    text = tuning_command.tune_on(Asked("tiny", tokens=64), 120, tmp_path, bench, WHO)
    up = Problem(64, 64, 32, "float16", True, "gelu")
    found = choices.choices(tmp_path, WHO)
    assert len(found) == 4 and found[up] == ("fused3" if better else "fused") and len(calls) == 4 * 6
    assert f"4 products were timed; {better} have a faster way than the usual one." in text
    took = "take 3.9 us instead of 4.0 (-2.5%)" if better else "take 4.0 us instead of 4.0"
    assert f"Those of a layer at 64 tokens {took}." in text
    assert ("1.11x" in text) == bool(better)
    assert text.endswith(f"{choices.file_of(tmp_path, WHO)} keeps them for NVIDIA H100 with torch 2.13.0.")
