"""`perfq accept`: a stored run as a baseline, where others can be held against it. Measures nothing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_perfq import baselines
from pytest_perfq.baselines.layout import META
from pytest_perfq.cli.source import exported
from pytest_perfq.cli.storing import opened
from pytest_perfq.core.finding import FAILED, Finding
from pytest_perfq.core.verdict import judge
from pytest_perfq.errors import UsageError
from pytest_perfq.recorder import command
from pytest_perfq.report.apart import few

if TYPE_CHECKING:
    from pytest_perfq.report.exports import Exported
    from pytest_perfq.store import Run

# What a case is held against a baseline by, and not by what was promised of it alone.
COMPARED = ("slowdown", "max_slowdown", "accuracy", "flips", "baseline")
# Runs that pytest did not make: what their settings hold and those of others do not, who made them, and what to do instead.
UNHELD = (
    ("trial", "`perfq ab` or `perfq bisect`", "--perf-save"),
    ("imported", "`perfq import`", "--perf-benchmarks and --perf-save"),
)


def accept(name: str, folder: str, overwrite: bool, subset: bool, store: str) -> str:
    """Saves a run, by its id or `last`, as a baseline. subset: what it lacks of the one that it replaces was meant to go.
    Raises UsageError where it is none that others can be held against."""
    with opened(store, readonly=True) as found:
        run = found.run(name)
    records = exported(store, run.id)
    _check_whole(run, len(records))
    records = [_by_itself(one) for one in records]
    bad = [one.measurement.case.id for one in records if one.verdict.status in (*FAILED, "invalid")]
    if bad:
        raise UsageError(
            f"the run {run.id!r} has {len(bad)} failing or invalid {_cases_of(len(bad))} of {len(records)}, the first is "
            f"{bad[0]!r}; a baseline is what others are held against: mend {'it' if len(bad) == 1 else 'them'} first"
        )
    if overwrite and not subset and (Path(folder) / META).is_file():
        _check_all(run.id, {one.measurement.case.id for one in records}, folder)
    made = command(records[0].argv)
    path = baselines.save(
        folder,
        [one.measurement for one in records],
        [one.verdict for one in records],
        overwrite=overwrite,
        provenance={"run": run.id, "command": made, "accepted": True},
    )
    number = len(baselines.load(path))
    told = f"saved {number} {_cases_of(number)} as {path}; hold a run against it with --perf-against={path}"
    return f"{told}\nit holds what was measured by: {made}"


def _check_all(run: str, measured: Collection[str], folder: str) -> None:
    """Raises UsageError where the run lacks cases of the baseline that stands there: nobody would miss them later."""
    known = list(baselines.load(folder))
    gone = [name for name in known if name not in measured]
    if gone:
        raise UsageError(
            f"the run {run} has {len(known) - len(gone)} of the {len(known)} cases of {folder}, and in its place would drop "
            f"{few(gone)}; measure the whole suite, or give --subset where they were left out on purpose"
        )


def _by_itself(record: Exported) -> Exported:
    """The record without what could not be held against the baseline of its day: this run takes that one's place. What cannot
    even be held against itself stays invalid, and what was found to be worse stays worse."""
    measurement, verdict = record.measurement, record.verdict
    kept = tuple(one for one in verdict.findings if not _uncompared(one))
    itself = judge(measurement, verdict.limits, measurement).findings
    unfit = [one for one in itself if _uncompared(one)]
    return replace(record, verdict=replace(verdict, findings=(*kept, *unfit)))


def _uncompared(finding: Finding) -> bool:
    return finding.status == "invalid" and finding.rule in COMPARED


def _check_whole(run: Run, cases: int) -> None:
    """Raises UsageError for what pytest did not run, and for a run that was cut off."""
    for mark, made, how in UNHELD:
        if mark in run.settings:
            raise UsageError(
                f"the run {run.id} is one of {made}: its timings have no reference layer beside them, "
                f"without which no later run can be held against it; save a run of pytest, with {how}"
            )
    if run.finished_s is None:
        items = run.settings.get("items")
        held = str(cases) if items is None else f"{cases} of {items}"
        raise UsageError(
            f"the run {run.id} is unfinished, with {held} {_cases_of(items or cases)}: as a baseline it "
            "would miss the others; take it up with --perf-resume, then accept it"
        )


def _cases_of(number: int) -> str:
    return "case" if number == 1 else "cases"
