"""Whether a measurement's timing may be judged at all: a disturbed one is neither slow nor fast, it is invalid and says why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pytest_perfq.core.budget import LATENCY_RULES
from pytest_perfq.core.finding import Finding
from pytest_perfq.core.measurement import Measurement

NEXT = "measure again when the machine has nothing else to do"


def disturbed(measurement: Measurement) -> str | None:
    """Which visit something outside of the case spoilt, and what, without a full stop; None where none was."""
    spoilt = [(number, visit) for number, visit in enumerate(measurement.visits, 1) if visit.disturbances]
    if not spoilt:
        return None
    number, visit = spoilt[0]
    repeats = 0 if visit.conditions is None else len(visit.conditions.discarded)
    again = "" if not repeats else ", and again when it was repeated" + ("" if repeats == 1 else f" {repeats} times")
    more = f"; {len(spoilt)} of {len(measurement.visits)} visits were disturbed" if len(spoilt) > 1 else ""
    return f"visit {number} of {len(measurement.visits)} was disturbed{again}: {'; '.join(visit.disturbances)}{more}"


def hold_back(findings: Sequence[Finding], measurement: Measurement) -> list[Finding]:
    """The findings, those about a disturbed timing invalid whatever they were."""
    reason = disturbed(measurement)
    if reason is None:
        return [*findings]
    note = f"{reason}; {NEXT}"
    return [replace(one, status="invalid", note=note, interval=None) if one.rule in LATENCY_RULES else one for one in findings]
