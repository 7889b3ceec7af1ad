"""Any call visited beside the anchor: what a test gave pytest-benchmark, timed again our way. Knows no pytest and no baseline.

pytest-benchmark measures and reports as ever; when it is through, the same call is visited several times, in blocks that
alternate with the anchor's. So visits do not depend on its options, nor on whether it is disabled, as it is under xdist.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import Any

from pytest_perfq import anchor, device, stopwatch
from pytest_perfq.benchmark_call import Call, Rounds, threads_of, untraced
from pytest_perfq.core.benchmarks import ONCE, case_of, nanoseconds, per_call
from pytest_perfq.core.fingerprint import Fingerprint
from pytest_perfq.core.measurement import Measurement, Samples, Visit
from pytest_perfq.device.conditions import watched
from pytest_perfq.device.lock import device_lock
from pytest_perfq.device.sampler import Sampler


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
        if call.once:
            return replace(self._unvisited(nodeid), **_as_timed(fixture))
        return self.visited(nodeid, Rounds(call, call.enough()))

    def visited(self, nodeid: str, rounds: Rounds) -> Measurement:
        """The measurement of a test by rounds of its call, which may be repeated. Raises what the call raises."""
        torch, threads = _torch(), self._threads()
        measured = self._unvisited(nodeid)
        with untraced(), threads_of(torch, threads):
            sides: dict[str, stopwatch.Side] = {"case": rounds}
            if torch is not None:
                sides["anchor"] = stopwatch.Local(anchor.anchor("cpu", threads), stopwatch.CpuClock())
            visits = tuple(self._visit(sides, rounds.loops, threads) for _ in range(self.visits))
        facts: dict[str, str | int | float | bool] = {"iterations": rounds.loops}
        if torch is None:
            facts["anchor"] = "none: it is made of PyTorch, which is not installed here"
        return replace(measured, visits=visits, facts=facts)

    def _threads(self) -> int:
        torch = _torch()
        return self.threads or (torch.get_num_threads() if torch else 1)

    def _unvisited(self, nodeid: str) -> Measurement:
        return Measurement(case=case_of(nodeid), fingerprint=_fingerprint(self._threads(), _torch() is not None))

    def _visit(self, sides: Mapping[str, stopwatch.Side], loops: int, threads: int) -> Visit:
        plan = stopwatch.VisitPlan(self.time_s / self.visits, self.precision)
        with device_lock("cpu").write_lock(), stopwatch.uncollected():
            attempt = partial(stopwatch.alternate, sides, plan)
            samples, conditions = watched(attempt, self.watcher, device="cpu", threads=threads)
        return Visit(per_call(samples["case"], loops), anchor=samples.get("anchor"), conditions=conditions)


def _as_timed(fixture: Any) -> dict[str, Any]:
    """What pytest-benchmark itself saw of a call that must not be repeated."""
    if fixture.stats is None:
        return {"unmeasured": f"{ONCE}, and pytest-benchmark was disabled, as it is under xdist; give it more rounds"}
    durations = tuple(nanoseconds(one) for one in fixture.stats.stats.data)
    return {"visits": (Visit(Samples(durations, started_s=time.time())),), "facts": {"rounds": ONCE}}


def _torch() -> Any:
    """The module; None where it is not installed."""
    if find_spec("torch") is None:
        return None
    import torch

    return torch


def _fingerprint(threads: int, anchored: bool) -> Fingerprint:
    found = device.fingerprint("cpu", threads)
    return replace(found, stack={**found.stack, **({"anchor": anchor.ANCHOR_VERSION} if anchored else {})})
