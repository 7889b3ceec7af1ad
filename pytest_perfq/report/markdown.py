"""A model card's tables: the original beside every optimized program, as the cards of quantized models have them.

One table of scores, one of times for each batch size and length, with what each speed-up was paid with. Knows no file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytest_perfq.core import stats
from pytest_perfq.core.case import Case
from pytest_perfq.core.measurement import Measurement
from pytest_perfq.core.summary import summarize
from pytest_perfq.report.losses import Losses
from pytest_perfq.report.order import topic
from pytest_perfq.report.terminal import Records, digits, program


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The first column stands at the left, numbers at the right."""
    lines = ["| " + " | ".join(titles) + " |", "| :--- | " + " | ".join("---:" for _ in titles[1:]) + " |"]
    return lines + ["| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in rows]


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _scores(mine: Sequence[Measurement]) -> list[str]:
    """Over how many examples, and the scores; a column has their number where it is not the same for all."""
    metrics = list(dict.fromkeys(score.metric for one in mine for score in one.scores))
    titles = ["program", *(f"{metric} ({side})" for metric in metrics for side in ("original", "optimized"))]
    numbers = sorted({score.n for one in mine for score in one.scores})
    several = len(numbers) > 1
    rows = []
    for one in mine:
        cells = [f"`{program(one.case)}`"]
        for metric in metrics:
            was, now = one.score(metric, original=True), one.score(metric)
            cells += [_score(None if was is None else was.value), _score(None if now is None else now.value)]
        rows.append([*cells, str(one.scores[0].n)] if several else cells)
    over = f"{numbers[0]} to {numbers[-1]}" if several else str(numbers[0])
    return [f"Scores over {over} examples.", "", *_table([*titles, "examples"] if several else titles, rows)]


def _times(mine: Sequence[Measurement], losses: Losses) -> list[str]:
    titles = [
        "program",
        "p50 (original, ms)",
        "p50 (optimized, ms)",
        "throughput (original, /s)",
        "throughput (optimized, /s)",
        "speed-up",
        "drop",
        "cosine",
    ]
    rows = []
    for one in mine:
        numbers, originals = summarize(one), one.durations_ns("original")
        mean_ms = sum(originals) / len(originals) / 1e6 if originals else None
        was = stats.median(originals) / 1e6 if originals and stats.printable(0.5, len(originals)) else None
        rate = None if mean_ms is None else (one.case.batch_size or 1) / mean_ms * 1e3
        rows.append(
            [
                f"`{program(one.case)}`",
                digits(was),
                digits(numbers.percentiles_ms.get("p50")),
                digits(rate),
                digits(numbers.sequences_per_s),
                "" if numbers.speedup is None else f"{numbers.speedup:.2f}x",
                *losses.beside(one),
            ]
        )
    # Losses that nobody knows leave no empty column.
    kept = [at for at, title in enumerate(titles) if title not in ("drop", "cosine") or any(row[at] for row in rows)]
    return _table([titles[at] for at in kept], [[row[at] for at in kept] for row in rows])


def _at(case: Case) -> str:
    if case.test is not None:
        return "one call"
    padding = "" if case.padding == "full" else f", padding = {case.padding}"
    return f"batch size = {case.batch_size}, input length = {case.seq_len}{padding}"


def model_card(records: Records) -> str:
    """Markdown of all records, grouped by data set and model."""
    lines: list[str] = []
    measurements = [measurement for measurement, _ in records]
    losses = Losses.of(measurements)
    for name in dict.fromkeys(topic(one.case) for one in measurements):
        mine = [one for one in measurements if topic(one.case) == name]
        lines += [f"## {name}", ""]
        scored = [one for one in mine if one.scores]
        if scored:
            lines += [*_scores(scored), ""]
        timed = [one for one in mine if one.visits]
        for at in dict.fromkeys(_at(one.case) for one in timed):
            lines += [f"Times for {at}.", "", *_times([one for one in timed if _at(one.case) == at], losses), ""]
    return "\n".join(lines)
