"""Facts of a side-by-side comparison: one visit of two sides, a the base and b the candidate. No opinion, and no promise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, cast

from pytest_perfq.core import stats
from pytest_perfq.core.conditions import Conditions
from pytest_perfq.core.measurement import Samples

Stage = Literal["screen", "confirm"]
Side = Literal["a", "b"]


@dataclass(frozen=True, slots=True)
class TrialVisit:
    """One visit of a case on both sides, timed alternately in fresh processes.

    number: of the visit within its stage, from 0. stage: what the visit is for; confirmation looks at fresh visits only.
    first: the side that was timed first. a, b: samples of the base and of the candidate, round by round. conditions: the
    machine's meanwhile, None where nobody watched.
    """

    number: int
    stage: Stage
    first: Side
    a: Samples
    b: Samples
    conditions: Conditions | None = None

    @property
    def log_ratio(self) -> float:
        """Median over rounds of ln(b / a): positive is slower. Rounds are paired by index, as many as the shorter side has;
        raises ValueError where a side has none."""
        if not self.a.durations_ns or not self.b.durations_ns:
            raise ValueError(
                f"{self.stage} visit {self.number} has {len(self.a.durations_ns)} rounds of the base and "
                f"{len(self.b.durations_ns)} of the candidate; a ratio needs one of each: time both sides again"
            )
        # A clock too coarse to see a call counts as one nanosecond.
        rounds = zip(self.a.durations_ns, self.b.durations_ns, strict=False)
        return stats.median([math.log(max(b, 1) / max(a, 1)) for a, b in rounds])

    def to_json(self) -> dict[str, Any]:
        conditions = None if self.conditions is None else self.conditions.to_json()
        return {
            "number": self.number, "stage": self.stage, "first": self.first, "a": self.a.to_json(), "b": self.b.to_json(),
            "conditions": conditions,
        }  # fmt: skip

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrialVisit:
        """The inverse of to_json."""
        stage, first = cast(Stage, values["stage"]), cast(Side, values["first"])
        conditions = None if values.get("conditions") is None else Conditions.from_json(values["conditions"])
        sides = Samples.from_json(values["a"]), Samples.from_json(values["b"])
        return cls(values["number"], stage, first, *sides, conditions)
