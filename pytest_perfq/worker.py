"""One side's worker: measures what its parent asks, one JSON line a request, one an answer. A composition root.

Started as `python -m pytest_perfq.worker` in the environment and folder of its side; ends with its parent. Whatever else
prints goes to standard error.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_perfq import device
from pytest_perfq.errors import DataError, PerfqError, ProgramError, Unavailable, UsageError
from pytest_perfq.exchange import Exchange
from pytest_perfq.trials.worker import PROTOCOL

if TYPE_CHECKING:
    from pytest_perfq.core.case import Case
    from pytest_perfq.held import HeldTests
    from pytest_perfq.runner import Workbench
    from pytest_perfq.stopwatch import Local, Side
    from pytest_perfq.timedcall import TimedCall

# How the errors of a request travel.
KINDS: tuple[tuple[type[PerfqError], str], ...] = (
    (UsageError, "usage"),
    (DataError, "data"),
    (Unavailable, "unavailable"),
    (ProgramError, "program"),
    (PerfqError, "program"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """How to measure, as the parent says. cache, data: folders. threads: of every CPU backend. seed: of latency batches.
    cores: those to be timed on, the main thread's first; none for all. l2: of a GPU when a call begins."""

    cache: str
    data: str | None = None
    pickle: bool = False
    threads: int = 1
    seed: int = 0
    cores: Sequence[int] = ()
    l2: str = "warm"


class Served:
    """The requests, one method each. exchange: where they come from."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.given = Given(cache="")
        self._bench: Workbench | None = None
        self._tests: HeldTests | None = None
        self._cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
        self._sides: dict[str, Local] = {}
        self._calls: dict[str, TimedCall] = {}

    def hello(self) -> dict[str, Any]:
        """Who answers."""
        return {"protocol": PROTOCOL, "version": version("pytest-perfq"), "python": sys.executable}

    def begin(self, **given: Any) -> None:
        """Takes how to measure; after `hello`, by which the parent knows that both mean the same by it."""
        self.given = Given(**given)

    def settings(self, args: Sequence[str]) -> dict[str, Any]:
        """What the project's own settings say with these arguments of pytest: {cache, data, pickle, threads}."""
        from pytest_perfq import collecting

        return collecting.settings(args)

    def collect(self, args: Sequence[str]) -> list[dict[str, Any]]:
        """The cases of the suites that pytest is given these arguments for: [{nodeid, case, limits}]."""
        from pytest_perfq import collecting

        return [found.to_json() for found in collecting.collect(args)]

    def _pin(self, timing: bool) -> None:
        """Runs on its own cores while it is timed, and on all of them while it loads and builds beside the other side."""
        if self.given.cores:
            device.hold(self.given.cores if timing else self._cores)

    def fingerprint(self, device: str) -> dict[str, Any]:
        """The machine and software, as plain JSON."""
        self._pin(timing=False)
        if self._bench is None and self._tests is not None:
            return self._tests.fingerprint().to_json()
        return self.bench.fingerprint(device).to_json()

    def refuses(self, case: dict[str, Any]) -> list[str]:
        """Why the case cannot be built here."""
        found = _case(case)
        return self.bench.refuses(found) if found.test is None else []

    def prepare(self, side: str, case: dict[str, Any], args: Sequence[str] = ()) -> dict[str, Any] | None:
        """Builds a latency case and keeps its call under the name of a side: {bytes} of its program. Of a test of
        pytest-benchmark, which args of pytest find, see held.HeldTests.hold."""
        from pytest_perfq.stopwatch import Local, clock_for, set_aside

        self._pin(timing=False)
        found = _case(case)
        self._sides.pop(side, None)
        if found.test is not None:
            return self.tests.hold(side, found, args)
        self._calls[side] = self.bench.call(found)
        self._sides[side] = Local(self._calls[side], clock_for(found.device, self.given.l2))
        set_aside()
        return {"bytes": self._calls[side].built.program.bytes}

    def loops(self, side: str, loops: int) -> None:
        """So many calls are a round of a held test from now on."""
        self.tests.loops(side, loops)

    def audit(self, side: str) -> None:
        """Holds timed outputs of a side against the way accuracy is measured."""
        self.bench.audit(self._calls[side])

    def warm(self, side: str) -> list[int]:
        """First calls of a side, ns."""
        self._pin(timing=True)
        found = self._side(side).warm()
        if self.given.cores and side in self._sides:
            # Not before the pools of threads are there, and not for a test, which may start threads in every call.
            device.lead(self.given.cores)
        return found

    def block(self, side: str, rounds: int, settle: bool) -> tuple[list[int], list[int]]:
        """Calls of a side: those that settle, those that count, ns."""
        from pytest_perfq.stopwatch import uncollected

        with uncollected():
            return self._side(side).block(rounds, settle)

    def _side(self, name: str) -> Side:
        """A case of a sweep or a held test."""
        return self._sides[name] if name in self._sides else self.tests.rounds[name]

    def profile(self, side: str, calls: int) -> dict[str, tuple[int, int]] | None:
        """What so many calls of a side are made of: operator -> (calls, ns); None where its program cannot tell."""
        found = self._calls[side].profile(calls)
        return None if found is None else dict(found)

    def time(
        self,
        case: dict[str, Any],
        limits: list[dict[str, Any]],
        time_s: float,
        precision: float,
        passes: int,
        args: Sequence[str] = (),
    ) -> dict[str, Any]:
        """One visit of a latency case beside its original and the anchor. passes: visits of it in all. args: of pytest, that
        find a test of pytest-benchmark."""
        from pytest_perfq.core.budget import Limit

        if _case(case).test is not None:
            return self.tests.visit(_case(case), args, time_s, precision).to_json()
        plan = replace(self.bench.plan, time_s=time_s, precision=precision, visits=1, passes=passes)
        self.bench.plan = plan
        return self.bench.measure(_case(case), [Limit.from_json(limit) for limit in limits]).to_json()

    def measure(self, case: dict[str, Any], repeat: bool = True) -> dict[str, Any]:
        """An accuracy case, measured whole. repeat: predict its examples a second time, since without that a single lost
        example cannot be told from chance; one side's is enough."""
        self.bench.plan = replace(self.bench.plan, repeat=repeat)
        return self.bench.measure(_case(case)).to_json()

    def texts(self, case: dict[str, Any], ids: Sequence[str]) -> dict[str, str]:
        """What people read of examples of an accuracy case, by id."""
        return self.bench.materials.texts(_case(case), ids)

    @property
    def bench(self) -> Workbench:
        """Made at the first case: it loads torch."""
        if self._bench is None:
            from pytest_perfq.contracts import Resources
            from pytest_perfq.runner import Plan, Workbench

            given = self.given
            data = None if given.data is None else Path(given.data)
            resources = Resources(cache=Path(given.cache), data=data, pickle=given.pickle, threads=given.threads)
            self._bench = Workbench(Plan(seed=given.seed, l2=given.l2), resources)
        return self._bench

    @property
    def tests(self) -> HeldTests:
        """Made at the first test of pytest-benchmark."""
        if self._tests is None:
            from pytest_perfq.held import HeldTests

            self._tests = HeldTests(self.exchange, lambda request: answer(self, request), self.given.threads)
        return self._tests

    def close(self) -> None:
        """Frees models and programs."""
        self._sides.clear()
        if self._tests is not None:
            self._tests.close()
        if self._bench is not None:
            self._bench.close()


def _case(values: dict[str, Any]) -> Case:
    from pytest_perfq.core.case import Case

    return Case.from_json(values)


def answer(served: Served, request: dict[str, Any]) -> dict[str, Any]:
    """The answer to one request, or the error that it met with."""
    do: Callable[..., Any] = getattr(served, request.pop("do"))
    try:
        return {"answer": do(**request)}
    except PerfqError as error:
        kind = next(name for known, name in KINDS if isinstance(error, known))
        return {"error": str(error), "kind": kind}
    except Exception as error:
        # Of the code under test, in a process that measures nothing else: its parent is told, and knows whose case it is.
        traceback.print_exc()
        innermost = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{os.path.basename(innermost.filename)}:{innermost.lineno}"
        return {"error": f"{type(error).__name__}: {error} ({where})", "kind": "program"}


def main() -> int:
    """Answers until its parent closes the pipe."""
    exchange = Exchange()
    served = Served(exchange)
    while (request := exchange.take()) is not None:
        exchange.give(answer(served, request))
    served.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
