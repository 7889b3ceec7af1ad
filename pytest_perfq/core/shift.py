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
# Share of the cases that must lie nearer to the shift than to none; otherwise the suite moved in parts.
MIN_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class Shift:
    """size: ln, positive is slower. share: of the cases that lie within half the size of it. rest: ln ratio by case name with
    the size taken out."""

    size: float
    share: float
    rest: dict[str, float]


def machine_shift(values: Mapping[str, float], rules: Rules = RULES) -> Shift | None:
    """The common shift of ln(now / then) by case name; None where there is none over the floor.

    The size is the median, which a minority of changed cases does not move; the cases must leave zero on the same side by a
    sign test and mostly lie near it. A change of the code that slows every case alike looks the same: side by side decides.
    """
    size = stats.median(list(values.values())) if len(values) >= MIN_CASES else 0.0
    if abs(size) <= rules.bar():
        return None
    same_side = sum(value * size > 0.0 for value in values.values())
    share = sum(abs(value - size) <= abs(size) / 2.0 for value in values.values()) / len(values)
    if stats.binomial_upper(same_side, len(values), 0.5) * 2.0 > ALPHA or share < MIN_SHARE:
        return None
    return Shift(size, share, {name: value - size for name, value in values.items()})
