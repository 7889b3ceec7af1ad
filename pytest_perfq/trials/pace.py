"""How long a visit may time, how long visits take and the rest will, and when the time given is used up. Knows no case."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pytest_perfq import stopwatch
from pytest_perfq.core import stats

# A visit's share of time where calls are slow, both sides together, which is more than the visits took that the published error
# rates are of; and of one side where they are fast.
VISIT_S, SIDE_S = 0.9, 0.25
# So many times that at most, where few cases share a start of workers: what is timed may take as long as starting did.
LONGEST = 2.0
# Within a visit more rounds buy little: what differs from visit to visit is the process and the minute.
VISIT_PRECISION = 0.005


def visit_plan(rounds: int = 0, start_s: float = 0.0) -> stopwatch.VisitPlan:
    """Of one visit. rounds: of a side at least, for what was promised of a tail. start_s: the visit's share of what its workers
    took to start, seconds."""
    longer = min(max(1.0, start_s / VISIT_S), LONGEST)
    return stopwatch.VisitPlan(
        budget_s=VISIT_S * longer,
        precision=VISIT_PRECISION,
        min_rounds=max(stopwatch.MIN_ROUNDS, rounds),
        max_rounds=max(stopwatch.MAX_ROUNDS, rounds),
        side_s=SIDE_S * longer,
    )


@dataclass(slots=True)
class Pace:
    """clock: seconds. budget_s: of the whole run, None for as long as it takes."""

    clock: Callable[[], float]
    budget_s: float | None = None
    _started: float = field(init=False)
    _firsts: list[float] = field(default_factory=list)
    _others: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._started = self.clock()

    def took(self, seconds: float, first: bool) -> None:
        """A visit is over. first: of its workers, which loaded their libraries and the model meanwhile."""
        (self._firsts if first else self._others).append(seconds)

    @property
    def start_s(self) -> float:
        """What a start of workers takes beside the visit that follows, seconds; zero before both are known."""
        if not (self._firsts and self._others):
            return 0.0
        return max(0.0, stats.median(self._firsts) - stats.median(self._others))

    def used(self, share: float = 1.0) -> bool:
        """Whether this share of the time given is used up."""
        return self.budget_s is not None and self.spent_s >= share * self.budget_s

    def needed_s(self, visits: int, starts: int) -> float | None:
        """Seconds that so many more visits take, `starts` of them the first of their workers; None before there was any."""
        if not self._firsts:
            return None
        # Of typical visits: the very first one may train a model.
        first = stats.median(self._firsts)
        other = stats.median(self._others) if self._others else first
        return first * min(starts, visits) + other * max(0, visits - starts)

    def left_s(self, visits: int, starts: int) -> float | None:
        """The same, or what is left of the time given where that is less."""
        needed = self.needed_s(visits, starts)
        if needed is None or self.budget_s is None:
            return needed
        return min(needed, max(0.0, self.budget_s - self.spent_s))

    @property
    def spent_s(self) -> float:
        """Seconds since the run began."""
        return self.clock() - self._started


@dataclass(slots=True)
class Allowance:
    """A time that several stages of measuring share. given_s: None for as long as they take. clock: seconds."""

    given_s: float | None
    clock: Callable[[], float]
    _spent: float = 0.0
    _kept: float = 0.0

    def share_s(self, followed: bool) -> float | None:
        """What the next stage may take: all that is left, or half of it where another follows, for which the other half is kept
        even if this one's last visit is long. None without a bound."""
        if self.given_s is None:
            return None
        left = max(self._kept, self.given_s - self._spent)
        self._kept = left / 2.0 if followed else 0.0
        return left - self._kept

    @contextmanager
    def spending(self) -> Iterator[None]:
        """A stage is measured; what lies between two, such as building a revision, is not counted."""
        begun = self.clock()
        try:
            yield
        finally:
            self._spent += self.clock() - begun
