"""How long visits take, how long the rest will, and when the time given is used up. Reads a clock; knows no case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pytest_perfq.core import stats


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

    def used(self, share: float = 1.0) -> bool:
        """Whether this share of the time given is used up."""
        return self.budget_s is not None and self.clock() - self._started >= share * self.budget_s

    def left_s(self, visits: int, starts: int) -> float | None:
        """Seconds for so many more visits, `starts` of them the first of their workers; None before there was any."""
        if not self._firsts:
            return None
        # Of typical visits: the very first one may train a model.
        first = stats.median(self._firsts)
        other = stats.median(self._others) if self._others else first
        left = first * min(starts, visits) + other * max(0, visits - starts)
        return left if self.budget_s is None else min(left, max(0.0, self.budget_s - (self.clock() - self._started)))
