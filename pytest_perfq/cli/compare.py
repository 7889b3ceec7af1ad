"""`perfq compare`: two sources, one verdict a case, one exit status."""

from __future__ import annotations

import gc

from pytest_perfq.cli.source import Source, broken, open_source
from pytest_perfq.core.finding import FAILED, Verdict
from pytest_perfq.core.verdict import Pair, judge_suite
from pytest_perfq.report import comparison
from pytest_perfq.report.apart import compared

UNDECIDED = frozenset({"inconclusive", "invalid"})


def exit_status(verdicts: dict[str, Verdict]) -> int:
    """1 for a regression or a broken promise, else 2 for anything undecided, or where nothing was compared, else 0."""
    found = {verdict.status for verdict in verdicts.values()}
    if found & FAILED:
        return 1
    return 0 if compared(verdicts.values()) and not found & UNDECIDED else 2


def compare(baseline: str, candidate: str, how: str, subset: bool, store: str, everything: bool, width: int) -> tuple[str, int]:
    """The text and the exit status of comparing two sources."""
    # Hundreds of thousands of objects that all stay: looking for garbage among them takes longer than comparing.
    gc.disable()
    try:
        was = open_source(baseline, store)
        now = open_source(candidate, store, like=was)
        pairs, verdicts = judged(was, now, subset)
        return _text(how, pairs, verdicts, everything, width), exit_status(verdicts)
    finally:
        gc.enable()


def _text(how: str, pairs: dict[str, Pair], verdicts: dict[str, Verdict], everything: bool, width: int) -> str:
    shown = {name: pair for name, pair in pairs.items() if name in verdicts}
    if how == "json":
        return comparison.as_json(verdicts)
    if how == "markdown":
        return comparison.markdown(shown, verdicts, everything)
    return comparison.table(shown, verdicts, width, everything)


def judged(was: Source, now: Source, subset: bool) -> tuple[dict[str, Pair], dict[str, Verdict]]:
    """Every case of either side, with its verdict where it has one."""
    age_s = now.created_s - was.created_s
    pairs = {name: Pair(now.get(name), now.limits(name), was.get(name), age_s) for name in now}
    for name in was:
        if name not in pairs:
            pairs[name] = Pair(None, (), was.get(name))
    verdicts = judge_suite(pairs, against=True, subset=subset)
    for name in now:
        finding = broken(pairs[name].candidate, now.status(name))
        if finding is not None:
            verdicts[name] = Verdict(name, (finding, *verdicts[name].findings), verdicts[name].limits)
    return pairs, verdicts
