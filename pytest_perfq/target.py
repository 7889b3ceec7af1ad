"""What `--perf-gpu` means on this machine: the device that 'auto' stands for, and which latency cases may be timed here.

Knows no pytest; asks device.py what there is, which needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_perfq.core.case import Case


@dataclass(frozen=True, slots=True)
class Target:
    """gpu: whose budgets hold, 'cpu' without one. accuracy_device, latency_device: what device='auto' stands for.
    mismatch: why cuda latency cases are not timed here, None when they are."""

    gpu: str
    accuracy_device: str
    latency_device: str
    mismatch: str | None = None

    def unmeasured(self, case: Case) -> str | None:
        """Why this latency case must not be timed here; None when it may."""
        return self.mismatch if case.kind == "latency" and case.device == "cuda" else None


def resolve(asserted: str, present: bool, found: str | None) -> Target:
    """The target of a run. asserted: the value of --perf-gpu. present: whether this machine has an NVIDIA GPU. found: its
    short name where it is a known one.

    An asserted GPU that is not here still lets accuracy run, on what is here and under its own name; its latency cases
    keep the name of the device they were meant for and are unmeasured."""
    here = "cuda" if present else "cpu"
    if asserted == "auto":
        return Target(found or here if present else "cpu", here, here)
    if asserted == "cpu":
        return Target("cpu", "cpu", "cpu", "--perf-gpu=cpu asserts a run without a GPU")
    if present and found == asserted:
        return Target(asserted, "cuda", "cuda")
    has = f"has a {found or 'GPU of another kind'}" if present else "has no GPU"
    return Target(asserted, here, "cuda", f"--perf-gpu={asserted} asserts a {asserted}, and this machine {has}; run it on one")
