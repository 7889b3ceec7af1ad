"""What is read from the store: runs, records, points of a history. Plain values; knows no database."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run. started_s, finished_s: unix time in seconds; finished_s is None where it was cut off or still runs.
    machine: key of the identity tier, None before the first record. statuses: status -> records (latest attempts)."""

    id: str
    started_s: float
    finished_s: float | None
    argv: tuple[str, ...]
    settings: dict[str, Any]
    revision: str | None
    dirty: bool | None
    machine: str | None
    pid: int
    host: str
    version: str
    statuses: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One judged item. measurement, verdict: the plain JSON that Measurement.from_json and Verdict.from_json read."""

    run_id: str
    nodeid: str
    attempt: int
    case_id: str
    status: str
    recorded_s: float
    measurement: dict[str, Any]
    verdict: dict[str, Any]

    @property
    def judged(self) -> bool:
        """Whether its promises were held: not so of what was measured ahead of an item that the run did not live to see."""
        return not any(one["rule"] == "measured" and one["status"] == "inconclusive" for one in self.verdict["findings"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How far A/A visits of a case differed on a machine. machine: key of the identity tier. deviation: SD of a visit, ln."""

    recorded_s: float
    machine: str
    case_id: str
    visits: int
    deviation: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One case in one run, as the columns of the records have it; None where it was not measured. looked_back: whether the run
    went back to a past revision to find a change, so that its place in time says nothing of the code's."""

    run_id: str
    recorded_s: float
    revision: str | None
    dirty: bool | None
    machine: str | None
    case_id: str
    status: str
    p50_ms: float | None
    p95_ms: float | None
    metric: str | None
    score: float | None
    drop: float | None
    speedup: float | None
    bytes: int | None
    looked_back: bool = False
