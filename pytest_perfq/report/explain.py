"""The text of a verdict: one line a finding, what was seen, what was promised, by whom, and what to do next.

Knows findings alone; the numbers are in the unit of their rule (see core.finding).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from pytest_perfq.core.benchmarks import ONCE
from pytest_perfq.core.finding import SEVERITY, Finding, Verdict
from pytest_perfq.report.examples import Listed

# Ids beyond this many are counted: the store has all of them.
SHOWN_EXAMPLES = 10
# What decides a slow-down of stored visits that is not decided yet.
STORED = "hold it side by side: --perf-confirm=REV, or `perfq ab`"
NAMES = {
    "min_score": "{metric} score",
    "max_drop": "{metric} drop from the original",
    "min_share": "{metric} share of the original's score",
    "p50_ms": "p50",
    "p90_ms": "p90",
    "p95_ms": "p95",
    "p99_ms": "p99",
    "min_speedup": "speed-up over the original",
    "max_slowdown": "slow-down from the baseline",
    "slowdown": "slow-down from the baseline",
    "max_bytes": "model size",
    "accuracy": "{metric} drop from the baseline",
    "flips": "net examples lost since the baseline",
    "baseline": "baseline",
    "build": "case",
}
# Of two sides that were held side by side: the base is a revision or another configuration, and no baseline need exist.
NAMES_BESIDE = {
    "max_slowdown": "slow-down from the base",
    "slowdown": "slow-down from the base",
    "accuracy": "{metric} drop from the base",
    "flips": "net examples lost since the base",
}
NEXT = {
    ("min_score", "fail"): "look at the examples that went wrong, or lower the promise in review",
    ("max_drop", "fail"): "exclude the operators that lose it, calibrate better, or raise the promise in review",
    ("min_share", "fail"): "exclude the operators that lose it, calibrate better, or lower the promise in review",
    ("slowdown", "improved"): "keep it: accept the run as the new baseline with `perfq accept`",
    ("max_slowdown", "improved"): "keep it: accept the run as the new baseline with `perfq accept`",
    ("max_bytes", "fail"): "quantize more operators, or raise the promise in review",
    ("min_speedup", "fail"): "profile the case beside its original, or lower the promise in review",
    ("accuracy", "regressed"): "look at the examples listed, or accept the change with --perf-save",
    ("flips", "regressed"): "look at the examples listed, or accept the change with --perf-save",
    ("slowdown", "regressed"): "profile the change, or accept it with --perf-save",
    ("max_slowdown", "regressed"): "profile the change, or accept it with --perf-save",
    ("slowdown", "inconclusive"): STORED,
    ("max_slowdown", "inconclusive"): STORED,
    ("accuracy", "inconclusive"): "evaluate more examples",
    ("baseline", "invalid"): "measure it as well, or compare with --subset",
}
# The same: there is no stored baseline that could be saved anew.
NEXT_BESIDE = {
    ("accuracy", "regressed"): "look at the examples listed, or accept the change in review",
    ("flips", "regressed"): "look at the examples listed, or accept the change in review",
    ("slowdown", "regressed"): "profile the change, or allow it with max_slowdown in review",
    ("max_slowdown", "regressed"): "profile the change, or raise the promise in review",
    ("slowdown", "improved"): "keep it",
    ("max_slowdown", "improved"): "keep it",
    ("slowdown", "inconclusive"): "free the machine of other work, or give it more time",
    ("max_slowdown", "inconclusive"): "free the machine of other work, or give it more time",
}
for _rule in ("p50_ms", "p90_ms", "p95_ms", "p99_ms"):
    NEXT[_rule, "fail"] = "profile the case, or raise the promise in review"
    NEXT[_rule, "inconclusive"] = "give it more time with --perf-time"


def size(value: float) -> str:
    """Bytes as people read them, decimal units: `438 MB`."""
    for unit in ("B", "kB", "MB"):
        if abs(value) < 999.5:
            return f"{value:.3g} {unit}"
        value /= 1000.0
    return f"{value:.3g} GB"


def milliseconds(value: float) -> str:
    """Three or four digits that say something: `0.0123 ms`, `12.3 ms`, `1234 ms`."""
    return f"{value:.0f} ms" if value >= 1000 else f"{value:.3g} ms"


def _formatter(rule: str) -> Callable[[float], str]:
    if rule.endswith("_ms"):
        return milliseconds
    if rule == "min_speedup":
        return lambda value: f"{value:.2f}x"
    if rule in ("slowdown", "max_slowdown"):
        return lambda value: f"{value:+.1%}"
    if rule == "min_share":
        return lambda value: f"{value:.2%}"
    if rule == "max_bytes":
        return size
    if rule == "flips":
        return lambda value: f"{value:.0f}"
    return lambda value: f"{value:.4f}"


def line(finding: Finding, same: str = "") -> str:
    """One finding as one line, without the case's name. same: in place of the examples that it is about."""
    show = _formatter(finding.rule)
    beside = "side by side" in finding.note
    names = NAMES | NAMES_BESIDE if beside else NAMES
    name = names.get(finding.rule, finding.rule).format(metric=finding.metric or "primary").strip()
    if finding.rule in ("measured", "usage"):
        return f"{finding.status}: {finding.note}"
    text = f"{finding.status}: {name}"
    if finding.observed is not None:
        text += f" {show(finding.observed)}"
    if finding.interval is not None:
        text += f" [{show(finding.interval[0])}, {show(finding.interval[1])}]"
    if finding.limit is not None and finding.rule != "flips":
        side = "at least" if finding.rule.startswith("min_") else "at most"
        text += f", {side} {show(finding.limit)}"
        text += f" promised by {finding.entry}" if finding.entry else ""
    if finding.note:
        text += f"; {finding.note}" if finding.observed is not None or finding.limit is not None else f": {finding.note}"
    if same:
        text += f"; {same}"
    elif lists(finding):
        text += f"; examples: {', '.join(finding.examples[:SHOWN_EXAMPLES])}"
        more = len(finding.examples) - SHOWN_EXAMPLES
        text += f" and {more} more" if more > 0 else ""
    step = _next(finding, beside)
    return f"{text} -> {step}" if step else text


def _next(finding: Finding, beside: bool) -> str | None:
    """What to do about it; None where nothing is to be done. beside: whether two sides were held against each other."""
    key = finding.rule, finding.status
    step = NEXT_BESIDE.get(key, NEXT.get(key)) if beside else NEXT.get(key)
    # A call that is never repeated is not held side by side either.
    return "give it more rounds" if step == STORED and ONCE in finding.note else step


def lists(finding: Finding) -> bool:
    """Whether the examples that it is about are listed; not where others made up for them."""
    return bool(finding.examples) and finding.status not in ("pass", "improved")


def reasons(verdict: Verdict, listed: Listed | None = None) -> list[str]:
    """The findings that did not pass, one line each and their details; the others are counted. listed: examples of cases told
    before, in the same text."""
    before = Listed() if listed is None else listed
    ordered = sorted(verdict.findings, key=lambda one: -SEVERITY[one.status])
    shown = [one for one in ordered if one.status != "pass"]
    lines, mine = [], set[tuple[str, ...]]()
    for one in shown:
        # The same examples are listed once, by the worst finding about them.
        again = one.examples in mine
        same = before.same(verdict.case_id, one) if lists(one) and not again else ""
        lines.append(line(replace(one, examples=()) if again else one, same))
        lines += [f"  {detail}" for detail in before.new(verdict.case_id, one)]
        mine.add(one.examples)
    passed = len(ordered) - len(shown)
    if passed:
        lines.append(f"{passed} more passed" if shown else f"{passed} passed")
    return lines


def explain(verdict: Verdict, listed: Listed | None = None) -> str:
    """The case, its status and the reasons: those of that very status do not say it again. listed: see reasons."""
    told = [reason.removeprefix(f"{verdict.status}: ") for reason in reasons(verdict, listed)]
    return "\n".join([f"{verdict.case_id}: {verdict.status}", *(f"  {reason}" for reason in told)])


def explain_all(verdicts: Iterable[Verdict]) -> list[str]:
    """One text a case, for people who read them one after the other: examples that several lost are listed by the first."""
    listed, texts = Listed(), []
    for one in verdicts:
        texts.append(explain(one, listed))
        tell(listed, one)
    return texts


def tell(listed: Listed, verdict: Verdict) -> None:
    """Everything about a verdict was told: what is told next may refer to its examples."""
    listed.add(verdict.case_id, *filter(lists, verdict.findings))
