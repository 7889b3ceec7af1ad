"""Sign-swap permutation of any formula of core.scores, and its jackknife error.

Under the null hypothesis the two models are the same, so that on every example their statistics may be exchanged. Knows
formulas and columns; knows no metric by name and no measurement. Seeded: the same outcomes give the same p.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pytest_perfq.core import scores

SEED = 20_240_229
# Up to 2^12 swaps all of them are tried and the p is exact.
EXACT_ROWS = 12
# Rounds of sampling, each only when the one before could not tell p from zero: .01 over 1,000 cases needs p near 1e-5.
STEPS = (2_000, 20_000, 200_000)
CHUNK_ENTRIES = 4_000_000


def _table(formula: str, columns: Mapping[str, Any]) -> Any:
    import numpy as np

    return np.stack([np.asarray(columns[name], dtype=np.float64) for name in scores.columns(formula)], axis=1)


def _value(formula: str, sums: Any, n: int) -> Any:
    return scores.apply(formula, {name: sums[..., index] for index, name in enumerate(scores.columns(formula))}, n)


def _drops(formula: str, mask: Any, moved: Any, before: Any, after: Any, n: int) -> Any:
    shift = mask @ moved
    return _value(formula, before - shift, n) - _value(formula, after + shift, n)


def swap_test(formula: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[float, float]:
    """One-sided p of a drop of the formula from `before` to `after`, and the standard deviation of the drop under the null.

    before, after: columns of per-example statistics of the same examples in the same order, each of shape [n].
    """
    import numpy as np

    old, new = _table(formula, before), _table(formula, after)
    n, sums_old, sums_new = len(old), old.sum(axis=0), new.sum(axis=0)
    moved = (old - new)[np.any(old != new, axis=1)]
    if not len(moved):
        return 1.0, 0.0
    observed = float(_value(formula, sums_old, n) - _value(formula, sums_new, n))
    # A swap that gives the observed drop up to rounding counts as giving it.
    bar = observed - 1e-12
    rows = len(moved)
    if rows <= EXACT_ROWS:
        mask = (np.arange(2**rows)[:, None] >> np.arange(rows)) & 1
        drops = _drops(formula, mask.astype(np.float64), moved, sums_old, sums_new, n)
        return float(np.mean(drops >= bar)), float(np.std(drops))
    generator = np.random.default_rng(SEED)
    hits, total, deviation = 0, 0, 0.0
    for step in STEPS:
        left = step
        while left:
            size = min(left, max(1, CHUNK_ENTRIES // rows))
            mask = generator.integers(0, 2, size=(size, rows), dtype=np.int8).astype(np.float64)
            drops = _drops(formula, mask, moved, sums_old, sums_new, n)
            hits, total, left = hits + int(np.sum(drops >= bar)), total + size, left - size
            deviation = max(deviation, float(np.std(drops)))
        if hits >= 10:
            break
    return (hits + 1) / (total + 1), deviation


def drop_interval(
    formula: str, before: Mapping[str, Any], after: Mapping[str, Any], z: float = 1.959964
) -> tuple[float, float]:
    """The normal interval of the drop in the population the examples come from, by the jackknife over examples (paired)."""
    import numpy as np

    old, new = _table(formula, before), _table(formula, after)
    n, sums_old, sums_new = len(old), old.sum(axis=0), new.sum(axis=0)
    drop = float(_value(formula, sums_old, n) - _value(formula, sums_new, n))
    if n < 2:
        return drop, drop
    left_out = _value(formula, sums_old - old, n - 1) - _value(formula, sums_new - new, n - 1)
    error = math.sqrt((n - 1) / n * float(np.sum((left_out - left_out.mean()) ** 2)))
    return drop - z * error, drop + z * error
