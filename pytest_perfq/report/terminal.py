"""The summary a person reads at the end of a run: accuracy a program, latency a case, and why anything is undecided.

Beside a speed-up stands what the program loses for it. Percentiles stand only where there were rounds enough; a cell without
a number is empty, never nan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pytest_perfq.core.case import Case
from pytest_perfq.core.finding import STATUSES, Verdict
from pytest_perfq.core.measurement import Measurement
from pytest_perfq.core.summary import Summary, summarize
from pytest_perfq.report.examples import made_up_for
from pytest_perfq.report.explain import size
from pytest_perfq.report.folding import wrap
from pytest_perfq.report.grid import Column, render
from pytest_perfq.report.losses import Losses, drop
from pytest_perfq.report.order import topic
from pytest_perfq.report.undecided import undecided

Records = Sequence[tuple[Measurement, Verdict]]

ACCURACY = (
    Column("program", right=False, folds=True, spans=True),
    Column("metric", right=False),
    Column("score"),
    Column("original", spare=1),
    Column("drop"),
    Column("examples", spare=3),
    Column("size", spare=2),
    Column("status", right=False),
)
# `native[bits=w8a8]@cpu` in one line: a program may stand in so little before its losses leave.
NARROW = 21
LATENCY = (
    Column("program", right=False, folds=True, spans=True),
    Column("shape", right=False),
    Column("p50 ms"),
    Column("p90 ms", spare=7),
    Column("p95 ms", spare=3),
    Column("p99 ms", spare=5),
    Column("speed-up"),
    Column("drop", spare=1, beside=NARROW),
    Column("cosine", spare=2, beside=NARROW),
    Column("seq/s", spare=4),
    Column("size", spare=6),
    Column("status", right=False),
)
# What is of the program and not of the shape: the name and its losses.
OF_PROGRAM = tuple(index for index, column in enumerate(LATENCY) if column.title in ("program", "drop", "cosine"))


def program(case: Case) -> str:
    """What ran, without data, model, batch and length: `ort@cpu int8-dynamic[Add,MatMul]`; of a test its name."""
    if case.test is not None:
        return case.test
    parallel = f" tp{case.tp}pp{case.pp}" if case.tp > 1 or case.pp > 1 else ""
    return f"{case.backend}@{case.device} {case.numeric}{parallel}"


def shape(case: Case) -> str:
    """Batch, length and padding as the id writes them: `b8 s128`, `b1 s32 half`; nothing of a test."""
    if case.test is not None:
        return ""
    return f"b{case.batch_size} s{case.seq_len}" + ("" if case.padding == "full" else f" {case.padding}")


def digits(value: float | None) -> str:
    """Milliseconds and rates with three digits or more that mean something."""
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:#.3g}" if abs(value) < 100 else f"{value:.1f}"


def twice(records: Records, nodeids: Sequence[str]) -> list[str]:
    """Of each record the test that it is of, where another one has the same case; else nothing. nodeids: of the records, in
    their order; empty where there are none to tell."""
    number = Counter(measurement.case.id for measurement, _ in records)
    tests = [name.partition("[")[0] for name in nodeids] or [""] * len(records)
    return [test if number[one.case.id] > 1 else "" for test, (one, _) in zip(tests, records, strict=True)]


def _named(case: Case, test: str) -> str:
    return f"{program(case)} of {test}" if test else program(case)


def _accuracy(measurement: Measurement, verdict: Verdict, numbers: Summary, test: str) -> list[str]:
    score = measurement.score()
    return [
        _named(measurement.case, test),
        numbers.metric or "",
        "" if numbers.score is None else f"{numbers.score:.4f}",
        "" if numbers.original_score is None else f"{numbers.original_score:.4f}",
        drop(numbers),
        "" if score is None else str(score.n),
        "" if numbers.bytes is None else size(numbers.bytes),
        verdict.status,
    ]


def _latency(measurement: Measurement, verdict: Verdict, numbers: Summary, test: str, losses: Losses) -> list[str]:
    case = measurement.case
    return [
        _named(case, test),
        shape(case),
        *(digits(numbers.percentiles_ms.get(name)) for name in ("p50", "p90", "p95", "p99")),
        "" if numbers.speedup is None else f"{numbers.speedup:.2f}x",
        *losses.beside(measurement),
        digits(numbers.sequences_per_s),
        "" if numbers.bytes is None else size(numbers.bytes),
        verdict.status,
    ]


def tables(records: Records, width: int, nodeids: Sequence[str] = ()) -> list[str]:
    """One table for each kind and topic, in the order the topics came. nodeids: see `twice`."""
    of_tests = twice(records, nodeids)
    topics = list(dict.fromkeys(topic(measurement.case) for measurement, _ in records))
    losses = Losses.of(measurement for measurement, _ in records)
    found = []
    for name in topics:
        mine = [
            (one, verdict, summarize(one), test)
            for (one, verdict), test in zip(records, of_tests, strict=True)
            if topic(one.case) == name
        ]
        scored = [one for one in mine if one[0].case.kind == "accuracy"]
        timed = [one for one in mine if one[0].case.kind == "latency"]
        # Where nothing was measured there is nothing to read but the reason, which stands under the tables once.
        if any(verdict.status != "unmeasured" for _, verdict, *_ in scored):
            found.append(render(ACCURACY, [_accuracy(*one) for one in scored], width, f"accuracy of {name}"))
        if any(verdict.status != "unmeasured" for _, verdict, *_ in timed):
            rows = _grouped([_latency(*one, losses) for one in timed])
            found.append(render(LATENCY, rows, width, f"latency of {name}"))
    return found


def _grouped(rows: list[list[str]]) -> list[list[str]]:
    """The program and its losses once, over all its shapes."""
    found = []
    for index, row in enumerate(rows):
        again = index > 0 and all(rows[index - 1][at] == row[at] for at in OF_PROGRAM)
        found.append(["" if again and at in OF_PROGRAM else text for at, text in enumerate(row)])
    return found


def counts(verdicts: Sequence[Verdict]) -> str:
    """`12 cases: 10 pass, 2 regressed`."""
    number = Counter(verdict.status for verdict in verdicts)
    parts = ", ".join(f"{number[status]} {status}" for status in STATUSES if number[status])
    return f"{len(verdicts)} {'case' if len(verdicts) == 1 else 'cases'}: {parts}" if verdicts else "no cases"


def unquantized(records: Records) -> list[str]:
    """A line for the programs that carry a quantization in their name and have no quantized node."""
    names = [program(one.case) for one, _ in records if one.case.kind == "accuracy" and one.facts.get("quantized_nodes") == 0]
    if not names:
        return []
    return [f"nothing was quantized, so that these are floating point: {', '.join(dict.fromkeys(names))}"]


def summary(records: Records, width: int, nodeids: Sequence[str] = ()) -> str:
    """Everything, as one text. records: in the order of the walk. width: characters in a line. nodeids: of the records, by
    which rows of one case are told apart."""
    verdicts = [verdict for _, verdict in records]
    sentences = [counts(verdicts), *undecided(verdicts), *made_up_for(verdicts), *unquantized(records)]
    parts = [
        *("\n" + table for table in tables(records, width, nodeids)),
        "",
        *(part for sentence in sentences for part in wrap(sentence, width)),
    ]
    return "\n".join(parts).lstrip("\n")
