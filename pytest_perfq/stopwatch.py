"""Durations of calls: integer nanoseconds, warm-ups apart, sides alternated. Judges nothing and knows no case.

A visit times its sides in short blocks, A B then B A, so that drift of the machine falls on all of them alike; the first
calls after each switch find another side's data in the caches and its threads on the cores, and are put with the warm-ups.
Source of the bounds: the measured procedure for regressions (at least 20 rounds or half a second a side, at most 60 rounds
a visit).
"""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from pytest_perfq.core.measurement import Samples
from pytest_perfq.core.stats import median, quantile_interval
from pytest_perfq.errors import UsageError

MIN_ROUNDS = 20
MAX_ROUNDS = 60
# A side slower than this a round is stopped by time, but never before it has this many rounds.
FEWEST_ROUNDS = 5
MIN_SIDE_NS = 500_000_000
# Where calls are so short that the time asked of a side holds more.
MOST_ROUNDS = 1000
# Long enough that a switch is rare, short enough that drift falls on all sides.
BLOCK_NS = 30_000_000
BLOCK_ROUNDS = 10
# Blocks of a side at least, however short its calls.
FEWEST_BLOCKS = 10
# The threads of the side before go on spinning for a few milliseconds (OpenMP's do) and hold the cores meanwhile: a fast
# side would show them as a tail that is not its own.
SETTLE_NS = 5_000_000
# More than a model is made of, and less than a library: PyTorch is ten times as many.
LIBRARY_OBJECTS = 50_000
# From an idle clock to that of work.
RAMP_S = 0.2


class Clock(Protocol):
    """Times one call."""

    def ready(self, call: Callable[[], Any]) -> None:
        """Brings the device to the speed that it has at work, by this call, before a visit."""

    def time_ns(self, call: Callable[[], Any]) -> int:
        """Nanoseconds from the start of the call until the device has done its work."""


class CpuClock:
    """perf_counter around the call."""

    def ready(self, call: Callable[[], Any]) -> None:
        """Nothing: a CPU is at speed within the first calls."""

    def time_ns(self, call: Callable[[], Any]) -> int:
        start = time.perf_counter_ns()
        call()
        return time.perf_counter_ns() - start


class CudaClock:
    """CUDA events around one call, on the current stream of a GPU that is at rest when the call begins.

    So a duration holds all that whoever waits for the call waits for: the launches and the gaps between kernels that the host
    leaves too. Of a library that computes on a stream of its own and waits for it (onnxruntime) it is the time until it has
    waited. Calls are never timed several at once, since they would hide each other's launches; events resolve half a
    microsecond, a hundredth of the shortest forward pass.

    l2: 'cold' writes over twice the L2 before every call, outside of the events, so that no weight is found in it; 'warm'
    leaves there what the call before did.
    """

    def __init__(self, l2: str = "warm") -> None:
        import torch

        self._torch = torch
        self._start = torch.cuda.Event(enable_timing=True)
        self._end = torch.cuda.Event(enable_timing=True)
        self._over = None
        if l2 == "cold":
            size = 2 * int(torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size)
            self._over = torch.empty(size, dtype=torch.uint8, device="cuda")

    def ready(self, call: Callable[[], Any]) -> None:
        """Calls for RAMP_S: an idle GPU begins at a fraction of its clock, and a visit of fast calls would be over first."""
        until = time.monotonic() + RAMP_S
        while time.monotonic() < until:
            call()
            self._torch.cuda.synchronize()

    def time_ns(self, call: Callable[[], Any]) -> int:
        if self._over is not None:
            self._over.zero_()
            # The call may compute on another stream, which would not wait.
            self._torch.cuda.synchronize()
        self._start.record()
        call()
        self._end.record()
        self._end.synchronize()
        return round(float(self._start.elapsed_time(self._end)) * 1e6)


def clock_for(device: str, l2: str = "warm") -> Clock:
    """The clock of 'cpu' or 'cuda'. l2: 'warm' or 'cold'. Raises UsageError for a cold CPU."""
    if device.startswith("cuda"):
        return CudaClock(l2)
    if l2 != "warm":
        raise UsageError(
            f"the L2 of a GPU can be {l2} when a call begins, and this one is timed on the {device}: leave it warm"
        )
    return CpuClock()


@dataclass(frozen=True, slots=True)
class VisitPlan:
    """When a visit ends. budget_s: for all sides together. precision: stop when the 95 % interval of every side's median
    is within this, relative. min_rounds, max_rounds: of each side. side_s: a side is timed for so long whatever its rounds, of
    which there are then MOST_ROUNDS at most: sixty calls of half a millisecond are one moment of the machine."""

    budget_s: float
    precision: float
    min_rounds: int = MIN_ROUNDS
    max_rounds: int = MAX_ROUNDS
    side_s: float = 0.0

    def for_calls(self, fastest_ns: int) -> VisitPlan:
        """The same in rounds alone, where a call of the fastest side takes so long."""
        rounds = min(MOST_ROUNDS, math.ceil(self.side_s * 1e9 / max(fastest_ns, 1)))
        least, most = max(self.min_rounds, rounds), max(self.max_rounds, rounds)
        return replace(self, min_rounds=least, max_rounds=most, side_s=0.0)


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
    """A side of this process: a call without arguments that does one forward pass. A call with a `turn` is given it after each
    time that it was timed, and that is not timed."""

    call: Callable[[], Any]
    clock: Clock

    def warm(self) -> list[int]:
        self.clock.ready(self.call)
        return self._timed(2)

    def block(self, rounds: int, settle: bool) -> tuple[list[int], list[int]]:
        settling = self._timed(1) if settle else []
        # One call at least, and until the caches and cores are this side's own.
        while settle and sum(settling) < SETTLE_NS:
            settling += self._timed(1)
        return settling, self._timed(rounds)

    def _timed(self, rounds: int) -> list[int]:
        turn = getattr(self.call, "turn", None)
        if turn is None:
            return [self.clock.time_ns(self.call) for _ in range(rounds)]
        durations = []
        for _ in range(rounds):
            durations.append(self.clock.time_ns(self.call))
            turn()
        return durations


def set_aside() -> None:
    """Collects garbage, and leaves what libraries are made of out of every later collection, which would take longer than what
    is timed. A model is made of few enough objects to be collected when it is done with."""
    gc.collect()
    if len(gc.get_objects()) > LIBRARY_OBJECTS:
        gc.freeze()


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
    last = [max(calls[-1], 1) for calls in warmups.values()]
    plan = plan.for_calls(min(last))
    block = max(1, min(max(BLOCK_ROUNDS, plan.min_rounds // FEWEST_BLOCKS), BLOCK_NS // max(last)))
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
