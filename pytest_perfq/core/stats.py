"""The statistics a verdict stands on: the t tail, order statistics, the binomial rule, McNemar, Holm, effects that can be seen.

Pure functions of numbers; knows no measurement, no budget, no clock. Standard library (scipy's import alone costs seconds;
the tests hold these against it). The permutation tests that need arrays are in permutation.py.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import lru_cache

# Confidence of the early-stopping rule of MLPerf loadgen, and of every percentile budget here.
TAIL_CONFIDENCE = 0.99
# A median of fewer than five numbers is an anecdote; the binomial rule would ask for seven before deciding anything.
MIN_MEDIAN_ROUNDS = 5


def percentile(values: Sequence[int], q: float) -> int:
    """The smallest value with at least a share q (0 to 1) of all values at or below it: always a measured one."""
    ordered = sorted(values)
    # The tiny step back keeps 0.9 * 10 = 9.000000000000002 at the ninth value.
    return ordered[max(0, math.ceil(q * len(ordered) - 1e-9) - 1)]


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two middle ones."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return float(ordered[middle]) if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


# exp(-40 ** 2 / 2) is no double.
_NEGLIGIBLE_SD = 40.0


@lru_cache(maxsize=4096)
def binomial_tail(k: int, n: int, p: float) -> float:
    """P(X <= k) for X binomial of n trials of probability p."""
    if k < 0 or k >= n:
        return float(k >= 0)
    if p <= 0.0 or p >= 1.0:
        return float(p <= 0.0)
    base, ratio = math.log1p(-p), math.log(p) - math.log1p(-p)
    full = math.lgamma(n + 1)
    # Terms fall off below the mean: none so far under the largest one changes a double.
    first = max(0, int(min(k, n * p) - _NEGLIGIBLE_SD * (math.sqrt(n * p * (1.0 - p)) + 1.0)))
    terms = (math.exp(full - math.lgamma(i + 1) - math.lgamma(n - i + 1) + n * base + i * ratio) for i in range(first, k + 1))
    return min(1.0, math.fsum(terms))


def binomial_upper(k: int, n: int, p: float) -> float:
    """P(X >= k) for X binomial of n trials of probability p."""
    return binomial_tail(n - k, n, 1.0 - p)


@lru_cache(maxsize=4096)
def rounds_needed(q: float, misses: int, confidence: float = TAIL_CONFIDENCE) -> int:
    """Rounds after which `misses` above a limit still show that the q-quantile (0 to 1) lies under it.

    The early-stopping rule of MLPerf loadgen (early_stopping.cc, d = 0): the smallest n at which at most `misses` of n would
    have a probability of at most 1 - confidence, were the quantile at the limit.
    """
    low, high = misses, 2 * misses + 1
    while binomial_tail(misses, high, 1.0 - q) > 1.0 - confidence:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        if binomial_tail(misses, middle, 1.0 - q) > 1.0 - confidence:
            low = middle
        else:
            high = middle
    return high


def printable(q: float, n: int) -> bool:
    """Whether n rounds are enough to print their q-quantile: the count at which zero misses decide; a median from five."""
    return n >= (MIN_MEDIAN_ROUNDS if q <= 0.5 else rounds_needed(q, 0))


@lru_cache(maxsize=1024)
def interval_ranks(n: int, q: float, confidence: float) -> tuple[int, int] | None:
    """Ranks (0-based, inclusive) of the order statistics of n values that hold the q-quantile with at least this confidence
    whatever the distribution; None when n is too small for any."""
    side = (1.0 - confidence) / 2.0
    # P(quantile < x_(r)) = P(X <= r - 1): the largest r on the left and the smallest on the right that keep the promise.
    ranks = range(1, n + 1)
    lower = bisect_right(ranks, side, key=lambda rank: binomial_tail(rank - 1, n, q))
    upper = bisect_left(ranks, 1.0 - side, key=lambda rank: binomial_tail(rank - 1, n, q)) + 1
    return None if lower < 1 or upper > n else (lower - 1, upper - 1)


def quantile_interval(values: Sequence[float], q: float = 0.5, confidence: float = 0.95) -> tuple[float, float] | None:
    """The distribution-free interval of the q-quantile, both ends measured values; None when there are too few."""
    ranks = interval_ranks(len(values), q, confidence)
    if ranks is None:
        return None
    ordered = sorted(values)
    return ordered[ranks[0]], ordered[ranks[1]]


def _continued_beta(a: float, b: float, x: float) -> float:
    """The continued fraction of the incomplete beta function by Lentz's method (Numerical Recipes, 6.4)."""
    tiny, c = 1e-300, 1.0
    d = 1.0 - (a + b) * x / (a + 1.0)
    d = 1.0 / (d if abs(d) > tiny else tiny)
    value = d
    for m in range(1, 500):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 + term * d
            d = 1.0 / (d if abs(d) > tiny else tiny)
            c = 1.0 + term / c
            c = c if abs(c) > tiny else tiny
            value *= d * c
        if abs(d * c - 1.0) < 1e-16:
            break
    return value


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b)."""
    if x <= 0.0 or x >= 1.0:
        return float(x >= 1.0)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1.0) / (a + b + 2.0):
        return front * _continued_beta(a, b, x) / a
    return 1.0 - front * _continued_beta(b, a, 1.0 - x) / b


@lru_cache(maxsize=65536)
def t_tail(t: float, df: float) -> float:
    """P(T > t) of Student's t with df degrees of freedom."""
    if math.isinf(t):
        return float(t < 0)
    square = t * t
    # Two forms of the same: near zero the first would lose its digits to 1 - x.
    if square < df:
        tail = 0.5 - 0.5 * incomplete_beta(0.5, df / 2.0, square / (df + square))
    else:
        tail = 0.5 * incomplete_beta(df / 2.0, 0.5, df / (df + square))
    return tail if t >= 0 else 1.0 - tail


@lru_cache(maxsize=4096)
def t_quantile(tail: float, df: float) -> float:
    """The t with P(T > t) = tail, for a tail of at most one half."""
    low, high = 0.0, 1.0
    while t_tail(high, df) > tail:
        low, high = high, high * 2.0
    for _ in range(80):
        middle = (low + high) / 2.0
        if t_tail(middle, df) > tail:
            low = middle
        else:
            high = middle
    return (low + high) / 2.0


def variance(values: Sequence[float]) -> float:
    """The unbiased variance; 0.0 of fewer than two values (which have no degree of freedom to show one)."""
    if len(values) < 2:
        return 0.0
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def moderated(own: float, df: float, prior: float, prior_df: float = 3.0) -> tuple[float, float]:
    """Smyth's moderated variance and its degrees of freedom: (d0 s0^2 + df s^2) / (d0 + df), d0 + df.

    own: a case's variance over `df` degrees of freedom. prior: pooled over the suite. Source: Smyth 2004.
    """
    return (prior_df * prior + df * own) / (prior_df + df), prior_df + df


def minimal_effect(deviation: float, df: float, alpha: float, power: float = 0.8) -> float:
    """The minimal detectable effect of a one-sided t test: (t(1-alpha) + t(power)) times the standard error of the mean."""
    return (t_quantile(alpha, df) + t_quantile(1.0 - power, df)) * deviation


def paired_t(differences: Sequence[float], n: int) -> float:
    """One-sided p of a positive mean of n paired differences, of which the ones not given are zero.

    1.0 when none differs. All alike and positive: there is no spread to judge by, and the p is that of signs, 2^-n.
    """
    total = math.fsum(differences)
    if total <= 0.0 or n < 2:
        return 1.0
    mean = total / n
    spread = (math.fsum((value - mean) ** 2 for value in differences) + (n - len(differences)) * mean * mean) / (n - 1)
    if spread <= (1e-12 * mean) ** 2:
        return 0.5**n
    return t_tail(mean / math.sqrt(spread / n), n - 1)


def mcnemar(worse: int, better: int) -> float:
    """One-sided exact McNemar: P of at least this many of the flips going right -> wrong by chance; five one-way flips
    are the first to fall under .05."""
    return binomial_upper(worse, worse + better, 0.5)


def holm(p_values: Sequence[float], family: int = 0) -> list[float]:
    """Holm's adjusted p values in the order given; controls the chance of any false alarm over the whole family.

    family: tests in it, where `p_values` are only some of them; those not given are taken to be the largest.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, floor, tests = [0.0] * len(p_values), 0.0, max(len(p_values), family)
    for rank, index in enumerate(order):
        floor = max(floor, min(1.0, (tests - rank) * p_values[index]))
        adjusted[index] = floor
    return adjusted
