"""The few numbers that stand for a measurement in tables, columns and exports. Decides nothing and prints nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pytest_perfq.core import stats
from pytest_perfq.core.measurement import Measurement

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


def paired_logs(measurement: Measurement) -> list[float]:
    """ln(original / case) of every pair of rounds timed one after the other, over all visits; empty without an original."""
    pairs: list[float] = []
    for visit in measurement.visits:
        if visit.original is not None:
            # A visit cut off in the middle of a block leaves one side a few rounds ahead: those have no partner.
            rounds = zip(visit.original.durations_ns, visit.case.durations_ns, strict=False)
            pairs += [math.log(max(original, 1) / max(case, 1)) for original, case in rounds]
    return pairs


def speedup(measurement: Measurement, confidence: float = 0.99) -> tuple[float, tuple[float, float] | None] | None:
    """Over the original, a ratio: the median over paired rounds and its order-statistic interval (None: too few rounds).
    None without pairs."""
    logs = paired_logs(measurement)
    if not logs:
        return None
    interval = stats.quantile_interval(logs, 0.5, confidence)
    ends = None if interval is None else (math.exp(interval[0]), math.exp(interval[1]))
    return math.exp(stats.median(logs)), ends


@dataclass(frozen=True, slots=True)
class Summary:
    """rounds: timed calls. percentiles_ms: name -> milliseconds, only those that `rounds` are enough for. mean_ms of a call.
    sequences_per_s: rows through the model a second. speedup: over the original. metric, score, original_score, drop: of
    the primary metric, fractions. None: not measured, or too little of it."""

    rounds: int
    percentiles_ms: dict[str, float]
    mean_ms: float | None
    sequences_per_s: float | None
    speedup: float | None
    metric: str | None
    score: float | None
    original_score: float | None
    drop: float | None
    bytes: int | None


def percentiles_ms(durations_ns: list[int]) -> dict[str, float]:
    """Name -> milliseconds, of the percentiles that so many rounds can show."""
    ordered = sorted(durations_ns)
    known = {name: q for name, q in PERCENTILES.items() if stats.printable(q, len(ordered))}
    return {
        name: (stats.median(ordered) if name == "p50" else float(stats.percentile(ordered, q))) / 1e6
        for name, q in known.items()
    }


def summarize(measurement: Measurement) -> Summary:
    """The numbers of one measurement."""
    durations = measurement.durations_ns()
    mean_ms = sum(durations) / len(durations) / 1e6 if durations else None
    fast = speedup(measurement)
    score, original = measurement.score(), measurement.score(original=True)
    return Summary(
        rounds=len(durations),
        percentiles_ms=percentiles_ms(durations),
        mean_ms=mean_ms,
        sequences_per_s=measurement.case.batch_size / mean_ms * 1e3 if mean_ms and measurement.case.batch_size else None,
        speedup=None if fast is None else fast[0],
        metric=None if score is None else score.metric,
        score=None if score is None else score.value,
        original_score=None if original is None else original.value,
        drop=None if score is None or original is None else original.value - score.value,
        bytes=measurement.model_bytes,
    )
