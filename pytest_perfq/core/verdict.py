"""Facts held against promises and against what was true before. Knows the rules by name; each is in its own module."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pytest_perfq.core import paired, slowdown, stats, validity
from pytest_perfq.core.budget import Limit
from pytest_perfq.core.case import Case
from pytest_perfq.core.finding import FAILED, SEVERITY, STATUSES, Finding, Verdict
from pytest_perfq.core.measurement import Measurement
from pytest_perfq.core.promises import applies, finding, hold

__all__ = [
    "FAILED", "SEVERITY", "SLOW", "STATUSES", "Finding", "Pair", "Verdict", "broken", "judge", "judge_suite", "marked",
    "misused", "overruled", "slowdowns",
]  # fmt: skip


# Rules about a time beside another.
SLOW = ("slowdown", "max_slowdown")


@dataclass(frozen=True, slots=True)
class Pair:
    """One case of two: candidate (None: missing now), what it was promised, baseline (None: new). age_s: of the baseline,
    seconds; None where nobody knows."""

    candidate: Measurement | None
    limits: tuple[Limit, ...] = ()
    baseline: Measurement | None = None
    age_s: float | None = None


def broken(case: Case, reason: str) -> Verdict:
    """The verdict on a case that could not be built or run, with the one sentence that says why."""
    return Verdict(case.id, (Finding(rule="build", status="fail", note=reason),))


def misused(case: Case, reason: str) -> Verdict:
    """The verdict on a case that was asked for wrongly: nothing was measured, so it says nothing of the program."""
    return Verdict(case.id, (Finding(rule="usage", status="invalid", note=reason),))


def slowdowns(verdict: Verdict) -> tuple[Finding, ...]:
    """Its findings about slow-downs."""
    return tuple(one for one in verdict.findings if one.rule in SLOW)


def overruled(verdict: Verdict, decided: Sequence[Finding]) -> Verdict:
    """The verdict with its findings about slow-downs replaced by those of somebody who had the whole suite at hand, or visits
    side by side."""
    kept = tuple(one for one in verdict.findings if one.rule not in SLOW)
    return Verdict(verdict.case_id, (*kept, *decided), verdict.limits)


def judge(measurement: Measurement, limits: Sequence[Limit], baseline: Measurement | None = None, *, suite: int = 1) -> Verdict:
    """The verdict on one case. suite: how many cases are judged in the same run, so that the chance of a false alarm stays
    1 % for all of them together; a case judged alone cannot borrow the suite's pooled variance, and uses the smallest
    variance ever assumed in its place."""
    name = measurement.case.id
    return judge_suite({name: Pair(measurement, tuple(limits), baseline)}, suite=suite)[name]


def judge_suite(
    pairs: Mapping[str, Pair], *, suite: int = 0, against: bool = False, subset: bool = False
) -> dict[str, Verdict]:
    """Verdicts by case id, of pairs by case id.

    suite: cases of the whole run, where `pairs` are only a part of them. against: cases without a baseline are new, cases
    without a candidate are missing. subset: missing cases were left out on purpose.
    """
    works = {name: _Work(pair) for name, pair in pairs.items()}
    for work in works.values():
        work.begin(against, subset)
    _latency([work for work in works.values() if work.drift is not None], suite)
    _accuracy([work for work in works.values() if work.pairing is not None], suite)
    return {name: work.verdict(name) for name, work in works.items() if work.pair.candidate is not None or not subset}


# A case that is red on the base is no news of the change under review; after so long it is nobody's, and is told plainly.
RED_MARK_S = 14 * 86400.0


def _days(age_s: float) -> str:
    """An age as people say it; of two clocks, or of one that was set, it may be below zero."""
    days = round(max(0.0, age_s) / 86400.0)
    return "less than a day" if days == 0 else f"{days} day{'' if days == 1 else 's'}"


def marked(found: Sequence[Finding], pair: Pair) -> list[Finding]:
    """Broken promises that the baseline breaks as well are marked as such. They fail none the less: a gate never turns green
    on its own. The mark expires with the baseline's age."""
    if pair.baseline is None or not any(one.status == "fail" for one in found):
        return list(found)
    red = {(one.rule, one.metric) for one in hold(pair.baseline, pair.limits) if one.status == "fail"}
    age = "" if pair.age_s is None else f", {_days(pair.age_s)} old"
    mark = f"already red in the baseline{age}"
    if pair.age_s is not None and pair.age_s > RED_MARK_S:
        mark += f": over {RED_MARK_S / 86400.0:.0f} days, so mend it or change the promise"
    return [
        replace(one, note="; ".join(part for part in (one.note, mark) if part))
        if one.status == "fail" and (one.rule, one.metric) in red
        else one
        for one in found
    ]


@dataclass(slots=True)
class _Work:
    """A case on its way to a verdict."""

    pair: Pair
    findings: list[Finding] = field(default_factory=list)
    drift: slowdown.Drift | None = None
    differences: dict[str, tuple[object, object]] = field(default_factory=dict)
    pairing: paired.Pairing | None = None

    def begin(self, against: bool, subset: bool) -> None:
        """Everything that needs no other case."""
        candidate, baseline = self.pair.candidate, self.pair.baseline
        if candidate is None:
            if not subset:
                note = "it is in the baseline and was not measured now; ask for a subset if it was left out on purpose"
                self.findings.append(Finding(rule="baseline", status="invalid", note=note))
            return
        self.findings += validity.hold_back(marked(hold(candidate, self.pair.limits), self.pair), candidate)
        if baseline is not None:
            self._compare(candidate, baseline)
        else:
            self._alone(candidate, against)
        if candidate.unmeasured is not None and not any(one.status == "unmeasured" for one in self.findings):
            self.findings.append(Finding(rule="measured", status="unmeasured", note=candidate.unmeasured))
        reason = validity.disturbed(candidate)
        if reason is not None and not any(one.status == "invalid" for one in self.findings):
            # Nothing was promised of it, but nobody shall take it for a timing either.
            self.findings.append(Finding(rule="measured", status="invalid", note=f"{reason}; {validity.NEXT}"))

    def _alone(self, candidate: Measurement, against: bool) -> None:
        for limit in self.slow_limits:
            missing = "it is not in the baseline; save a new one" if against else (
                "no baseline to hold it against; give one with --perf-against"
            )  # fmt: skip
            note = candidate.unmeasured or missing
            self.findings.append(finding(limit, "unmeasured", note))
        if against:
            self.findings.append(Finding(rule="baseline", status="pass", note="new: not in the baseline"))

    @property
    def slow_limits(self) -> list[Limit]:
        """Promises of at most so much slower that are about this case."""
        candidate = self.pair.candidate
        limits = [limit for limit in self.pair.limits if limit.rule == "max_slowdown"]
        return [limit for limit in limits if candidate is not None and applies(limit, candidate)]

    def _compare(self, candidate: Measurement, baseline: Measurement) -> None:
        if candidate.case.kind == "accuracy":
            if candidate.outcomes is not None and baseline.outcomes is not None:
                self.pairing = paired.pair(candidate, baseline)
            else:
                self._nothing("accuracy", "outcomes", candidate, baseline, bool(candidate.outcomes), bool(baseline.outcomes))
            return
        if not candidate.visits or not baseline.visits:
            self._nothing("slowdown", "timing", candidate, baseline, bool(candidate.visits), bool(baseline.visits))
            return
        if candidate.fingerprint.identity != baseline.fingerprint.identity:
            identity = candidate.fingerprint.differences(baseline.fingerprint, "identity")
            self._slow(Finding(rule="slowdown", status="invalid", note=slowdown.elsewhere(dict(identity))))
            return
        if (reason := validity.disturbed(candidate)) is not None:
            self._slow(Finding(rule="slowdown", status="invalid", note=f"{reason}; {validity.NEXT}"))
            return
        if (reason := validity.disturbed(baseline)) is not None:
            self._slow(Finding(rule="slowdown", status="invalid", note=f"in the baseline {reason}; save a new baseline"))
            return
        self.differences = slowdown.stack_differences(candidate.fingerprint, baseline.fingerprint)
        self.drift = slowdown.drift(candidate, baseline)

    def _nothing(self, rule: str, what: str, candidate: Measurement, baseline: Measurement, here: bool, there: bool) -> None:
        if not here:
            status = "unmeasured" if candidate.unmeasured is not None else "invalid"
            note = candidate.unmeasured or f"there is no {what} and no reason for it; measure the case again"
        else:
            status = "unmeasured"
            note = f"the baseline has no {what}: {baseline.unmeasured or 'it was not measured'}; save a new baseline"
        if not here and any(one.status == status and one.note == note for one in self.findings):
            return
        one = Finding(rule=rule, status=status, note=note)
        if rule == "slowdown":
            self._slow(one)
        else:
            self.findings.append(one)

    def _slow(self, one: Finding) -> None:
        """A finding about the baseline's timing, once for each promise about it, or once where none was made."""
        limits = self.slow_limits
        self.findings += [
            replace(one, rule=limit.rule, limit=limit.value, entry=limit.entry) for limit in limits
        ] or [one]  # fmt: skip

    def verdict(self, name: str) -> Verdict:
        return Verdict(name, tuple(self.findings), self.pair.limits)


def _latency(works: Sequence[_Work], suite: int) -> None:
    measured = {str(place): work.drift for place, work in enumerate(works) if work.drift is not None}
    for place, drift in slowdown.without_shift(measured).items():
        works[int(place)].drift = drift
    drifts = [work.drift for work in works if work.drift is not None]
    # Only what can raise an alarm counts in the family.
    gating = sum(work.drift is not None and work.drift.gates and not work.differences for work in works)
    family = max(gating, suite)
    priors = {anchored: slowdown.pooled_variance(drifts, anchored) for anchored in (True, False)}
    tests: list[tuple[_Work, Limit | None, slowdown.Tested]] = []
    for work in works:
        assert work.drift is not None
        limits: list[Limit | None] = [*work.slow_limits] or [None]
        for limit in limits:
            tested = slowdown.test(work.drift, priors[work.drift.anchored], None if limit is None else limit.value)
            tests.append((work, limit, tested))
    gates = [work.drift is not None and work.drift.gates and not work.differences for work, _, _ in tests]
    slower = _adjusted([tested.slower for _, _, tested in tests], gates, family)
    faster = _adjusted([tested.faster for _, _, tested in tests], gates, family)
    for (work, limit, tested), slow, fast in zip(tests, slower, faster, strict=True):
        one = slowdown.conclude(tested, slow, fast, work.differences, family)
        if limit is not None:
            one = replace(one, rule=limit.rule, limit=limit.value, entry=limit.entry)
        work.findings.append(one)


def _adjusted(p_values: Sequence[float], counted: Sequence[bool], family: int) -> list[float]:
    """Holm's adjusted p of those that count, 1.0 for the others."""
    adjusted = iter(stats.holm([p for p, counts in zip(p_values, counted, strict=True) if counts], family))
    return [next(adjusted) if counts else 1.0 for counts in counted]


def _accuracy(works: Sequence[_Work], suite: int) -> None:
    losses = [(work, work.pairing, loss) for work in works if work.pairing for loss in work.pairing.losses]
    family = max(len(losses), suite)
    adjusted = stats.holm([1.0 if loss.p is None else loss.p for _, _, loss in losses], family)
    for work in works:
        if work.pairing is not None:
            work.findings += work.pairing.certain
    for (work, pairing, loss), p in zip(losses, adjusted, strict=True):
        if not math.isfinite(loss.drop):
            note = f"{loss.metric} is not a number here or in the baseline"
            work.findings.append(Finding(rule="accuracy", status="invalid", metric=loss.metric, note=note))
            continue
        work.findings.append(paired.conclude(loss, p, pairing, family))
