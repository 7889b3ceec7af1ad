"""Promises held against facts: every rule of a budget that needs no baseline. Knows no baseline and no suite.

A rule without enough evidence says so: inconclusive with what it takes, unmeasured with the reason, never a guess.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from pytest_perfq.core import permutation, stats
from pytest_perfq.core.budget import Limit, about
from pytest_perfq.core.finding import Finding
from pytest_perfq.core.measurement import Measurement, Score
from pytest_perfq.core.summary import paired_logs, speedup

# Scores are sums of ones divided by counts: differences below this are rounding.
ROUNDING = 1e-9
SPEEDUP_CONFIDENCE = 0.99
# A percentile promise gets enough rounds to be kept with this many calls over the limit.
MISSES_ALLOWED = 1


def applies(limit: Limit, measurement: Measurement) -> bool:
    """Whether a promise is about this case (see budget.about)."""
    return about(limit.rule, measurement.case)


def hold(measurement: Measurement, limits: Sequence[Limit]) -> list[Finding]:
    """One finding for each promise about this case, but those of `max_slowdown` (see slowdown.py)."""
    return [
        _RULES[limit.rule](measurement, limit)
        for limit in limits
        if limit.rule != "max_slowdown" and applies(limit, measurement)
    ]


def rounds_wanted(limits: Sequence[Limit]) -> int:
    """Rounds, over all visits, by which promises of a tail can be decided; 0 where none was made."""
    tails = [int(limit.rule[1:3]) / 100.0 for limit in limits if limit.rule in ("p90_ms", "p95_ms", "p99_ms")]
    return max((stats.rounds_needed(tail, MISSES_ALLOWED) for tail in tails), default=0)


def finding(limit: Limit, status: str, note: str = "", observed: float | None = None, **more: object) -> Finding:
    """A finding about this promise."""
    return Finding(
        rule=limit.rule, status=status, note=note, observed=observed, limit=limit.value, entry=limit.entry,
        **{"metric": limit.metric, **more},  # type: ignore[arg-type]
    )  # fmt: skip


def unmeasured(measurement: Measurement, limit: Limit, what: str) -> Finding:
    """Nothing to hold the promise against: the reason the measurement gives, or that it ought to have given one."""
    if measurement.unmeasured is not None:
        return finding(limit, "unmeasured", measurement.unmeasured)
    return finding(limit, "invalid", f"there is no {what} and no reason for it; measure the case again")


def _score(measurement: Measurement, limit: Limit) -> Score | Finding:
    score = measurement.score(limit.metric)
    if score is None and measurement.scores:
        known = ", ".join(one.metric for one in measurement.scores)
        return finding(limit, "invalid", f"no score {limit.metric!r} was measured; the case has: {known}")
    if score is None:
        return unmeasured(measurement, limit, "score")
    if not math.isfinite(score.value):
        return finding(limit, "invalid", f"{score.metric} is {score.value} over {score.n} examples", metric=score.metric)
    return score


def _min_score(measurement: Measurement, limit: Limit) -> Finding:
    score = _score(measurement, limit)
    if isinstance(score, Finding):
        return score
    status = "pass" if score.value >= limit.value - ROUNDING else "fail"
    return finding(limit, status, f"over {score.n} examples", score.value, metric=score.metric)


def _max_drop(measurement: Measurement, limit: Limit) -> Finding:
    score = _score(measurement, limit)
    if isinstance(score, Finding):
        return score
    original = measurement.score(score.metric, original=True)
    if original is None:
        return finding(limit, "invalid", f"the original has no score {score.metric!r}; measure the case again")
    mine, theirs = measurement.outcomes, measurement.original_outcomes
    drop = original.value - score.value
    status = "pass" if drop <= limit.value + ROUNDING else "fail"
    note = f"{score.metric} {score.value:.4f}, original {original.value:.4f}"
    if mine is None or theirs is None:
        return finding(limit, status, note, drop, metric=score.metric)
    if mine.ids != theirs.ids:
        counts = f"{len(mine.ids)} examples here, {len(theirs.ids)} of the original, {len({*mine.ids} & {*theirs.ids})} shared"
        return finding(limit, "invalid", f"the original saw other examples: {counts}; measure the case again")
    wrong = tuple(one for one, now, was in zip(mine.ids, mine.right, theirs.right, strict=True) if now < was)
    mended = sum(now > was for now, was in zip(mine.right, theirs.right, strict=True))
    note += f"; {len(wrong)} of {len(mine.ids)} examples went wrong and {mended} right"
    interval = None
    if score.formula is not None and drop:
        interval = permutation.drop_interval(score.formula, theirs.columns, mine.columns)
    return finding(limit, status, note, drop, metric=score.metric, interval=interval, examples=wrong)


def _min_share(measurement: Measurement, limit: Limit) -> Finding:
    score = _score(measurement, limit)
    if isinstance(score, Finding):
        return score
    original = measurement.score(score.metric, original=True)
    if original is None or not original.value > 0.0:
        has = "no score" if original is None else f"a score of {original.value:g}"
        return finding(
            limit, "invalid", f"the original has {has} {score.metric!r} to take a share of; promise min_score instead"
        )
    share = score.value / original.value
    note = f"{score.metric} {score.value:.4f} of {original.value:.4f} over {score.n} examples"
    return finding(limit, "pass" if share >= limit.value - ROUNDING else "fail", note, share, metric=score.metric)


def _percentile(measurement: Measurement, limit: Limit) -> Finding:
    """The binomial rule: pass or fail once calls over the limit are too few or too many for chance, at confidence .99."""
    durations = measurement.durations_ns()
    if not durations:
        return unmeasured(measurement, limit, "timing")
    q, n = int(limit.rule[1:3]) / 100.0, len(durations)
    misses = sum(duration > limit.value * 1e6 for duration in durations)
    observed = (stats.median(durations) if q == 0.5 else stats.percentile(durations, q)) / 1e6
    interval = stats.quantile_interval(durations, q, stats.TAIL_CONFIDENCE)
    ends = None if interval is None else (interval[0] / 1e6, interval[1] / 1e6)
    note = f"{misses} of {n} calls took longer"
    needed = stats.rounds_needed(q, misses)
    if n >= needed:
        return finding(limit, "pass", note, observed, interval=ends)
    if stats.binomial_upper(misses, n, 1.0 - q) <= 1.0 - stats.TAIL_CONFIDENCE:
        return finding(limit, "fail", note, observed, interval=ends)
    note += f"; {needed - n} more rounds without another would pass it"
    shown = observed if stats.printable(q, n) else None
    return finding(limit, "inconclusive", note, shown, interval=ends)


def _min_speedup(measurement: Measurement, limit: Limit) -> Finding:
    if not measurement.visits:
        return unmeasured(measurement, limit, "timing")
    found = speedup(measurement, SPEEDUP_CONFIDENCE)
    if found is None:
        return finding(limit, "invalid", "the original was not timed beside the case; measure the case again")
    ratio, interval = found
    pairs = len(paired_logs(measurement))
    if interval is None:
        return finding(limit, "inconclusive", f"{pairs} pairs of rounds are too few for an interval; 8 are needed", ratio)
    note = f"median of {pairs} pairs of rounds"
    if interval[0] >= limit.value:
        return finding(limit, "pass", note, ratio, interval=interval)
    if interval[1] < limit.value:
        return finding(limit, "fail", note, ratio, interval=interval)
    return finding(
        limit, "inconclusive", f"{note}; the limit lies inside the interval: give it more time", ratio, interval=interval
    )


def _max_bytes(measurement: Measurement, limit: Limit) -> Finding:
    size = measurement.model_bytes
    if size is None:
        return unmeasured(measurement, limit, "size")
    return finding(limit, "pass" if size <= limit.value else "fail", "", float(size))


_RULES: dict[str, Callable[[Measurement, Limit], Finding]] = {
    "min_score": _min_score,
    "max_drop": _max_drop,
    "min_share": _min_share,
    "p50_ms": _percentile,
    "p90_ms": _percentile,
    "p95_ms": _percentile,
    "p99_ms": _percentile,
    "min_speedup": _min_speedup,
    "max_bytes": _max_bytes,
}
