"""The few plain values that ride on a JUnit test case. The same names wherever a test case is written."""

from __future__ import annotations

from pytest_perfq.core.finding import Verdict
from pytest_perfq.core.measurement import Measurement
from pytest_perfq.core.summary import summarize


def properties(measurement: Measurement, verdict: Verdict) -> list[tuple[str, str | float]]:
    """What a JUnit test case says of a record beside its outcome: name -> text, fraction, ratio, milliseconds or bytes. What
    was not measured is left out. drop: of the primary metric, from the original."""
    numbers = summarize(measurement)
    found: list[tuple[str, str | float | None]] = [("case", measurement.case.id), ("status", verdict.status)]
    found += [(score.metric, score.value) for score in measurement.scores]
    found.append(("drop", numbers.drop))
    found += [(f"{name}_ms", value) for name, value in numbers.percentiles_ms.items()]
    found += [("speedup", numbers.speedup), ("bytes", numbers.bytes)]
    return [(f"perfq_{name}", value) for name, value in found if value is not None]
