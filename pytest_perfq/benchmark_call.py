"""The call that a test gives pytest-benchmark to time, and its rounds as a side of a visit. Knows no pytest and no case.

pytest-benchmark's fixture is left what it is, but for what happens to the call: it is kept while pytest-benchmark times it, or
held while somebody else does.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_perfq import stopwatch

# A round is as many calls as take this long: the clock then shows a thousandth of it.
ROUND_NS = 100_000
MOST_LOOPS = 100_000


@dataclass(frozen=True, slots=True)
class Call:
    """What a test asks pytest-benchmark to time. setup: before every round, may give its arguments; teardown: after it. Neither
    is timed. loops: calls a round, None to find out. once: whether the test lets it be called a single time only."""

    function: Callable[..., Any]
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    setup: Callable[[], Any] | None = None
    teardown: Callable[..., Any] | None = None
    loops: int | None = None
    once: bool = False

    @property
    def possible(self) -> bool:
        """Whether pytest-benchmark would time it; what it refuses instead is its to say."""
        return self.loops is None or (isinstance(self.loops, int) and self.loops >= 1 and (self.loops == 1 or not self.setup))

    def round_ns(self, loops: int) -> int:
        """Nanoseconds of a round of so many calls."""
        args, kwargs = (self.setup() if self.setup is not None else None) or (self.args, self.kwargs)
        function, rounds = self.function, range(loops)
        start = time.perf_counter_ns()
        for _ in rounds:
            function(*args, **kwargs)
        taken = time.perf_counter_ns() - start
        if self.teardown is not None:
            self.teardown(*args, **kwargs)
        return max(1, taken)

    def enough(self) -> int:
        """Calls a round: what the test says, or as many as make it long enough for the clock."""
        if self.loops is not None:
            return self.loops
        loops = 1
        with untraced():
            while (taken := self.round_ns(loops)) < ROUND_NS and loops < MOST_LOOPS:
                loops = min(MOST_LOOPS, max(2 * loops, math.ceil(ROUND_NS * loops / taken)))
        return loops


@dataclass(frozen=True, slots=True)
class Rounds:
    """The call as a side of a visit. Durations are those of whole rounds of `loops` calls, so that no part of a nanosecond is
    lost: core.benchmarks.per_call divides them. timed_ns: of all rounds that counted."""

    call: Call
    loops: int
    timed_ns: list[int] = field(default_factory=list)

    def warm(self) -> list[int]:
        return [self.call.round_ns(self.loops) for _ in range(2)]

    def block(self, rounds: int, settle: bool) -> tuple[list[int], list[int]]:
        settling = [self.call.round_ns(self.loops)] if settle else []
        while settle and sum(settling) < stopwatch.SETTLE_NS:
            settling.append(self.call.round_ns(self.loops))
        timed = [self.call.round_ns(self.loops) for _ in range(rounds)]
        self.timed_ns.extend(timed)
        return settling, timed


class _Kept:
    """Over the class of a `benchmark` fixture: keeps the call that the test gives it."""

    perfq_call: Call | None = None

    def __call__(self, function_to_benchmark: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        found = super().__call__(function_to_benchmark, *args, **kwargs)  # type: ignore[misc]
        self.perfq_call = Call(function_to_benchmark, args, kwargs)
        return found

    def pedantic(self, *args: Any, **kwargs: Any) -> Any:
        theirs = super().pedantic  # type: ignore[misc]
        found = theirs(*args, **kwargs)
        self.perfq_call = _pedantic(_bound(theirs, args, kwargs))
        return found


class _Held:
    """Over the class of a `benchmark` fixture: hands the call over, and makes it once more for what the test is given back."""

    perfq_call: Call | None = None
    perfq_hold: Callable[[Call], Rounds | None]
    disabled: bool
    _make_stats: Callable[[int], Any]

    def __call__(self, function_to_benchmark: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._hand_over(Call(function_to_benchmark, args, kwargs))
        with self._untimed():
            return super().__call__(function_to_benchmark, *args, **kwargs)  # type: ignore[misc]

    def pedantic(self, *args: Any, **kwargs: Any) -> Any:
        theirs = super().pedantic  # type: ignore[misc]
        given = _bound(theirs, args, kwargs)
        call = _pedantic(given)
        self._hand_over(call)
        if call.teardown is None:
            with self._untimed():
                return theirs(**given)
        # Disabled it makes one call, and puts away nothing of what it set up for that.
        used: Any = (call.args, call.kwargs)

        def setup() -> Any:
            nonlocal used
            made = call.setup() if call.setup is not None else None
            used = made or used
            return made

        with self._untimed():
            found = theirs(**{**given, "setup": setup if call.setup is not None else None, "teardown": None})
        call.teardown(*used[0], **used[1])
        return found

    @contextlib.contextmanager
    def _untimed(self) -> Iterator[None]:
        """Disabled, for the one call: what the test does may depend on whether it is."""
        before, self.disabled = self.disabled, True
        try:
            yield
        finally:
            self.disabled = before

    def _hand_over(self, call: Call) -> None:
        # The second call of a test is pytest-benchmark's to refuse.
        if self.perfq_call is None and call.possible:
            self.perfq_call = call
            self._tell(self.perfq_hold(call))

    def _tell(self, rounds: Rounds | None) -> None:
        """The rounds as the fixture's own statistics, which the test may look at; the session reports none of them."""
        if rounds is not None and rounds.timed_ns:
            self._add_stats = lambda stats: None
            stats = self._make_stats(rounds.loops)
            for one in rounds.timed_ns:
                stats.update(one / 1e9)


def keep(fixture: Any) -> None:
    """From now on the fixture keeps the call it is given; it times and reports it as before."""
    _over(fixture, _Kept)


def hold(fixture: Any, held: Callable[[Call], Rounds | None]) -> None:
    """From now on the fixture hands the call it is given to `held` instead of timing it; the test goes on when that returns
    what it timed, with what the call gives then."""
    _over(fixture, _Held)
    fixture.perfq_hold = held


def _over(fixture: Any, kind: type) -> None:
    theirs = type(fixture)
    fixture.__class__ = type(theirs.__name__, (kind, theirs), {})


def _bound(theirs: Callable[..., Any], args: Any, kwargs: Any) -> dict[str, Any]:
    bound = inspect.signature(theirs).bind(*args, **kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)


def _pedantic(given: Mapping[str, Any]) -> Call:
    """The call of benchmark.pedantic by its arguments."""
    target, args, kwargs = given["target"], given["args"], given["kwargs"] or {}
    return Call(target, args, kwargs, given.get("setup"), given.get("teardown"), given["iterations"], given["rounds"] == 1)


@contextlib.contextmanager
def untraced() -> Iterator[None]:
    """Without coverage or a debugger, which would be timed as well."""
    trace, profile = sys.gettrace(), sys.getprofile()
    sys.settrace(None)
    sys.setprofile(None)
    try:
        yield
    finally:
        sys.settrace(trace)
        sys.setprofile(profile)


@contextlib.contextmanager
def threads_of(torch: Any, threads: int) -> Iterator[None]:
    """PyTorch with so many threads. torch: the module, None where there is none."""
    before = torch.get_num_threads() if torch else threads
    if before != threads:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        if before != threads:
            torch.set_num_threads(before)
