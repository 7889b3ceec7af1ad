"""Opinions: one rule applied to one case is a Finding, all of them are a Verdict. Plain values; applies no rule itself."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from pytest_perfq.core.budget import Limit

# From best to worst; a verdict is as bad as its worst finding.
STATUSES = ("pass", "improved", "unmeasured", "inconclusive", "invalid", "regressed", "fail")
FAILED = frozenset({"regressed", "fail"})
SEVERITY = {status: severity for severity, status in enumerate(STATUSES)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One rule applied.

    rule: one of core.budget.RULES, or 'flips', 'accuracy', 'slowdown' (against a baseline), 'measured', 'baseline', 'build',
    'usage'.
    observed, limit, interval: in the unit of the rule (scores as fractions, *_ms in milliseconds, speed-ups as ratios,
    slow-downs as fractions, bytes); None where there is no number. metric: the score it is about. entry: the budget entry
    that promised it. note: what a person must know besides, a sentence without a full stop. examples: ids it is about.
    details: lines under it, such as those of a table.
    """

    rule: str
    status: str
    observed: float | None = None
    limit: float | None = None
    interval: tuple[float, float] | None = None
    metric: str | None = None
    entry: str | None = None
    note: str = ""
    examples: tuple[str, ...] = ()
    details: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.status not in SEVERITY:
            raise ValueError(f"status {self.status!r}; known: {', '.join(STATUSES)}")

    def to_json(self) -> dict[str, Any]:
        """Plain values; those that say nothing are left out."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return {name: value for name, value in plain.items() if value not in (None, "", [])}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Finding:
        """The inverse of to_json."""
        given: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in values.items()}
        return cls(**given)


@dataclass(frozen=True, slots=True)
class Verdict:
    """All findings about one case, and the promises they were held against, so that anyone can judge again."""

    case_id: str
    findings: tuple[Finding, ...] = ()
    limits: tuple[Limit, ...] = field(default=())

    @property
    def status(self) -> str:
        """The worst status of the findings; 'pass' without any."""
        return max((finding.status for finding in self.findings), key=SEVERITY.__getitem__, default="pass")

    @property
    def failed(self) -> bool:
        """Whether a promise is broken or the case is worse than its baseline."""
        return self.status in FAILED

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: crosses processes and ends in stores."""
        return {
            "case_id": self.case_id,
            "status": self.status,
            "findings": [finding.to_json() for finding in self.findings],
            "limits": [limit.to_json() for limit in self.limits],
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Verdict:
        """The inverse of to_json."""
        findings = tuple(Finding.from_json(one) for one in values["findings"])
        return cls(values["case_id"], findings, tuple(Limit.from_json(one) for one in values["limits"]))
