"""What pytest shall do with one item and what is remembered of it. Knows no pytest, and judges nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_perfq.core.measurement import Measurement
    from pytest_perfq.core.verdict import Verdict
    from pytest_perfq.report.examples import Listed


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the plugin shall do. record: plain JSON for the store, None when there is nothing to remember."""

    message: str = ""
    skipped: bool = False
    failed: bool = False
    record: dict[str, Any] | None = None
    properties: list[tuple[str, str | float]] = field(default_factory=list)
    measurement: Measurement | None = None
    verdict: Verdict | None = None
    raised: Exception | None = None


def judged(measurement: Measurement, verdict: Verdict, strict: bool, resumed: bool, listed: Listed | None = None) -> Outcome:
    """Of a case that has a verdict by its measurement. strict: one that cannot be used fails, instead of being skipped. listed:
    examples of items shown before."""
    from pytest_perfq.report.explain import reasons

    unusable = verdict.status in ("unmeasured", "invalid")
    failed = verdict.failed or (unusable and strict)
    return _kept(measurement, verdict, "\n".join(reasons(verdict, listed)), unusable and not strict, failed, resumed)


def read(record: dict[str, Any], listed: Listed) -> None:
    """A person reads the message of the failed item that this is the record of: later ones may refer to its examples."""
    from pytest_perfq.core.finding import Verdict
    from pytest_perfq.report.explain import tell

    verdict = Verdict.from_json(record["verdict"])
    if verdict.failed:
        tell(listed, verdict)


def unmeasured(measurement: Measurement, verdict: Verdict, message: str, failed: bool = True) -> Outcome:
    """Of a case that could not be measured, whose measurement says why and nothing else."""
    return _kept(measurement, verdict, message, skipped=False, failed=failed, resumed=False)


def _kept(measurement: Measurement, verdict: Verdict, message: str, skipped: bool, failed: bool, resumed: bool) -> Outcome:
    from pytest_perfq.report.properties import properties

    record = {"measurement": measurement.to_json(), "verdict": verdict.to_json(), "resumed": resumed}
    told = properties(measurement, verdict)
    return Outcome(message, skipped, failed, record, told, measurement, verdict)
