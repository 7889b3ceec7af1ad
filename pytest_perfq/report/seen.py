"""What a comparison can see, in the words of a person. Knows the spread of visits and no case."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pytest_perfq.core.rules import RULES, Rules
from pytest_perfq.core.visible import expected_suspects, power, visible

SURE = 0.9


def caught(deviation: float, suspects: int = 1) -> str:
    """Such as `a +6% slow-down of this case is caught with 90%, +3% with 35%`. deviation: SD of a visit, ln. suspects: that
    share the chance of a false alarm."""
    seen = visible(deviation, SURE, suspects)
    if not math.isfinite(seen):
        return f"visits differ by {deviation:.1%}, so that no slow-down of this case is caught with {SURE:.0%}"
    half = seen / 2.0
    # Nothing up to the floor is ever called slower, whatever the formula gives it.
    less = (
        f"+{half:.1%} with {power(half, deviation, suspects):.0%}" if half > RULES.floor else f"none up to +{RULES.floor:.1%}"
    )
    return f"a +{seen:.1%} slow-down of this case is caught with {SURE:.0%}, {less}"


def too_noisy(deviation: float, rules: Rules = RULES) -> str | None:
    """That hardly anything can be decided here; None where it can."""
    least = visible(deviation, rules.power, rules=rules)
    if least <= rules.effect:
        return None
    many = f"under {least:.0%}" if math.isfinite(least) else "of any size"
    return (
        f"this machine is noisy: visits differ by {deviation:.1%}, so that slow-downs {many} will mostly stay undecided; free "
        "it of other work, or use another"
    )


def too_fine(promise: float, deviation: float) -> str | None:
    """Why a promised slow-down, a fraction, cannot be held here; None where it can."""
    if promise >= visible(deviation, SURE):
        return None
    return (
        f"max_slowdown is {promise:.1%}, under what this machine can see: {caught(deviation)}; promise more, or calibrate a "
        "quieter machine with `perfq calibrate`"
    )


def range_seen(deviations: Sequence[float], cases: int) -> str:
    """One sentence on a whole run. deviations: of its calibrated cases. cases: that were timed."""
    seen = sorted(visible(one, SURE, expected_suspects(len(deviations))) for one in {min(deviations), max(deviations)})
    span = " to ".join(f"+{one:.1%}" if math.isfinite(one) else "none" for one in seen)
    what = "all cases" if len(deviations) == cases else f"{len(deviations)} of {cases} timed cases"
    return f"side by side, slow-downs of {span} are caught with {SURE:.0%} here ({what} calibrated)"
