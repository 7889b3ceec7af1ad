"""What the other commands print: runs, cases, baselines, histories, exports, the machine."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from pytest_perfq import baselines
from pytest_perfq.cli.source import exported
from pytest_perfq.core.finding import FAILED, STATUSES, Finding, Verdict
from pytest_perfq.errors import BaselineError, UnknownName, UsageError
from pytest_perfq.report.explain import explain
from pytest_perfq.report.grid import Column, render
from pytest_perfq.report.markdown import model_card
from pytest_perfq.report.terminal import digits, summary


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _counts(statuses: dict[str, int]) -> str:
    return ", ".join(f"{statuses[status]} {status}" for status in STATUSES if statuses.get(status)) or "nothing"


def _revision(revision: str | None, dirty: bool | None) -> str:
    return "" if revision is None else revision[:10] + ("+" if dirty else "")


def report(name: str, how: str, store: str, width: int) -> str:
    """A run or a baseline as a summary or a model card."""
    if Path(name).is_dir() or "/" in name:
        source = baselines.load(name)
        found = []
        for case_id in source:
            measurement = source.get(case_id)
            assert measurement is not None
            finding = Finding(rule="baseline", status=source.status(case_id), note="as it was saved")
            found.append((measurement, Verdict(case_id, (finding,), source.limits(case_id))))
    else:
        found = [(one.measurement, one.verdict) for one in exported(store, name)]
    if how == "markdown":
        return model_card(found)
    failed = [explain(verdict) for _, verdict in found if verdict.failed]
    return "\n".join([summary(found, width), *failed])


def stored(what: str, store: str, width: int) -> str:
    """Runs or cases of the store."""
    from pytest_perfq.store import Store

    with Store.open(store, readonly=True) as opened:
        if what == "cases":
            rows = [[name, status] for name, status in opened.cases().items()]
            return render((Column("case", right=False, folds=True), Column("last", right=False)), rows, width)
        runs = opened.runs()
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
            _when(run.started_s),
            "unfinished" if run.finished_s is None else "finished",
            _revision(run.revision, run.dirty),
            run.machine or "",
            _counts(run.statuses),
        ]
        for run in runs
    ]
    return render(columns, rows, width) if rows else f"no runs in {store}"


def baselines_in(folder: str, width: int) -> str:
    """The baselines below a folder, those that cannot be read with the reason."""
    rows = []
    for meta in sorted(Path(folder).glob("*/meta.json")):
        try:
            found = baselines.load(meta.parent)
        except BaselineError as error:
            rows.append([str(meta.parent), "", "", str(error)])
            continue
        statuses: dict[str, int] = {}
        for case_id in found:
            statuses[found.status(case_id)] = statuses.get(found.status(case_id), 0) + 1
        rows.append([str(meta.parent), found.meta["created"], str(len(found)), _counts(statuses)])
    columns = (
        Column("baseline", right=False),
        Column("created", right=False, spare=1),
        Column("cases"),
        Column("held", right=False, folds=True),
    )
    return render(columns, rows, width) if rows else f"no baselines in {folder}; save one with --perf-save {folder}/NAME"


def history(case: str, store: str, width: int) -> str:
    """One case over all runs of the store."""
    from pytest_perfq.store import Store

    with Store.open(store, readonly=True) as opened:
        points = opened.history(case)
        if not points:
            raise UnknownName("case", case, opened.cases(), "see `perfq list cases`")
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
            _when(one.recorded_s),
            _revision(one.revision, one.dirty),
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


def export(run: str, how: str, store: str) -> str:
    """A run in another format."""
    from pytest_perfq.report.exports import FORMATS

    return FORMATS[how](exported(store, run))


def accept(run: str, folder: str, overwrite: bool, store: str) -> str:
    """Saves a run as a baseline. Raises UsageError where a case of it failed or is invalid."""
    records = exported(store, run)
    bad = [one.measurement.case.id for one in records if one.verdict.status in (*FAILED, "invalid")]
    if bad:
        raise UsageError(
            f"the run {run!r} has {len(bad)} failing or invalid cases of {len(records)}, the first is {bad[0]!r}; a baseline "
            "is what others are held against: mend them first"
        )
    path = baselines.save(
        folder, [one.measurement for one in records], [one.verdict for one in records], overwrite=overwrite
    )  # fmt: skip
    return f"saved {len(baselines.load(path))} cases as {path}"


def doctor(how: str, width: int) -> str:
    """The machine and what each backend refuses on it."""
    from pytest_perfq import device

    facts = device.doctor_facts()
    if how == "json":
        return json.dumps(facts, indent=1, default=str)
    lines = []
    for tier, values in facts["machine"].items():
        lines += [tier, *(f"  {name:24} {'' if value is None else value}" for name, value in values.items())]
    lines += [f"gpu {facts['gpu'] or 'none'}; {facts['threads']} threads", ""]
    return "\n".join([*lines, _refusals(facts["backends"], width)])


def _refusals(backends: dict[str, Any], width: int) -> str:
    columns = (
        Column("backend", right=False),
        Column("device", right=False),
        Column("precision", right=False),
        Column("", right=False, folds=True),
    )
    rows = [
        [name, place, precision, "; ".join(reasons) or "yes"]
        for name, places in backends.items()
        for place, precisions in places.items()
        for precision, reasons in precisions.items()
    ]
    return render(columns, rows, width)
