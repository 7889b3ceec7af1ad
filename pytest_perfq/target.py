"""What `--perf-gpu` means on this machine: the device that 'auto' stands for, and which latency cases may be timed here.

Knows no pytest; asks device.py what there is, which needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_perfq.core.case import Case

COLD_CPU = (
    "--perf-l2=cold empties the L2 of a GPU before every call, and this case runs on the CPU, whose caches are not emptied; "
    "run it with --perf-l2=warm"
)


@dataclass(frozen=True, slots=True)
class Target:
    """gpu: whose budgets hold, 'cpu' without one. accuracy_device, latency_device: what device='auto' stands for.
    mismatch: why cuda latency cases are not timed here, None when they are. l2: see settings."""

    gpu: str
    accuracy_device: str
    latency_device: str
    mismatch: str | None = None
    l2: str = "warm"

    def unmeasured(self, case: Case) -> str | None:
        """Why this latency case must not be timed here; None when it may."""
        if case.kind != "latency":
            return None
        return self.mismatch if case.device == "cuda" else COLD_CPU if self.l2 == "cold" else None


def resolve(asserted: str, present: bool, found: str | None, l2: str = "warm") -> Target:
    """The target of a run. asserted: the value of --perf-gpu. present: whether this machine has an NVIDIA GPU. found: its
    short name where it is a known one. l2: the value of --perf-l2.

    An asserted GPU that is not here still lets accuracy run, on what is here and under its own name; its latency cases
    keep the name of the device they were meant for and are unmeasured."""
    here = "cuda" if present else "cpu"
    if asserted == "auto":
        return Target(found or here if present else "cpu", here, here, l2=l2)
    if asserted == "cpu":
        return Target("cpu", "cpu", "cpu", "--perf-gpu=cpu asserts a run without a GPU", l2)
    if present and found == asserted:
        return Target(asserted, "cuda", "cuda", l2=l2)
    has = f"has a {found or 'GPU of another kind'}" if present else "has no GPU"
    reason = f"--perf-gpu={asserted} asserts a {asserted}, and this machine {has}; run it on one"
    return Target(asserted, here, "cuda", reason, l2)
