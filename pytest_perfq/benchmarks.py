"""Any call visited beside the anchor: what a test gave pytest-benchmark, timed again our way. Knows no pytest and no baseline.

pytest-benchmark measures and reports as ever; when it is through, the same call is visited several times, in blocks that
alternate with the anchor's. So visits do not depend on its options, nor on whether it is disabled, as it is under xdist.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from typing import Any

from pytest_perfq import anchor, device, stopwatch
from pytest_perfq.core.benchmarks import case_of, nanoseconds
from pytest_perfq.core.fingerprint import Fingerprint
from pytest_perfq.core.measurement import Measurement, Samples, Visit
from pytest_perfq.device.conditions import watched
from pytest_perfq.device.lock import device_lock
from pytest_perfq.device.sampler import Sampler

# A round is as many calls as take this long: the clock then shows a thousandth of it.
ROUND_NS = 100_000
MOST_LOOPS = 100_000
ONCE = "benchmark.pedantic(rounds=1) is one call and is not repeated"


@dataclass(frozen=True, slots=True)
class Call:
    """What a test asks pytest-benchmark to time. setup: before every call, may give its arguments; teardown: after it. Neither
    is timed. loops: calls a round, None to find out. once: whether the test lets it be called a single time only."""

    function: Callable[..., Any]
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    setup: Callable[[], Any] | None = None
    teardown: Callable[..., Any] | None = None
    loops: int | None = None
    once: bool = False

    def time_ns(self, loops: int) -> int:
        """Nanoseconds of one call, on average over so many."""
        args, kwargs = (self.setup() if self.setup is not None else None) or (self.args, self.kwargs)
        function, rounds = self.function, range(loops)
        start = time.perf_counter_ns()
        for _ in rounds:
            function(*args, **kwargs)
        taken = time.perf_counter_ns() - start
        if self.teardown is not None:
            self.teardown(*args, **kwargs)
        return max(1, round(taken / loops))


class _Keeping:
    """Over the class of a `benchmark` fixture: keeps the call that the test gives it."""

    perfq_call: Call | None = None

    def __call__(self, function_to_benchmark: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        found = super().__call__(function_to_benchmark, *args, **kwargs)  # type: ignore[misc]
        self.perfq_call = Call(function_to_benchmark, args, kwargs)
        return found

    def pedantic(self, *args: Any, **kwargs: Any) -> Any:
        theirs = super().pedantic  # type: ignore[misc]
        found = theirs(*args, **kwargs)
        bound = inspect.signature(theirs).bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        setup, teardown = given.get("setup"), given.get("teardown")
        self.perfq_call = Call(
            given["target"], given["args"], given["kwargs"] or {}, setup, teardown, given["iterations"], given["rounds"] == 1
        )
        return found


def keep(fixture: Any) -> None:
    """From now on the fixture keeps the call it is given; it times and reports it as before."""
    kind = type(fixture)
    fixture.__class__ = type(kind.__name__, (_Keeping, kind), {})


@dataclass(frozen=True, slots=True)
class _Side:
    """The call as a side of a visit."""

    call: Call
    loops: int

    def warm(self) -> list[int]:
        return [self.call.time_ns(self.loops) for _ in range(2)]

    def block(self, rounds: int, settle: bool) -> tuple[list[int], list[int]]:
        settling = [self.call.time_ns(self.loops)] if settle else []
        while settle and sum(settling) * self.loops < stopwatch.SETTLE_NS:
            settling.append(self.call.time_ns(self.loops))
        return settling, [self.call.time_ns(self.loops) for _ in range(rounds)]


@dataclass(slots=True, kw_only=True)
class Visits:
    """Visits calls in this process. visits: a call. time_s: of all of them. threads: of the anchor and of PyTorch's calls, None
    as PyTorch has it."""

    watcher: Sampler
    visits: int
    time_s: float
    precision: float
    threads: int | None = None

    def measure(self, nodeid: str, fixture: Any) -> Measurement | None:
        """The measurement of a test by the fixture that it used; None where it gave it nothing to time. Raises what the call
        raises."""
        call: Call | None = fixture.perfq_call
        if call is None:
            return None
        case = case_of(nodeid)
        torch = None if find_spec("torch") is None else _torch()
        threads = self.threads or (torch.get_num_threads() if torch else 1)
        measured = Measurement(case=case, fingerprint=_fingerprint(threads, torch is not None))
        if call.once:
            return replace(measured, **_as_timed(fixture))
        with _untraced(), _threads(torch, threads):
            loops = call.loops or _loops(call)
            sides: dict[str, stopwatch.Side] = {"case": _Side(call, loops)}
            if torch is not None:
                sides["anchor"] = stopwatch.Local(anchor.anchor("cpu", threads), stopwatch.CpuClock())
            visits = tuple(self._visit(sides, threads) for _ in range(self.visits))
        facts: dict[str, str | int | float | bool] = {"iterations": loops}
        if torch is None:
            facts["anchor"] = "none: it is made of PyTorch, which is not installed here"
        return replace(measured, visits=visits, facts=facts)

    def _visit(self, sides: Mapping[str, stopwatch.Side], threads: int) -> Visit:
        plan = stopwatch.VisitPlan(self.time_s / self.visits, self.precision)
        with device_lock("cpu").write_lock(), stopwatch.uncollected():
            attempt = partial(stopwatch.alternate, sides, plan)
            samples, conditions = watched(attempt, self.watcher, device="cpu", threads=threads)
        return Visit(samples["case"], anchor=samples.get("anchor"), conditions=conditions)


def _as_timed(fixture: Any) -> dict[str, Any]:
    """What pytest-benchmark itself saw of a call that must not be repeated."""
    if fixture.stats is None:
        return {"unmeasured": f"{ONCE}, and pytest-benchmark was disabled, as it is under xdist; give it more rounds"}
    durations = tuple(nanoseconds(one) for one in fixture.stats.stats.data)
    return {"visits": (Visit(Samples(durations, started_s=time.time())),), "facts": {"rounds": ONCE}}


def _loops(call: Call) -> int:
    """Calls that make a round long enough for the clock. What is set up before every call is called once a round."""
    if call.setup is not None or call.teardown is not None:
        return 1
    loops = 1
    while (taken := call.time_ns(loops)) * loops < ROUND_NS and loops < MOST_LOOPS:
        loops = min(MOST_LOOPS, max(2 * loops, math.ceil(ROUND_NS / taken)))
    return loops


def _torch() -> Any:
    import torch

    return torch


def _fingerprint(threads: int, anchored: bool) -> Fingerprint:
    found = device.fingerprint("cpu", threads)
    return replace(found, stack={**found.stack, **({"anchor": anchor.ANCHOR_VERSION} if anchored else {})})


@contextlib.contextmanager
def _threads(torch: Any, threads: int) -> Iterator[None]:
    """PyTorch with so many threads."""
    before = torch.get_num_threads() if torch else threads
    if before != threads:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        if before != threads:
            torch.set_num_threads(before)


@contextlib.contextmanager
def _untraced() -> Iterator[None]:
    """Without coverage or a debugger, which would be timed as well."""
    trace, profile = sys.gettrace(), sys.getprofile()
    sys.settrace(None)
    sys.setprofile(None)
    try:
        yield
    finally:
        sys.settrace(trace)
        sys.setprofile(profile)
