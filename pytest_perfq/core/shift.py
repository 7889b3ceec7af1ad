"""A whole suite that moved alike: two stored runs of different days, not single cases. Knows no case but by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_perfq.core import stats
from pytest_perfq.core.rules import RULES, Rules

# All of fewer cases may lie on one side by chance: 2^-7 is the first under ALPHA.
MIN_CASES = 8
# Chance that cases without a common shift are said to have one.
ALPHA = 0.01
# Share of the cases that must have moved to the same side; of fewer it is not the suite that moved.
MIN_SHARE = 0.65
# Share of the cases within half their median distance of the shift: a quarter where they moved alike, next to none where a part
# of them moved and the median lies in between.
MIN_NEAR = 0.15


@dataclass(frozen=True, slots=True)
class Shift:
    """size: ln, positive is slower. share: of the cases that moved to the same side. rest: ln ratio by case name with
    the size taken out."""

    size: float
    share: float
    rest: dict[str, float]


def machine_shift(values: Mapping[str, float], rules: Rules = RULES) -> Shift | None:
    """The common shift of ln(now / then) by case name; None where there is none over the floor.

    The size is the median, which a minority of changed cases does not move. Visits that are noisier than the shift is large do
    not hide it, since the cases' sides of zero show it. A change of the code that slows every case alike looks the same: side
    by side decides.
    """
    moved = list(values.values())
    size = stats.median(moved) if len(moved) >= MIN_CASES else 0.0
    if abs(size) <= rules.bar():
        return None
    same_side = sum(value * size > 0.0 for value in moved)
    distances = [abs(value - size) for value in moved]
    half = stats.median(distances) / 2.0
    near = sum(one <= half for one in distances)
    by_chance = 2.0 * stats.binomial_upper(same_side, len(moved), 0.5) > ALPHA
    if by_chance or same_side < MIN_SHARE * len(moved) or near < MIN_NEAR * len(moved):
        return None
    return Shift(size, same_side / len(moved), {name: value - size for name, value in values.items()})
