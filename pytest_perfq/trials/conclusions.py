"""What became of trials, as everything else here is told: measurements with both sides, and verdicts. Applies no rule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from pytest_perfq.core import validity
from pytest_perfq.core.benchmarks import per_call
from pytest_perfq.core.finding import Finding, Verdict
from pytest_perfq.core.fingerprint import Fingerprint
from pytest_perfq.core.measurement import Measurement, Visit
from pytest_perfq.core.promises import hold
from pytest_perfq.core.rules import Rules
from pytest_perfq.core.stages import Standing
from pytest_perfq.core.verdict import Pair, marked
from pytest_perfq.trials.entry import Entry

STATUSES = {
    "ok": "pass",
    "improved": "improved",
    "regressed": "regressed",
    "inconclusive": "inconclusive",
    "suspect": "inconclusive",
    "open": "inconclusive",
}


def pair(
    entry: Entry,
    prints: Mapping[str, Fingerprint],
    label: str,
    sizes: Mapping[str, int | None] | None = None,
    loops: int | None = None,
) -> Pair:
    """Both sides as measurements. prints, sizes: machine and bytes of 'a', the base, and 'b', the candidate, where they are
    known. label: of the base, which the candidate's measurement names. loops: calls that a round of a visit is; None: one."""
    sizes = sizes or {}
    sides = [(per_call(one.a, loops), per_call(one.b, loops)) if loops else (one.a, one.b) for one in entry.visits]
    visits = tuple(
        Visit(case=now, base=was, conditions=visit.conditions) for visit, (was, now) in zip(entry.visits, sides, strict=True)
    )
    facts: dict[str, str | int | float | bool] = {
        "base": label, "screen_visits": len(entry.screen), "confirm_visits": len(entry.confirm),
    }  # fmt: skip
    if loops:
        facts["iterations"] = loops
    now = Measurement(
        case=entry.candidate, fingerprint=prints.get("b", Fingerprint()), visits=visits, model_bytes=sizes.get("b"),
        facts=facts, unmeasured=entry.trouble,
    )  # fmt: skip
    was = Measurement(
        case=entry.base, fingerprint=prints.get("a", Fingerprint()), model_bytes=sizes.get("a"),
        visits=tuple(Visit(case=was) for was, _ in sides),
    )  # fmt: skip
    return Pair(now, entry.limits, was)


def promised(entry: Entry, pair: Pair) -> tuple[Finding, ...]:
    """What the candidate promised of itself, held as a run of its own holds it; what the base breaks as well is marked.

    Times count of visits in which nothing took the machine's own away, unlike the ratio of two sides that it takes from
    alike. A speed-up over the original is known only where the original is the base."""
    if entry.trouble is not None or not entry.visits or pair.candidate is None:
        return ()
    beside_original = entry.base == entry.candidate.original()
    limits = [limit for limit in entry.limits if limit.rule != "min_speedup" or beside_original]
    alone = tuple(
        replace(visit, base=None, original=visit.base if beside_original else None) for visit in pair.candidate.visits
    )  # fmt: skip
    calm = tuple(visit for visit in alone if not visit.disturbances)
    candidate = replace(pair.candidate, visits=calm or alone)
    return tuple(validity.hold_back(marked(hold(candidate, limits), pair), candidate))


def unmeasured(entry: Entry, ended: str | None) -> Verdict:
    """The verdict on a case without a measurement. ended: why the run stopped early, where it did."""
    if entry.trouble is not None:
        rule, status = ("build", "fail") if entry.broken else ("measured", "invalid")
        return Verdict(entry.name, (Finding(rule=rule, status=status, note=entry.trouble),), entry.limits)
    rule = "slowdown" if entry.candidate.kind == "latency" else "accuracy"
    note = f"not measured: {ended or 'nothing asked for it'}"
    return Verdict(entry.name, (Finding(rule=rule, status="inconclusive", note=note),), entry.limits)


def verdict(entry: Entry, standing: Standing | None, rules: Rules, ended: str | None) -> Verdict:
    """The verdict on one latency case. ended: why the run stopped early, where it did."""
    if entry.trouble is not None or standing is None:
        return unmeasured(entry, ended)
    promised = [limit for limit in entry.limits if limit.rule == "max_slowdown"]
    finding = Finding(
        rule="max_slowdown" if promised else "slowdown",
        status=STATUSES[standing.status],
        observed=math.expm1(standing.mean),
        limit=rules.effect if entry.effect is None else entry.effect,
        interval=_finite(standing),
        entry=min(promised, key=lambda limit: limit.value).entry if promised else None,
        note=_note(entry, standing, ended),
    )
    return Verdict(entry.name, (finding,), entry.limits)


def in_cycles(entry: Entry, slower: float, rules: Rules) -> tuple[str, str]:
    """The status of a confirmed regression that is slower by this fraction in clock cycles, and what to add to its note. What
    made it one in time makes it one in cycles."""
    told = f"in clock cycles it is {slower:+.1%}"
    bar = math.expm1(rules.bar(entry.effect))
    if slower > bar:
        return "regressed", told
    return "inconclusive", f"{told}, not over {bar:+.1%}: the clock did the rest, not the code; fix it and measure again"


def recovered(entry: Entry) -> tuple[Finding, ...]:
    """Of a candidate that was lost once: a program that dies now and then is no pass, and once may be the system's doing. What
    befell the base alone says nothing of the candidate."""
    if entry.recovered is None or not any(entry.losses):
        return ()
    return (Finding(rule="build", status="inconclusive", note=entry.recovered),)


def beside(verdict: Verdict) -> Verdict:
    """The verdict of a suite against its baseline as that on two sides: what is accepted is a change, not a new baseline."""
    return replace(verdict, findings=tuple(_beside(one) for one in verdict.findings))


def _beside(one: Finding) -> Finding:
    if one.rule not in ("accuracy", "flips"):
        return one
    return replace(one, note=", ".join(part for part in ("side by side", one.note) if part))


def cut_off(entry: Entry) -> Verdict:
    """The verdict on a case of a run that ended without a word, such as by a power cut."""
    stage = "confirmed" if entry.confirm else "screened"
    note = f"the run was cut off after {_visits(len(entry.visits))}, while the case was {stage}"
    return Verdict(entry.name, (Finding(rule="slowdown", status="inconclusive", note=note),), entry.limits)


def _finite(standing: Standing) -> tuple[float, float] | None:
    low, high = standing.interval
    return (math.expm1(low), math.expm1(high)) if math.isfinite(low) and math.isfinite(high) else None


def _note(entry: Entry, standing: Standing, ended: str | None) -> str:
    made = f"side by side, {_visits(len(entry.screen))} to screen it" if entry.screen else "side by side"
    if entry.confirm:
        fresh = _visits(len(entry.confirm), "fresh visit" if entry.screen else "visit")
        made += f" and {fresh} to confirm it" if entry.screen else f", {fresh}"
    if standing.status not in ("inconclusive", "suspect", "open"):
        return made
    told = [made]
    if standing.status != "inconclusive":
        told.append(f"{ended or 'the confirmation of suspects came first'}, while it {_stage(entry, standing)}")
    # Of what was seen to be slower than that it is no reason.
    if math.isfinite(standing.mde) and standing.mean <= standing.mde:
        told.append(f"a slow-down under {math.expm1(standing.mde):.1%} cannot be seen with {_visits(standing.visits)}")
    return "; ".join(told)


def _stage(entry: Entry, standing: Standing) -> str:
    """What was being done about a case that is not decided, and what it lacks to be."""
    if not entry.confirm:
        return "was to be confirmed, by fresh visits alone" if standing.status == "suspect" else "was screened"
    look = _visits(standing.visits + standing.needed, "fresh visit" if entry.screen else "visit")
    return f"was confirmed: it has {standing.visits} of the {look} that its next look takes"


def _visits(number: int, what: str = "visit") -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
