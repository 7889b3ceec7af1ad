"""Where the history of a case changed its level: hierarchical E-divisive over one value a run. Knows numbers in time order.

It nominates: a change lies between two runs, and only fresh visits of both revisions side by side can accuse one. Sources:
Matteson and James 2014 for the divergence and its maximum over windows; a t test in place of their permutations, which cannot
reach .001 with five runs on a side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_perfq.core import stats

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# Chance of a change in a history that has none.
P = 0.001
# For going on to split: what is kept in the end is judged again, between its neighbours, at P.
LOOSE_P = 0.05
# Smaller steps, as a fraction, are nobody's to hunt.
EFFECT = 0.02
# A level that fewer runs have seen may be one bad day.
MIN_RUNS = 5


@dataclass(frozen=True, slots=True)
class Change:
    """index: of the first run on the new level. before, after: geometric means of the levels on both sides, up to the next
    change. effect: after / before - 1. p: two-sided, Bonferroni over the places where the change could have been."""

    index: int
    before: float
    after: float
    effect: float
    p: float


def divergence(values: Array) -> Array:
    """Q of every split t and window end k of `values` [n], as [n + 1, n + 1] with -inf where a side has under MIN_RUNS.

    Q = m1 m2 / (m1 + m2) times the energy distance (with the exponent 1) of values[:t] and values[t:k].
    """
    import numpy as np

    n = len(values)
    sums = np.zeros((n + 1, n + 1))
    sums[1:, 1:] = np.abs(values[:, None] - values[None, :]).cumsum(0).cumsum(1)
    split, end = np.meshgrid(np.arange(n + 1.0), np.arange(n + 1.0), indexing="ij")
    left, right = split, end - split
    own = np.diagonal(sums)
    found: Array = np.full((n + 1, n + 1), -np.inf)
    kept = (left >= MIN_RUNS) & (right >= MIN_RUNS)
    one, other, first, last = left[kept], right[kept], own[split[kept].astype(int)], own[end[kept].astype(int)]
    across = sums[kept] - first
    # The sums count every pair within a side twice, as the formula does.
    within = first / (one * (one - 1.0)) + (last - first - 2.0 * across) / (other * (other - 1.0))
    found[kept] = one * other / (one + other) * (2.0 * across / (one * other) - within)
    return found


def _split(values: Array) -> tuple[int, int]:
    """The split of the largest divergence, and the end of its window."""
    import numpy as np

    found = divergence(values)
    split, end = np.unravel_index(np.argmax(found), found.shape)
    return int(split), int(end)


def _t_test(left: Array, right: Array) -> float:
    """Two-sided p of equal means with pooled variance, times the places where both could have been parted."""
    df, places = len(left) + len(right) - 2, max(1, len(left) + len(right) - 2 * MIN_RUNS + 1)
    step = abs(float(right.mean() - left.mean()))
    squares = float(((left - left.mean()) ** 2).sum() + ((right - right.mean()) ** 2).sum())
    error = math.sqrt(squares / df * (1.0 / len(left) + 1.0 / len(right)))
    if error <= 1e-12 * step:
        # No spread to judge by: the chance of this order of two groups.
        return min(1.0, 2.0 * places / math.comb(df + 2, len(left))) if step else 1.0
    return min(1.0, 2.0 * places * stats.t_tail(step / error, df))


def _candidates(values: Array, start: int, end: int) -> list[int]:
    """Splits of values[start:end] in order: the largest divergence, then those of both parts. Kept loosely and by the window
    alone, since a change beyond it may hide this one from the whole part."""
    if end - start < 2 * MIN_RUNS:
        return []
    split, window = _split(values[start:end])
    if _t_test(values[start : start + split], values[start + split : start + window]) > LOOSE_P:
        return []
    at = start + split
    return [*_candidates(values, start, at), at, *_candidates(values, at, end)]


def changes(values: Sequence[float], p: float = P, effect: float = EFFECT) -> list[Change]:
    """Changes of level in `values`, one a run in time order, each over zero (milliseconds, or ratios to an anchor).

    Each has at least MIN_RUNS runs on both sides, a step of at least `effect` (fraction) and at most this p. Runs are taken to
    be independent: a machine that drifts from day to day gives changes of its own. Raises ValueError for a value that is not
    over zero.
    """
    import numpy as np

    wrong = next((index for index, value in enumerate(values) if not (math.isfinite(value) and value > 0.0)), None)
    if wrong is not None:
        raise ValueError(
            f"run {wrong} has the value {values[wrong]}; a history needs finite values over zero: leave that run out"
        )
    logs = np.log(np.asarray(values, dtype=np.float64))
    edges = _candidates(logs, 0, len(logs))
    while True:
        found = _judged(logs, edges)
        weak = [one for one in found if one.p > p or abs(one.effect) < effect]
        if not weak:
            return found
        # The weakest first: what it separated is one level again, and its neighbours are judged by the whole of it.
        worst = max(weak, key=lambda one: (one.p > p, one.p, -abs(one.effect)))
        edges = [edge for edge in edges if edge != worst.index]


def _judged(logs: Array, edges: Sequence[int]) -> list[Change]:
    bounds = [0, *edges, len(logs)]
    found = []
    for start, at, end in zip(bounds, bounds[1:], bounds[2:], strict=False):
        left, right = logs[start:at], logs[at:end]
        step = float(right.mean() - left.mean())
        p = 1.0 if _borrowed(left, right) else _t_test(left, right)
        found.append(Change(at, math.exp(float(left.mean())), math.exp(float(right.mean())), math.expm1(step), p))
    return found


def _borrowed(left: Array, right: Array) -> bool:
    """Whether a side has its MIN_RUNS only with a run that lies nearer to the other: fewer have seen its level."""
    border = [(left[-1], left[:-1], right)] if len(left) == MIN_RUNS else []
    border += [(right[0], right[1:], left)] if len(right) == MIN_RUNS else []
    return any(abs(run - other.mean()) < abs(run - own.mean()) for run, own, other in border)
