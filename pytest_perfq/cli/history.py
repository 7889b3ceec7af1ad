"""`perfq history`: one case over time, and where its level changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_perfq.cli.nearest import unknown_case
from pytest_perfq.cli.show import revision, when
from pytest_perfq.cli.storing import opened
from pytest_perfq.core.changes import MIN_RUNS, Change, changes
from pytest_perfq.report.grid import Column, render
from pytest_perfq.report.terminal import digits

if TYPE_CHECKING:
    from pytest_perfq.store import Point

# A run whose timing nobody believed says nothing of a level.
UNTIMED = frozenset({"invalid", "unmeasured"})


def history(case: str, store: str, width: int) -> str:
    """One case over all runs of the store."""
    with opened(store, readonly=True) as stored:
        points = stored.history(case)
        if not points:
            raise unknown_case(case, stored.cases(), stored.name)
    columns = (
        Column("run", right=False),
        Column("recorded", right=False, spare=3),
        Column("revision", right=False, spare=1),
        Column("machine", right=False, spare=2),
        Column("p50 ms"),
        Column("p95 ms"),
        Column("speed-up"),
        Column("metric", right=False),
        Column("score"),
        Column("drop"),
        Column("status", right=False),
    )
    rows = [
        [
            one.run_id,
            when(one.recorded_s),
            revision(one.revision, one.dirty),
            one.machine or "",
            digits(one.p50_ms),
            digits(one.p95_ms),
            "" if one.speedup is None else f"{one.speedup:.2f}x",
            one.metric or "",
            "" if one.score is None else f"{one.score:.4f}",
            "" if one.drop is None else f"{one.drop:+.4f}",
            one.status,
        ]
        for one in points
    ]
    return render(columns, rows, width, case)


@dataclass(frozen=True, slots=True)
class Step:
    """A change of a case's level, between two runs on one machine."""

    case_id: str
    change: Change
    before: Point
    after: Point


def steps(case_id: str, points: Sequence[Point]) -> list[Step]:
    """Where the medians of a case changed their level. Runs of one machine are one series; one value a run, its last."""
    found = []
    for machine in sorted({one.machine or "" for one in points}):
        series = {
            one.run_id: one for one in points if (one.machine or "") == machine and one.p50_ms and one.status not in UNTIMED
        }
        runs = list(series.values())
        medians = [one.p50_ms for one in runs if one.p50_ms is not None]
        found += [Step(case_id, one, runs[one.index - 1], runs[one.index]) for one in changes(medians)]
    return sorted(found, key=lambda one: one.after.recorded_s)


def changed(case: str | None, store: str, width: int) -> str:
    """The changes of one case, or of all, each with the runs and revisions between which it lies and how to confirm it."""
    with opened(store, readonly=True) as stored:
        known = stored.cases()
        if case is not None and case not in known:
            raise unknown_case(case, known, stored.name)
        names = known if case is None else [case]
        series = {name: [one for one in stored.history(name) if not one.looked_back] for name in names}
    found = [step for name, points in series.items() for step in steps(name, points)]
    if not found:
        longest = max((len(points) for points in series.values()), default=0)
        what = case or f"any of {len(series)} cases"
        return f"no change of level of {what} in {longest} runs; one is told once {MIN_RUNS} runs stand on either side of it"
    columns = (
        Column("case", right=False, folds=True),
        Column("recorded", right=False, spare=2),
        Column("was"),
        Column("is"),
        Column("change"),
        Column("revisions", right=False, spare=1),
    )
    rows = [
        [
            one.case_id,
            when(one.after.recorded_s),
            f"{digits(one.change.before)} ms",
            f"{digits(one.change.after)} ms",
            f"{one.change.effect:+.1%}",
            f"{revision(one.before.revision, one.before.dirty)}..{revision(one.after.revision, one.after.dirty)}",
        ]
        for one in found
    ]
    return "\n".join([render(columns, rows, width), *(_confirm(one) for one in found)])


def _confirm(step: Step) -> str:
    """What tells a change of the code from one of the machine."""
    before, after = step.before.revision, step.after.revision
    runs = f"{step.case_id}: between the runs {step.before.run_id} and {step.after.run_id}"
    if before is None or after is None or before == after:
        return f"{runs}, which are of one revision: the machine or the software under it has changed"
    between = f"{before[:10]} {after[:10]}"
    return f"{runs}; confirm it: perfq ab {between}; find the commit: perfq bisect '{step.case_id}' {between}"
