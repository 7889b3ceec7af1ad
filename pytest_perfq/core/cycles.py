"""Durations as clock cycles, where the clock is known: a slow-down that is one of the clock alone vanishes in them. Pure."""

from __future__ import annotations

from pytest_perfq.core.conditions import Conditions

# Fewer readings of a GPU at work say little about its mean clock.
FEWEST_READINGS = 3
# A CPU's clock is read of every CPU that the visit might have run on: where they differ by more, nobody knows which of them was
# ours. Fraction of the highest.
CPU_SPREAD = 0.05


def clock_mhz(conditions: Conditions | None) -> float | None:
    """The mean clock that the visit ran at: of the GPU where it was watched, else of the CPUs; None where it is not reliably
    known (too few readings, CPUs of several clocks, the constant that a virtual machine shows)."""
    if conditions is None or conditions.unknown is not None:
        return None
    gpu, cpu = conditions.gpu, conditions.cpu
    if gpu is not None:
        return gpu.mean_sm_mhz if gpu.busy >= FEWEST_READINGS else None
    if cpu is None or cpu.mhz_source != "cpufreq" or cpu.min_mhz is None or cpu.max_mhz is None:
        return None
    return cpu.mean_mhz if cpu.min_mhz >= cpu.max_mhz * (1.0 - CPU_SPREAD) else None


def cycles(duration_ns: float, conditions: Conditions | None) -> float | None:
    """Clock cycles of a duration in nanoseconds; None where the clock is not reliably known."""
    clock = clock_mhz(conditions)
    return None if clock is None else duration_ns * clock * 1e-3


def cycle_ratio(
    candidate_ns: float, candidate: Conditions | None, baseline_ns: float, baseline: Conditions | None
) -> float | None:
    """Candidate over baseline in cycles, as two durations' ratio is in time; None where either clock is not reliably known."""
    mine, theirs = cycles(candidate_ns, candidate), cycles(baseline_ns, baseline)
    return None if mine is None or not theirs else mine / theirs
