"""Latency against a stored baseline: is the case slower than it was, by visits. Knows no budget but a limit's number.

The statistic of a visit is ln(median of the case / median of the anchor) where both measurements timed the anchor in every
visit, else ln(median of the case). Two stored runs are not measured side by side, so the spread of the visits of one run
says little about the difference of two: to the variance of visits, moderated over the suite and never under what the rounds
inside them show, comes that of runs. A stored run nominates like the screen of a run side by side: a case is cleared that is
hardly slower by the effect. Only anchored visits on the same machine and stack can say `regressed` or `improved`, and for that
the anchor is not trusted to follow every program. Source of the terms: 234 fresh processes on a noisy machine; two unpaired
sides differed with SD 17-34 %, those beside an anchor with 2.3 % where it does a similar thing and 9-15 % where it does not.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_perfq.core import stats
from pytest_perfq.core.benchmarks import ONCE, called_once
from pytest_perfq.core.finding import Finding
from pytest_perfq.core.fingerprint import Fingerprint
from pytest_perfq.core.measurement import Measurement, Visit
from pytest_perfq.core.rules import RULES
from pytest_perfq.core.shift import machine_shift

# SD of a run, whatever its visits agree on, in units of ln: beside an anchor that is alike, which nominates; beside one that
# may not be, which accuses; and without any.
ALIKE_RUN_SD, RUN_SD, UNANCHORED_RUN_SD = 0.023, 0.10, 0.18
# Degrees of freedom are rounded down to these, as in a printed table: a quantile is slow to find and kept by them.
TABLE_DF = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 30, 60, 120, 1000)
# Fewer visits than the first look of the screen do not even nominate.
MIN_VISITS = RULES.screen_visits[0]
# Runs further apart than this are of different days: what lives on the machine besides has changed, and they nominate only.
SAME_DAY_S = 12 * 3600.0
# The code under test: differing here is the point of comparing.
REVISION = frozenset({"revision", "dirty"})


def stack_differences(one: Fingerprint, other: Fingerprint) -> dict[str, tuple[object, object]]:
    """Versions that differ between two measurements: name -> (here, there); the revision under test is not one of them."""
    if one.stack == other.stack:
        return {}
    return {name: both for name, both in one.differences(other, "stack").items() if name not in REVISION}


def named(differences: dict[str, tuple[object, object]]) -> str:
    """Such as `torch is '2.13.0' here and '2.12.1' in the baseline`."""
    return "; ".join(f"{name} is {here!r} here and {there!r} in the baseline" for name, (here, there) in differences.items())


def elsewhere(differences: dict[str, tuple[object, object]]) -> str:
    """Why timings of two identities are never compared."""
    if [*differences] == ["gpu_l2"]:
        here, there = differences["gpu_l2"]
        return f"timed with a {here} L2 here and with a {there} one in the baseline; give both runs the same --perf-l2"
    return f"measured on another machine: {named(differences)}; measure both on one machine"


@dataclass(frozen=True, slots=True)
class Drift:
    """Two sets of visits of one case. mean: of ln(candidate) - ln(baseline). variance: of a visit, over `df`. noise: variance
    that the rounds inside the visits show, on average; None where a visit has too few rounds to show any. apart_s: time between
    the two, seconds. shift: what the whole suite moved by, ln, taken out of the mean; None where it did not move alike. once:
    whether the candidate is a call that must not be repeated."""

    candidate: int
    baseline: int
    anchored: bool
    mean: float
    variance: float
    df: int
    noise: float | None
    apart_s: float = 0.0
    shift: float | None = None
    once: bool = False

    @property
    def gates(self) -> bool:
        """Whether these visits may accuse anyone; otherwise they nominate."""
        watched = self.anchored and self.noise is not None and min(self.candidate, self.baseline) >= MIN_VISITS
        return watched and self.same_day

    @property
    def same_day(self) -> bool:
        """Whether nothing but the code is likely to have changed between the two."""
        return self.apart_s < SAME_DAY_S


def has_anchor(measurement: Measurement) -> bool:
    """Whether every visit timed the anchor: of two measurements that both do, the anchor's drift is taken out."""
    return all(visit.anchor is not None for visit in measurement.visits)


def _statistics(measurement: Measurement, anchored: bool) -> list[float]:
    found = []
    for visit in measurement.visits:
        value = math.log(max(visit.case.median_ns, 1.0))
        if anchored and visit.anchor is not None:
            value -= math.log(max(visit.anchor.median_ns, 1.0))
        found.append(value)
    return found


def _noise(visits: Sequence[Visit], anchored: bool) -> float | None:
    """A machine that is busy with something else shows it within the visits: medians of rounds that jump are not to be
    trusted to 4 %, whatever three of them happen to agree on."""
    total = 0.0
    for visit in visits:
        for side in (visit.case, visit.anchor if anchored else None):
            if side is not None:
                error = side.median_error
                if error is None:
                    return None
                total += error * error
    return total / len(visits)


def drift(candidate: Measurement, baseline: Measurement) -> Drift:
    """The visits of both sides, which must have some, as one comparison."""
    anchored = has_anchor(candidate) and has_anchor(baseline)
    mine, theirs = _statistics(candidate, anchored), _statistics(baseline, anchored)
    df = len(mine) + len(theirs) - 2
    squares = stats.variance(mine) * (len(mine) - 1) + stats.variance(theirs) * (len(theirs) - 1)
    mean = math.fsum(mine) / len(mine) - math.fsum(theirs) / len(theirs)
    noise = _noise((*candidate.visits, *baseline.visits), anchored)
    apart_s = abs(candidate.visits[0].case.started_s - baseline.visits[-1].case.started_s)
    variance, once = squares / df if df else 0.0, called_once(candidate)
    return Drift(len(mine), len(theirs), anchored, mean, variance, df, noise, apart_s, once=once)


def without_shift(drifts: Mapping[str, Drift]) -> dict[str, Drift]:
    """Drifts by case name; where runs of different days moved alike over the whole suite, with that taken out. On one day a
    suite that moved alike was changed: the anchor has told the machine's share."""
    moved = machine_shift({name: one.mean for name, one in drifts.items() if not one.same_day or not one.anchored})
    if moved is None:
        return dict(drifts)
    return {
        name: replace(one, mean=moved.rest[name], shift=moved.size) if name in moved.rest else one
        for name, one in drifts.items()
    }  # fmt: skip


def pooled_variance(drifts: Sequence[Drift], anchored: bool) -> float:
    """The variance of a visit over the suite; the smallest ever assumed where nothing showed one."""
    known = [one for one in drifts if one.anchored == anchored and one.df]
    total = sum(one.df for one in known)
    pooled = sum(one.variance * one.df for one in known) / total if total else 0.0
    return max(pooled, RULES.smallest_sd**2)


@dataclass(frozen=True, slots=True)
class Tested:
    """A drift with its error. limit: the slow-down promised at most, None where nothing was. error, df: of the drift's mean,
    for nominating. accusing: the error by which it alarms. slower, faster: p of no slow-down over the limit (or the floor), and
    of no speed-up over the floor, by that error and not yet adjusted for the suite."""

    drift: Drift
    limit: float | None
    error: float
    df: float
    accusing: float
    slower: float
    faster: float

    @property
    def upper(self) -> float:
        """Upper bound of the slow-down, ln: what the screen lets go."""
        return self.drift.mean + stats.t_quantile(RULES.screen_p, self.df) * self.error


def _between_runs(visits: float, df: float, run_sd: float) -> tuple[float, float]:
    """Standard error of the difference of two runs that vary by this SD each, and its degrees of freedom (Satterthwaite), of
    TABLE_DF. visits: variance of the difference as its visits show it, over df."""
    total = visits + 2.0 * run_sd**2
    return math.sqrt(total), TABLE_DF[bisect(TABLE_DF, df * (total / visits) ** 2) - 1]


def test(found: Drift, prior: float, limit: float | None) -> Tested:
    """limit: the slow-down promised at most (None: nothing over the floor). prior: variance of a visit over the suite."""
    own, own_df = stats.moderated(found.variance, found.df, prior, RULES.prior_df)
    visits = max(own, RULES.smallest_sd**2, found.noise or 0.0) * (1.0 / found.candidate + 1.0 / found.baseline)
    error, df = _between_runs(visits, own_df, ALIKE_RUN_SD if found.anchored else UNANCHORED_RUN_SD)
    accusing, far_df = _between_runs(visits, own_df, RUN_SD if found.anchored else UNANCHORED_RUN_SD)
    bar = math.log1p(RULES.floor if limit is None else limit)
    # A p of one half or more decides nothing: that tail is not worth computing.
    slower = stats.t_tail((found.mean - bar) / accusing, far_df) if found.mean > bar else 1.0
    floor = math.log1p(RULES.floor)
    faster = stats.t_tail((-found.mean - floor) / accusing, far_df) if found.mean < -floor else 1.0
    return Tested(found, limit, error, df, accusing, slower, faster)


def _visits(number: int) -> str:
    return f"{number} visit{'' if number == 1 else 's'}"


def conclude(
    tested: Tested, slower: float, faster: float, differences: dict[str, tuple[object, object]], family: int
) -> Finding:
    """The finding of a test whose p values were adjusted for the suite. differences: of the stack. family: tests in it."""
    found = tested.drift
    half = stats.t_quantile(0.025, tested.df) * tested.error
    limit = RULES.effect if tested.limit is None else tested.limit
    note = [f"{_visits(found.candidate)} here, {found.baseline} in the baseline"]
    if found.shift is not None:
        note.append(
            f"the whole suite moved by {math.expm1(found.shift):+.0%} since the baseline, taken for the machine's and left out"
        )
    if differences:
        note.append(f"not gated, the software differs: {named(differences)}; measure both with the same software")
    gates = found.gates and not differences
    if gates and slower < RULES.alpha:
        status = "regressed"
    elif tested.upper < math.log1p(limit) and not (found.shift or 0.0) > 0.0:
        status = "improved" if gates and faster < RULES.alpha else "pass"
    else:
        status = "inconclusive"
        effect = math.expm1(stats.minimal_effect(tested.error, tested.df, RULES.screen_p))
        note.append(f"a slowdown under {effect:.0%} cannot be seen with {_visits(min(found.candidate, found.baseline))}")
        if found.once:
            note.append(ONCE)
        elif not found.same_day:
            note.append("measured on another day, which only nominates; confirm with --perf-confirm=REV or `perfq ab`")
        elif gates:
            alarm = math.expm1(
                math.log1p(RULES.floor) + stats.t_quantile(RULES.alpha / max(1, family), TABLE_DF[-1]) * tested.accusing
            )
            note.append(f"two stored runs alarm from {alarm:+.0%}; confirm less with --perf-confirm=REV or `perfq ab`")
        elif not found.anchored:
            note.append("there is no anchor in every visit to tell the machine's drift from the case's")
        elif min(found.candidate, found.baseline) < MIN_VISITS:
            note.append(f"at least {MIN_VISITS} visits a side are needed to gate")
        elif found.noise is None:
            note.append("a visit has too few rounds to show its own noise; at least 3 are needed to gate")
    return Finding(
        rule="slowdown",
        status=status,
        observed=math.expm1(found.mean),
        limit=limit,
        interval=(math.expm1(found.mean - half), math.expm1(found.mean + half)),
        note="; ".join(note),
    )
