"""The constants of the procedure that decides regressions, in one place, each with its unit and reason. Knows no data."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rules:
    """effect, floor: slow-downs as fractions. The others are probabilities, counts of visits, or SDs in units of ln.

    Raises ValueError where the numbers contradict each other.
    """

    # A slow-down that matters: a case is ok once its upper bound lies under it.
    effect: float = 0.05
    # Below this nothing is ever called slower: layout of code and memory alone moves a program by as much.
    floor: float = 0.01
    # Chance of any false alarm over the whole suite.
    alpha: float = 0.01
    # The screen only nominates: one unchanged case in five may go on to be confirmed, so that few slow ones are lost.
    screen_p: float = 0.20
    # First and last look of the screen, visits: three show a spread at all, and an undecided case gets as many again.
    screen_visits: tuple[int, int] = (3, 6)
    # Looks of the confirmation, visits; the second where the pooled SD of a visit is over `noisy_sd`. Nothing is spent on the
    # first, which only lets cases go: most of those nominated by chance leave there.
    looks: tuple[int, ...] = (4, 8, 16, 32)
    noisy_looks: tuple[int, ...] = (4, 8, 24, 64)
    # Side by side a visit varies by 0.5 to 1 % in one process and 2 to 4 % in two: over this, ln, 32 visits lose one in three
    # cases that are slower by 3 %.
    noisy_sd: float = 0.02
    # Shares of alpha that the looks spend: more at the end, where there is more to see.
    spending: tuple[float, ...] = (0.0, 0.2, 0.3, 0.5)
    # Degrees of freedom that the suite's variance counts for in a case's (Smyth 2004 estimates a few for such data).
    prior_df: float = 3.0
    # A visit farther from its case's median than so many robust SDs, of the case or of the suite, counts as so far away. Where
    # other work now and then moves a visit by a third, that halves the undecided cases and adds no false alarm.
    outlier: float = 4.0
    # Visits that agree better than this show a coarse clock, not certainty; ln.
    smallest_sd: float = 0.001
    # Of the intervals shown (two-sided) and of the upper bound that lets a case go (one-sided).
    confidence: float = 0.95
    # Of the minimal detectable effect.
    power: float = 0.8

    def __post_init__(self) -> None:
        if not 0.0 < self.floor < self.effect:
            raise ValueError(f"the floor {self.floor:g} must lie between zero and the effect {self.effect:g}; lower it")
        if not (len(self.looks) == len(self.noisy_looks) == len(self.spending)):
            raise ValueError(
                f"{len(self.looks)} looks, {len(self.noisy_looks)} noisy looks and {len(self.spending)} shares of alpha: "
                "give one share for each look"
            )
        if self.looks[0] != self.noisy_looks[0]:
            raise ValueError(
                f"the first look is at {self.looks[0]} visits and at {self.noisy_looks[0]} where it is noisy: "
                "the first look tells whether it is, so give both the same"
            )
        for name in ("looks", "noisy_looks", "screen_visits"):
            looks = getattr(self, name)
            if looks[0] < 2 or list(looks) != sorted(set(looks)):
                raise ValueError(f"{name} is {looks}: give growing numbers of visits, the first at least 2")
        if min(self.spending) < 0.0 or self.spending[-1] <= 0.0 or math.fsum(self.spending) > 1.0 + 1e-9:
            raise ValueError(
                f"the looks spend {self.spending} of alpha: give shares of at least 0 with a sum of at most 1, the last over 0"
            )

    def bar(self, promise: float | None = None) -> float:
        """What a slow-down must exceed to be an alarm, ln: the floor, or what was promised where that is more."""
        return math.log1p(self.floor if promise is None else max(self.floor, promise))

    def bound(self, promise: float | None = None) -> float:
        """What the upper bound must lie under for a case to be ok, ln."""
        return math.log1p(self.effect if promise is None else promise)


RULES = Rules()
