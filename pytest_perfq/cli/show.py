"""What the other commands print: runs, cases, baselines, histories, exports."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_perfq import baselines
from pytest_perfq.cli.source import exported, is_folder
from pytest_perfq.cli.storing import opened
from pytest_perfq.core.budget import Limit
from pytest_perfq.core.finding import STATUSES, Finding, Verdict
from pytest_perfq.core.measurement import Measurement
from pytest_perfq.core.verdict import judge
from pytest_perfq.errors import BaselineError
from pytest_perfq.report.explain import explain_all
from pytest_perfq.report.folding import wrap
from pytest_perfq.report.grid import GAP, Column, render
from pytest_perfq.report.markdown import model_card
from pytest_perfq.report.order import in_walk, natural, parts, stem
from pytest_perfq.report.terminal import summary

if TYPE_CHECKING:
    from pytest_perfq.store import Run


def when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _counts(statuses: dict[str, int]) -> str:
    return ", ".join(f"{statuses[status]} {status}" for status in STATUSES if statuses.get(status)) or "nothing"


def revision(revision: str | None, dirty: bool | None) -> str:
    return "" if revision is None else revision[:10] + ("+" if dirty else "")


def report(name: str, how: str, store: str, width: int) -> str:
    """A run or a baseline as a summary or a model card."""
    nodeids: list[str] = []
    if is_folder(name):
        source = baselines.load(name)
        found, at_s = [], source.created_s
        for case_id in in_walk({case_id: source.case(case_id) for case_id in source}):
            measurement = source.get(case_id)
            assert measurement is not None
            found.append((measurement, _as_saved(measurement, source.status(case_id), source.limits(case_id))))
    else:
        records = exported(store, name)
        found, at_s = [(one.measurement, one.verdict) for one in records], records[0].started_s
        nodeids = [one.nodeid for one in records]
    if how == "markdown":
        return model_card(found, when(at_s))
    told = explain_all(one for _, one in found if one.failed)
    failed = [part for text in told for row in text.splitlines() for part in wrap(row, width)]
    return "\n".join([summary(found, width, nodeids), *failed])


def _as_saved(measurement: Measurement, status: str, limits: tuple[Limit, ...]) -> Verdict:
    """The verdict a case was saved with. A baseline keeps its status; its promises say why, where they alone decided it."""
    again = judge(measurement, [limit for limit in limits if limit.rule != "max_slowdown"])
    if again.status == status:
        return Verdict(measurement.case.id, again.findings, limits)
    note = measurement.unmeasured or "as it was saved"
    return Verdict(measurement.case.id, (Finding(rule="measured", status=status, note=note),), limits)


def stored(what: str, store: str, width: int) -> str:
    """Runs or cases of the store."""
    with opened(store, readonly=True) as found:
        runs = found.runs() if what == "runs" else []
        cases = found.cases() if what == "cases" else {}
        name = found.name
    if not runs and not cases:
        return f"no {what} in {name} yet; a run of pytest over a suite brings them"
    return _runs(runs, width) if what == "runs" else _cases(cases, width)


def _cases(cases: dict[str, str], width: int) -> str:
    """Whole ids where they fit the width; else one table for each data set and model, whose names stand over it once."""
    columns = (Column("case", right=False, folds=True), Column("last", right=False))
    names = sorted(cases, key=natural)
    if max(map(len, names)) + GAP + max(map(len, cases.values())) <= width:
        return render(columns, [[name, cases[name]] for name in names], width)
    topics: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        topics.setdefault(tuple(parts(name)[:2]), []).append(name)
    found = []
    for mine in topics.values():
        shared = stem(mine)
        found.append(render(columns, [[name.removeprefix(shared), cases[name]] for name in mine], width, f"cases of {shared}"))
    return "\n\n".join(found)


def _runs(runs: Sequence[Run], width: int) -> str:
    columns = (
        Column("run", right=False),
        Column("started", right=False, spare=3),
        Column("state", right=False),
        Column("revision", right=False, spare=1),
        Column("machine", right=False, spare=2),
        Column("held", right=False, folds=True),
    )
    rows = [
        [
            run.id,
            when(run.started_s),
            "unfinished" if run.finished_s is None else "finished",
            revision(run.revision, run.dirty),
            run.machine or "",
            _counts(run.statuses),
        ]
        for run in runs
    ]
    return render(columns, rows, width)


def baselines_in(folder: str, width: int) -> str:
    """The baselines below a folder, then why others there cannot be read."""
    rows, unread = [], []
    for path in sorted(baselines.inside(folder), key=lambda one: natural(one.name)):
        try:
            found = baselines.load(path)
        except BaselineError as error:
            unread += wrap(str(error), width)
            continue
        statuses: dict[str, int] = {}
        for case_id in found:
            statuses[found.status(case_id)] = statuses.get(found.status(case_id), 0) + 1
        visits = [found.line(case_id)["visits"] for case_id in found if found.line(case_id)["visits"]]
        rows.append([
            str(path), _age(time.time() - found.created_s), when(found.created_s), _revisions(found), str(len(found)),
            str(min(visits)) if visits else "", _counts(statuses),
        ])  # fmt: skip
    columns = (
        Column("baseline", right=False),
        Column("age"),
        Column("created", right=False, spare=2),
        Column("revision", right=False, spare=1),
        Column("cases"),
        Column("visits", spare=3),
        Column("held", right=False, folds=True),
    )
    if not rows and not unread:
        return f"no baselines in {folder}; save one with --perf-save {folder}/NAME"
    return "\n".join([*([render(columns, rows, width)] if rows else []), *unread])


def _age(seconds: float) -> str:
    hours = seconds / 3600.0
    return f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} days"


def _revisions(baseline: baselines.Baseline) -> str:
    """The revisions that its cases were measured at; a + marks uncommitted changes."""
    stacks = [machine["stack"] for machine in baseline.meta["machines"].values()]
    return ", ".join(sorted({revision(one.get("revision"), one.get("dirty")) for one in stacks} - {""}))


def export(run: str, how: str, store: str) -> str:
    """A run in another format."""
    from pytest_perfq.report.exports import FORMATS

    return FORMATS[how](exported(store, run))
