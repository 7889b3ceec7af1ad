"""What the two stages can see at a given noise, before anything is measured: power and its inverse, by formula.

Knows the rules and an SD of visits; no case and no data. Normal and t approximations of `stages`, which the tests hold
against simulations of it.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from pytest_perfq.core import stats
from pytest_perfq.core.rules import RULES, Rules

# A slow-down over which nothing needs to be searched: a case three times as slow.
LARGEST = math.log(3.0)
NORMAL = NormalDist()


def _reached(mean: float, error: float, df: float, threshold: float, tail: float) -> float:
    """Chance that a mean with this standard error, known to df degrees of freedom, exceeds threshold + t(tail) errors."""
    critical = stats.t_quantile(tail, df)
    # The noncentral t by its normal approximation (Abramowitz and Stegun 26.7.10).
    value = (critical * (1.0 - 0.25 / df) - (mean - threshold) / error) / math.sqrt(1.0 + critical * critical / (2.0 * df))
    return 1.0 - NORMAL.cdf(value)


def _looks(sd: float, rules: Rules) -> tuple[int, ...]:
    return rules.noisy_looks if sd > rules.noisy_sd else rules.looks


def _nominated(mean: float, sd: float, visits: int, bar: float, rules: Rules) -> float:
    """Chance to be over the bar, and over t(screen_p) errors above what the bar adds to the floor."""
    error, df = sd / math.sqrt(visits), rules.prior_df + visits - 1
    by_test = _reached(mean, error, df, bar - rules.bar(), rules.screen_p)
    return min(by_test, NORMAL.cdf((mean - bar) / error))


def _harmless(mean: float, sd: float, visits: int, bound: float, rules: Rules) -> float:
    """Chance that the upper bound lies under `bound`."""
    error = sd / math.sqrt(visits)
    half = stats.t_quantile(1.0 - rules.confidence, rules.prior_df + visits - 1) * error
    return NORMAL.cdf((bound - half - mean) / error)


def _screened(mean: float, sd: float, bar: float, bound: float, rules: Rules) -> float:
    """Chance to end as a suspect: at the first look of the screen, or undecided there and at its last."""
    first, last = rules.screen_visits
    at_once = _nominated(mean, sd, first, bar, rules)
    undecided = max(0.0, 1.0 - at_once - _harmless(mean, sd, first, bound, rules))
    return at_once + undecided * _nominated(mean, sd, last, bar, rules)


def power(slowdown: float, sd: float, suspects: int = 1, promise: float | None = None, rules: Rules = RULES) -> float:
    """Chance that a case slower by `slowdown` (fraction) ends as regressed.

    sd: of a visit, ln. suspects: cases that share alpha in the confirmation, this one included. promise: the slow-down promised
    at most, where one was.
    """
    sd, mean = max(sd, rules.smallest_sd), math.log1p(slowdown)
    bar, bound = rules.bar(promise), rules.bound(promise)
    stays, found = _screened(mean, sd, bar, bound, rules), 0.0
    for look, share in zip(_looks(sd, rules), rules.spending, strict=True):
        if share > 0.0:
            error, df = sd / math.sqrt(look), rules.prior_df + look - 1
            found = max(found, _reached(mean, error, df, bar, share * rules.alpha / max(1, suspects)))
        else:
            let_go = min(_harmless(mean, sd, look, bound, rules), 1.0 - _nominated(mean, sd, look, bar, rules))
            stays *= 1.0 - let_go
    return stays * found


def visible(sd: float, chance: float = 0.9, suspects: int = 1, promise: float | None = None, rules: Rules = RULES) -> float:
    """The smallest slow-down (fraction) that is caught with this chance; inf where none up to three times as slow is.

    The other arguments are those of `power`.
    """
    low, high = rules.bar(promise), LARGEST
    if power(math.expm1(high), sd, suspects, promise, rules) < chance:
        return math.inf
    for _ in range(40):
        middle = (low + high) / 2.0
        if power(math.expm1(middle), sd, suspects, promise, rules) < chance:
            low = middle
        else:
            high = middle
    return math.expm1(high)


def expected_suspects(cases: int, rules: Rules = RULES) -> int:
    """Cases that the screen nominates where none is slower, at most: the chance of each is under screen_p."""
    return max(1, math.ceil(cases * rules.screen_p))
