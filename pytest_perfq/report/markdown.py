"""A model card's tables: the original beside every optimized program, as the cards of quantized models have them.

One table of scores, one of times for each batch size and length, with what each speed-up was paid with; over all of them when
they were measured and on what. A row that did not pass says so; what is invalid has no figures. Knows no file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytest_perfq.core import stats, validity
from pytest_perfq.core.case import Case
from pytest_perfq.core.finding import Verdict
from pytest_perfq.core.fingerprint import Fingerprint
from pytest_perfq.core.measurement import Measurement
from pytest_perfq.core.summary import summarize
from pytest_perfq.report.comparison import AGAINST
from pytest_perfq.report.losses import Losses
from pytest_perfq.report.order import topic
from pytest_perfq.report.terminal import Records, counts, digits, program


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The first column stands at the left, numbers at the right."""
    lines = ["| " + " | ".join(titles) + " |", "| :--- | " + " | ".join("---:" for _ in titles[1:]) + " |"]
    return lines + ["| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in rows]


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _void(measurement: Measurement, verdict: Verdict) -> bool:
    """Whether its figures measure nothing. Those that were held in vain against another machine's, or other examples, do."""
    own = (one.status == "invalid" and one.rule not in AGAINST for one in verdict.findings)
    return validity.disturbed(measurement) is not None or any(own)


def _scores(mine: Records) -> list[str]:
    """Over how many examples, and the scores; a column has their number where it is not the same for all."""
    metrics = list(dict.fromkeys(score.metric for one, _ in mine for score in one.scores))
    titles = ["program", *(f"{metric} ({side})" for metric in metrics for side in ("original", "optimized"))]
    numbers = sorted({score.n for one, _ in mine for score in one.scores})
    several = len(numbers) > 1
    rows = []
    for one, verdict in mine:
        cells = [f"`{program(one.case)}`"]
        known = not _void(one, verdict)
        for metric in metrics:
            pair = (one.score(metric, original=True), one.score(metric))
            cells += [_score(score.value if known and score is not None else None) for score in pair]
        number = str(one.scores[0].n) if one.scores else ""
        rows.append([*cells, *([number] if several else []), verdict.status])
    over = f"{numbers[0]} to {numbers[-1]}" if several else str(numbers[0])
    columns = [*titles, *(["examples"] if several else []), "status"]
    return [f"Scores over {over} examples.", "", *_table(columns, rows)]


def _times(mine: Records, losses: Losses) -> list[str]:
    titles = [
        "program",
        "p50 (original, ms)",
        "p50 (optimized, ms)",
        "throughput (original, /s)",
        "throughput (optimized, /s)",
        "speed-up",
        "drop",
        "cosine",
        "status",
    ]
    rows = []
    for one, verdict in mine:
        figures = [""] * 5 if _void(one, verdict) else _figures(one)
        rows.append([f"`{program(one.case)}`", *figures, *losses.beside(one), verdict.status])
    # Losses that nobody knows leave no empty column.
    kept = [at for at, title in enumerate(titles) if title not in ("drop", "cosine") or any(row[at] for row in rows)]
    return _table([titles[at] for at in kept], [[row[at] for at in kept] for row in rows])


def _figures(one: Measurement) -> list[str]:
    """Medians and throughputs, of the original and of the case, and the speed-up."""
    numbers, originals = summarize(one), one.durations_ns("original")
    mean_ms = sum(originals) / len(originals) / 1e6 if originals else None
    was = stats.median(originals) / 1e6 if originals and stats.printable(0.5, len(originals)) else None
    rate = None if mean_ms is None else (one.case.batch_size or 1) / mean_ms * 1e3
    return [
        digits(was),
        digits(numbers.percentiles_ms.get("p50")),
        digits(rate),
        digits(numbers.sequences_per_s),
        "" if numbers.speedup is None else f"{numbers.speedup:.2f}x",
    ]


def _at(case: Case) -> str:
    if case.test is not None:
        return "one call"
    padding = "" if case.padding == "full" else f", padding = {case.padding}"
    return f"batch size = {case.batch_size}, input length = {case.seq_len}{padding}"


def _machine(fingerprint: Fingerprint) -> str:
    """Such as `Test CPU 9000, 2 threads (machine 0123456789ab)`; the key is the machine's name in the store."""
    identity = fingerprint.identity
    told = [str(identity[name]) for name in ("gpu", "cpu") if identity.get(name)]
    threads = identity.get("threads")
    told += [f"{threads} thread{'' if threads == 1 else 's'}"] if threads else []
    return f"{', '.join(told)} (machine {fingerprint.key})" if told else f"machine {fingerprint.key}"


def model_card(records: Records, when: str) -> str:
    """Markdown of all records, grouped by data set and model. when: they were measured, as people read it."""
    machines = list(dict.fromkeys(_machine(one.fingerprint) for one, _ in records))
    lines = [f"Measured on {when} on {'; '.join(machines)}.", "", f"{counts([verdict for _, verdict in records])}.", ""]
    losses = Losses.of(one for one, verdict in records if not _void(one, verdict))
    for name in dict.fromkeys(topic(one.case) for one, _ in records):
        mine = [(one, verdict) for one, verdict in records if topic(one.case) == name]
        lines += [f"## {name}", ""]
        scored = [(one, verdict) for one, verdict in mine if one.case.kind == "accuracy"]
        if any(one.scores for one, _ in scored):
            lines += [*_scores(scored), ""]
        timed = [(one, verdict) for one, verdict in mine if one.case.kind == "latency"]
        for at in dict.fromkeys(_at(one.case) for one, _ in timed):
            lines += [f"Times for {at}.", "", *_times([pair for pair in timed if _at(pair[0].case) == at], losses), ""]
    return "\n".join(lines)
