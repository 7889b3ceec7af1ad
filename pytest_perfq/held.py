"""Tests of pytest-benchmark in the worker: one is held at its call, which is a side until the parent wants something else.

Knows which requests let a test go on; what is answered meanwhile is the worker's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from pytest_perfq import device, holding, stopwatch
from pytest_perfq.benchmark_call import Call, Rounds, threads_of, untraced
from pytest_perfq.benchmarks import Visits
from pytest_perfq.core.benchmarks import nodeid_of
from pytest_perfq.core.case import Case
from pytest_perfq.core.fingerprint import Fingerprint
from pytest_perfq.core.measurement import Measurement
from pytest_perfq.device import sampler
from pytest_perfq.device.lock import device_lock
from pytest_perfq.device.sampler import Sampler
from pytest_perfq.errors import UsageError
from pytest_perfq.exchange import Exchange

# Requests that are answered while a test is held at its call; any other lets it go on to its end.
MEANWHILE = ("hello", "begin", "refuses", "fingerprint", "loops", "warm", "block")


@dataclass(slots=True)
class HeldTests:
    """exchange: where requests come from. serve: answers one. threads: of PyTorch, where a test uses it. rounds: by the name of
    a side, the call of its test while that is held."""

    exchange: Exchange
    serve: Callable[[dict[str, Any]], dict[str, Any]]
    threads: int
    rounds: dict[str, Rounds] = field(default_factory=dict)
    _watcher: Sampler | None = None

    def hold(self, side: str, case: Case, args: Sequence[str]) -> dict[str, Any] | None:
        """Runs a test and holds it at its call, which is a side from then on: {bytes, loops, renewed}, its calls a round and
        whether each is set up. The next request but MEANWHILE lets it go on; an `audit` is answered by how it ends. {refused}
        where there is nothing to hold. args: of pytest, that find it. Raises what holding.run raises."""
        with ExitStack() as running:
            running.enter_context(device_lock(case.device).read_lock())
            refused = holding.run(nodeid_of(case), args, partial(self._held, side, running))
        return None if refused is None else {"refused": refused}

    def _held(self, side: str, running: ExitStack, call: Call) -> Rounds:
        # Whoever times waits until nobody builds, and this process builds nothing now.
        running.close()
        with untraced(), threads_of(sys.modules.get("torch"), self.threads):
            rounds = self.rounds[side] = Rounds(call, call.enough())
            stopwatch.set_aside()
            self.exchange.give({"answer": {"bytes": None, "loops": rounds.loops, "renewed": call.setup is not None}})
            while (request := self.exchange.take()) is not None and request["do"] in MEANWHILE:
                self.exchange.give(self.serve(request))
        if request is not None and request["do"] != "audit":
            self.exchange.put_back(request)
        running.enter_context(device_lock("cpu").read_lock())
        return self.rounds.pop(side)

    def loops(self, side: str, loops: int) -> None:
        """So many calls are a round of a side from now on."""
        self.rounds[side] = replace(self.rounds[side], loops=loops)

    def visit(self, case: Case, args: Sequence[str], time_s: float, precision: float) -> Measurement:
        """One visit of a test beside the anchor, at the call that it gives its fixture. Raises UsageError where there is
        nothing to time, and what holding.run raises."""
        nodeid, found = nodeid_of(case), list[Measurement]()

        def timed(call: Call) -> Rounds:
            rounds = Rounds(call, call.enough())
            watcher = self._watcher = self._watcher or sampler.sampler()
            visits = Visits(watcher=watcher, visits=1, time_s=time_s, precision=precision, threads=self.threads)
            found.append(visits.visited(nodeid, rounds))
            return rounds

        refused = holding.run(nodeid, args, timed)
        if refused is not None:
            raise UsageError(refused)
        return found[0]

    def fingerprint(self) -> Fingerprint:
        """The machine and software. Not that of a workbench, which settles what the allocator does: a test is left as it is."""
        return device.fingerprint("cpu", self.threads)

    def close(self) -> None:
        """Ends the process that watches, where there is one."""
        if self._watcher is not None:
            self._watcher.close()
