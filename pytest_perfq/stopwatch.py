"""Durations of calls: integer nanoseconds, warm-ups apart, sides alternated. Judges nothing and knows no case.

A visit times its sides in short blocks, A B then B A, so that drift of the machine falls on all of them alike; the first
calls after each switch find another side's data in the caches and its threads on the cores, and are put with the warm-ups.
Source of the bounds: the measured procedure for regressions (at least 20 rounds or half a second a side, at most 60 rounds
a visit).
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pytest_perfq.core.measurement import Samples
from pytest_perfq.core.stats import median, quantile_interval

MIN_ROUNDS = 20
MAX_ROUNDS = 60
# A side slower than this a round is stopped by time, but never before it has this many rounds.
FEWEST_ROUNDS = 5
MIN_SIDE_NS = 500_000_000
# Long enough that a switch is rare, short enough that drift falls on all sides.
BLOCK_NS = 30_000_000
BLOCK_ROUNDS = 10
# The threads of the side before go on spinning for a few milliseconds (OpenMP's do) and hold the cores meanwhile: a fast
# side would show them as a tail that is not its own.
SETTLE_NS = 5_000_000


class Clock(Protocol):
    """Times one call."""

    def time_ns(self, call: Callable[[], Any]) -> int:
        """Nanoseconds from the start of the call until the device has done its work."""


class CpuClock:
    """perf_counter around the call."""

    def time_ns(self, call: Callable[[], Any]) -> int:
        start = time.perf_counter_ns()
        call()
        return time.perf_counter_ns() - start


class CudaClock:
    """CUDA events around the call, on the current stream."""

    def __init__(self) -> None:
        import torch

        self._torch = torch
        self._start = torch.cuda.Event(enable_timing=True)
        self._end = torch.cuda.Event(enable_timing=True)

    def time_ns(self, call: Callable[[], Any]) -> int:
        self._start.record()
        call()
        self._end.record()
        self._end.synchronize()
        return round(float(self._start.elapsed_time(self._end)) * 1e6)


def clock_for(device: str) -> Clock:
    """The clock of 'cpu' or 'cuda'."""
    return CudaClock() if device.startswith("cuda") else CpuClock()


@dataclass(frozen=True, slots=True)
class VisitPlan:
    """When a visit ends. budget_s: for all sides together. precision: stop when the 95 % interval of every side's median
    is within this, relative. min_rounds, max_rounds: of each side."""

    budget_s: float
    precision: float
    min_rounds: int = MIN_ROUNDS
    max_rounds: int = MAX_ROUNDS


def _precise(durations: list[int], precision: float) -> bool:
    interval = quantile_interval(durations)
    return interval is not None and interval[1] - interval[0] <= 2 * precision * median(durations)


def _done(rounds: Mapping[str, list[int]], plan: VisitPlan, elapsed_s: float) -> bool:
    fewest = min(map(len, rounds.values()))
    if fewest >= plan.max_rounds:
        return True
    if elapsed_s >= plan.budget_s and fewest >= FEWEST_ROUNDS:
        return True
    enough = all(len(side) >= plan.min_rounds or sum(side) >= MIN_SIDE_NS for side in rounds.values())
    return (
        enough
        and fewest >= min(plan.min_rounds, FEWEST_ROUNDS)
        and all(_precise(side, plan.precision) for side in rounds.values())
    )


class Side(Protocol):
    """One side of a visit, in this process or in another."""

    def warm(self) -> list[int]:
        """Durations of the first calls, ns; two at least."""

    def block(self, rounds: int, settle: bool) -> tuple[list[int], list[int]]:
        """Durations, ns, of calls that settle after a switch (none without `settle`) and of `rounds` calls that count."""


@dataclass(frozen=True, slots=True)
class Local:
    """A side of this process: a call without arguments that does one forward pass."""

    call: Callable[[], Any]
    clock: Clock

    def warm(self) -> list[int]:
        return [self.clock.time_ns(self.call) for _ in range(2)]

    def block(self, rounds: int, settle: bool) -> tuple[list[int], list[int]]:
        settling = [self.clock.time_ns(self.call)] if settle else []
        # One call at least, and until the caches and cores are this side's own.
        while settle and sum(settling) < SETTLE_NS:
            settling.append(self.clock.time_ns(self.call))
        return settling, [self.clock.time_ns(self.call) for _ in range(rounds)]


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Collects garbage now and not within: a collection would land on whichever side happens to be running."""
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def visit(sides: Mapping[str, Callable[[], Any]], clock: Clock, plan: VisitPlan) -> dict[str, Samples]:
    """Times every side of one visit in this process: name -> Samples. A side is a call without arguments."""
    with uncollected():
        return alternate({name: Local(call, clock) for name, call in sides.items()}, plan)


def alternate(sides: Mapping[str, Side], plan: VisitPlan) -> dict[str, Samples]:
    """Times every side of one visit: name -> Samples. The first named begins."""
    started_s = time.time()
    warmups = {name: side.warm() for name, side in sides.items()}
    slowest = max(max(calls[-1] for calls in warmups.values()), 1)
    block = max(1, min(BLOCK_ROUNDS, BLOCK_NS // slowest))
    rounds: dict[str, list[int]] = {name: [] for name in sides}
    order = list(sides)
    start = time.perf_counter()
    while not _done(rounds, plan, time.perf_counter() - start):
        for name in order:
            settling, timed = sides[name].block(min(block, plan.max_rounds - len(rounds[name])), settle=len(order) > 1)
            warmups[name] += settling
            rounds[name] += timed
        order.reverse()
    return {name: Samples(tuple(rounds[name]), tuple(warmups[name]), started_s) for name in sides}
