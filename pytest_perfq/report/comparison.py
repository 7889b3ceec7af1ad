"""Two sets of measurements beside each other: what was, what is, how sure one can be. Judges nothing: it shows verdicts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_perfq.core.case import Case
from pytest_perfq.core.finding import FAILED, SEVERITY, Finding, Verdict
from pytest_perfq.core.slowdown import has_anchor
from pytest_perfq.core.summary import summarize
from pytest_perfq.core.verdict import Pair
from pytest_perfq.report.apart import Apart, compared, is_new, unheld
from pytest_perfq.report.examples import made_up_for
from pytest_perfq.report.explain import explain_all
from pytest_perfq.report.explain import reasons as lines_of
from pytest_perfq.report.folding import wrap
from pytest_perfq.report.grid import Column, render
from pytest_perfq.report.order import by_name, stem, topic
from pytest_perfq.report.terminal import counts, digits
from pytest_perfq.report.undecided import undecided

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
BARE = (
    "change of a timing is `is` over `was`, less what the whole suite moved by where it moved alike: no reference layer was "
    "timed beside it on both sides"
)
MIXED = f"{CORRECTED}, but where none was timed on both sides"
BESIDE = "change of a timing is the mean over visits of what both sides differ by, round by round, not `is` over `was`"
NOTHING = "nothing was compared"
NOBODY_APART = Apart()
AGAINST = ("slowdown", "max_slowdown", "accuracy", "flips", "baseline")


def _against(verdict: Verdict) -> Finding | None:
    """The worst finding about the baseline that has a number, or else the worst of all; of two as bad, the one about the
    score that the table shows."""
    mine = [one for one in verdict.findings if one.rule in AGAINST]
    return max(mine, key=lambda one: (one.observed is not None, SEVERITY[one.status], one.rule == "accuracy"), default=None)


def _case(pair: Pair) -> Case:
    return (pair.candidate or pair.baseline).case  # type: ignore[union-attr]


def row(name: str, pair: Pair, verdict: Verdict) -> list[str]:
    """One case as texts: milliseconds of the median for a latency case, the primary score for an accuracy case. name: what
    stands in the first column."""
    case = _case(pair)
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
            change = f"{0.0 - finding.observed:+.4f}" if finding.rule == "accuracy" else _examples(-finding.observed)
    return [name, *values, change, interval, f"{verdict.status}, new" if is_new(verdict) else verdict.status]


def _examples(number: float) -> str:
    return f"{number:+.0f} {'example' if abs(number) == 1 else 'examples'}"


def _ordered(pairs: Mapping[str, Pair], verdicts: Mapping[str, Verdict]) -> list[str]:
    """The worst first; of one status as their names sort."""
    return sorted(verdicts, key=lambda name: (-SEVERITY[verdicts[name].status], by_name(_case(pairs[name]))))


def _tables(names: Sequence[str], pairs: Mapping[str, Pair], verdicts: Mapping[str, Verdict], width: int) -> list[str]:
    """One table for each topic, that of the worst case first. What all ids of a table begin with stands over it, once."""
    topics: dict[str, list[str]] = {}
    for name in names:
        topics.setdefault(topic(_case(pairs[name])), []).append(name)
    found = []
    for mine in topics.values():
        shared = stem(mine)
        rows = [row(name.removeprefix(shared), pairs[name], verdicts[name]) for name in mine]
        found += [render(COLUMNS, rows, width, f"cases of {shared}" if shared else ""), ""]
    return found


def _counts(names: Sequence[str], verdicts: Mapping[str, Verdict], apart: Apart) -> str:
    told = (counts([verdicts[name] for name in names]), str(apart), "" if compared(verdicts.values()) else NOTHING)
    return "; ".join(part for part in told if part)


def _failed(names: Sequence[str], verdicts: Mapping[str, Verdict]) -> list[Verdict]:
    return [verdicts[name] for name in names if verdicts[name].status in FAILED]


def _new(names: Sequence[str], pairs: Mapping[str, Pair], verdicts: Mapping[str, Verdict]) -> list[str]:
    """A sentence where measured cases are new; without one they would pass in silence."""
    measured = [name for name in names if (now := pairs[name].candidate) is not None and now.unmeasured is None]
    found = [name for name in measured if is_new(verdicts[name])]
    return [unheld(found, "the baseline")] if found else []


def table(
    pairs: Mapping[str, Pair],
    verdicts: Mapping[str, Verdict],
    width: int,
    everything: bool = False,
    apart: Apart = NOBODY_APART,
) -> str:
    """The worst cases first, then what failed and why, then why others are undecided. apart: what had no partner."""
    names = _ordered(pairs, verdicts)
    shown = names if everything else names[:SHOWN_CASES]
    sentences = []
    how = _corrected([pairs[name] for name in shown])
    sentences += [how, ""] if how else []
    sentences.append(_counts(names, verdicts, apart))
    if len(shown) < len(names):
        rest = len(names) - len(shown)
        sentences.append(f"{rest} {'case is' if rest == 1 else 'cases are'} not shown, none of them worse: see them with --all")
    sentences += [text for told in explain_all(_failed(shown, verdicts)) for text in told.splitlines()]
    sentences += undecided([verdicts[name] for name in names], "see them with --format json")
    sentences += [*made_up_for([verdicts[name] for name in names]), *_new(names, pairs, verdicts)]
    return "\n".join([*_tables(shown, pairs, verdicts, width), *(part for one in sentences for part in wrap(one, width))])


def _corrected(pairs: Sequence[Pair]) -> str:
    """What `change` means under these pairs; empty where none has a timing to compare."""
    sides = [(pair.candidate, pair.baseline) for pair in pairs]
    timed = [(now, was) for now, was in sides if now and was and now.visits and was.visits]
    if not timed:
        return ""
    if any(now.visits[0].base is not None for now, _ in timed):
        return BESIDE
    corrected = [has_anchor(now) and has_anchor(was) for now, was in timed]
    return CORRECTED if all(corrected) else MIXED if any(corrected) else BARE


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def markdown(
    pairs: Mapping[str, Pair], verdicts: Mapping[str, Verdict], everything: bool = False, apart: Apart = NOBODY_APART
) -> str:
    """The same as a table for pull requests and job summaries."""
    names = _ordered(pairs, verdicts)
    shown = names if everything else names[:SHOWN_CASES]
    lines = [f"**{_counts(names, verdicts, apart)}**", ""]
    lines.append("| " + " | ".join(column.title for column in COLUMNS) + " |")
    lines.append("| " + " | ".join("---:" if column.right else ":---" for column in COLUMNS) + " |")
    for name in shown:
        cells = [_cell(text) for text in row(name, pairs[name], verdicts[name])]
        lines.append("| " + " | ".join([f"`{cells[0]}`", *cells[1:]]) + " |")
    if len(shown) < len(names):
        lines += ["", f"and {len(names) - len(shown)} more cases, none of them worse"]
    how = _corrected([pairs[name] for name in shown])
    lines += ["", how] if how else []
    if failed := _failed(names, verdicts):
        lines += ["", "```", *explain_all(failed), "```"]
    why = undecided([verdicts[name] for name in names], "see them with --format json")
    why += [*made_up_for([verdicts[name] for name in names]), *_new(names, pairs, verdicts)]
    if why:
        lines += ["", *(f"- {_cell(text)}" for text in why)]
    return "\n".join(lines) + "\n"


def as_json(verdicts: Mapping[str, Verdict], apart: Apart | None = None) -> str:
    """Verdicts as JSON, one case a line, and the worst status of all. What somebody must do something about, a failed or an
    invalid case, comes with the sentences a person would read. apart: what had no partner, None where nobody looked."""
    worst = max((verdict.status for verdict in verdicts.values()), key=SEVERITY.__getitem__, default="pass")
    numbers: dict[str, int] = {}
    for verdict in verdicts.values():
        numbers[verdict.status] = numbers.get(verdict.status, 0) + 1
    head: dict[str, Any] = {"status": worst, "counts": numbers, **({} if apart is None else apart.to_json())}
    cases = ",\n".join(json.dumps(_told(verdicts[name])) for name in sorted(verdicts))
    return f'{json.dumps(head)[:-1]}, "cases": [\n{cases}\n]}}'


def _told(verdict: Verdict) -> dict[str, Any]:
    plain = verdict.to_json()
    return plain | {"reasons": lines_of(verdict)} if plain["status"] in (*FAILED, "invalid") else plain
