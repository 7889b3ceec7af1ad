"""Two sets of measurements beside each other: what was, what is, how sure one can be. Judges nothing: it shows verdicts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pytest_perfq.core.finding import FAILED, SEVERITY, Finding, Verdict
from pytest_perfq.core.summary import summarize
from pytest_perfq.core.verdict import Pair
from pytest_perfq.report.explain import explain
from pytest_perfq.report.grid import Column, render
from pytest_perfq.report.terminal import counts, digits, reasons

COLUMNS = (
    Column("case", right=False, folds=True),
    Column("was"),
    Column("is"),
    Column("change"),
    Column("interval", right=False, spare=1),
    Column("status", right=False),
)
# Rows of a table that a person still reads; --all shows every one.
SHOWN_CASES = 40
# Under every table: without it `change` looks like a wrong quotient.
CORRECTED = "change of a timing is that of the case over the reference layer timed beside it, not `is` over `was`"
AGAINST = ("slowdown", "max_slowdown", "accuracy", "flips", "baseline")


def _against(verdict: Verdict) -> Finding | None:
    """The worst finding about the baseline that has a number, or else the worst of all."""
    mine = [one for one in verdict.findings if one.rule in AGAINST]
    return max(mine, key=lambda one: (one.observed is not None, SEVERITY[one.status]), default=None)


def row(name: str, pair: Pair, verdict: Verdict) -> list[str]:
    """One case as texts: milliseconds of the median for a latency case, the primary score for an accuracy case."""
    case = (pair.candidate or pair.baseline).case  # type: ignore[union-attr]
    values: list[str] = []
    for measurement in (pair.baseline, pair.candidate):
        if measurement is None:
            values.append("")
        elif case.kind == "latency":
            p50 = summarize(measurement).percentiles_ms.get("p50")
            values.append("" if p50 is None else f"{digits(p50)} ms")
        else:
            score = measurement.score()
            values.append("" if score is None else f"{score.value:.4f}")
    change, interval = "", ""
    finding = _against(verdict)
    if finding is not None and finding.observed is not None:
        if case.kind == "latency":
            change = f"{finding.observed:+.1%}"
            interval = "" if finding.interval is None else f"[{finding.interval[0]:+.1%}, {finding.interval[1]:+.1%}]"
        else:
            change = f"{0.0 - finding.observed:+.4f}" if finding.rule == "accuracy" else f"{-finding.observed:+.0f} examples"
    return [name, *values, change, interval, verdict.status]


def _ordered(verdicts: Mapping[str, Verdict]) -> list[str]:
    return sorted(verdicts, key=lambda name: (-SEVERITY[verdicts[name].status], name))


def table(pairs: Mapping[str, Pair], verdicts: Mapping[str, Verdict], width: int, everything: bool = False) -> str:
    """The worst cases first, then what failed and why, then why others are undecided."""
    names = _ordered(verdicts)
    shown = names if everything else names[:SHOWN_CASES]
    lines = [render(COLUMNS, [row(name, pairs[name], verdicts[name]) for name in shown], width)] if shown else []
    if len(shown) < len(names):
        lines.append(f"and {len(names) - len(shown)} more cases, none of them worse: see them with --all")
    if any(pairs[name].baseline is not None and pairs[name].baseline.visits for name in shown):  # type: ignore[union-attr]
        lines.append(CORRECTED)
    lines += ["", counts(list(verdicts.values()))]
    lines += [explain(verdicts[name]) for name in shown if verdicts[name].status in FAILED]
    return "\n".join([*lines, *reasons([verdicts[name] for name in names])])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def markdown(pairs: Mapping[str, Pair], verdicts: Mapping[str, Verdict], everything: bool = False) -> str:
    """The same as a table for pull requests and job summaries."""
    names = _ordered(verdicts)
    shown = names if everything else names[:SHOWN_CASES]
    lines = [f"**{counts(list(verdicts.values()))}**", ""]
    lines.append("| " + " | ".join(column.title for column in COLUMNS) + " |")
    lines.append("| " + " | ".join("---:" if column.right else ":---" for column in COLUMNS) + " |")
    for name in shown:
        cells = [_cell(text) for text in row(name, pairs[name], verdicts[name])]
        lines.append("| " + " | ".join([f"`{cells[0]}`", *cells[1:]]) + " |")
    if len(shown) < len(names):
        lines += ["", f"and {len(names) - len(shown)} more cases, none of them worse"]
    lines += ["", CORRECTED]
    failed = [name for name in names if verdicts[name].status in FAILED]
    if failed:
        lines += ["", "```", *(explain(verdicts[name]) for name in failed), "```"]
    return "\n".join(lines) + "\n"


def as_json(verdicts: Mapping[str, Verdict]) -> str:
    """Verdicts as JSON, one case a line, and the worst status of all."""
    worst = max((verdict.status for verdict in verdicts.values()), key=SEVERITY.__getitem__, default="pass")
    numbers: dict[str, int] = {}
    for verdict in verdicts.values():
        numbers[verdict.status] = numbers.get(verdict.status, 0) + 1
    head: dict[str, Any] = {"status": worst, "counts": numbers}
    cases = ",\n".join(json.dumps(verdicts[name].to_json()) for name in sorted(verdicts))
    return f'{json.dumps(head)[:-1]}, "cases": [\n{cases}\n]}}'
