"""Facts: what was measured, of which case, on which machine. No opinion lives here and no promise."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

from pytest_perfq.core import stats
from pytest_perfq.core.case import Case
from pytest_perfq.core.conditions import Conditions, disturbances
from pytest_perfq.core.fingerprint import Fingerprint


@dataclass(frozen=True, slots=True)
class Samples:
    """Raw durations of one side in one visit, integer nanoseconds, warm-ups apart. started_s: unix time, seconds."""

    durations_ns: tuple[int, ...]
    warmup_ns: tuple[int, ...] = ()
    started_s: float = 0.0

    @property
    def median_ns(self) -> float:
        """The middle duration; raises IndexError where there is none."""
        return stats.median(self.durations_ns)

    @property
    def median_error(self) -> float | None:
        """Standard error of ln(median), from the width of its order-statistic interval; None of fewer than three rounds."""
        n, confidence = len(self.durations_ns), 0.95
        if n < 3:
            return None
        interval = stats.quantile_interval(self.durations_ns, 0.5, confidence)
        if interval is None:
            # Even the extremes do not hold the median with 95 %: take them for what they do.
            interval, confidence = (min(self.durations_ns), max(self.durations_ns)), 1.0 - 0.5 ** (n - 1)
        width = math.log(max(interval[1], 1.0) / max(interval[0], 1.0))
        return width / (2.0 * NormalDist().inv_cdf((1.0 + confidence) / 2.0))

    def to_json(self) -> dict[str, Any]:
        return {"durations_ns": list(self.durations_ns), "warmup_ns": list(self.warmup_ns), "started_s": self.started_s}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Samples:
        return cls(tuple(values["durations_ns"]), tuple(values["warmup_ns"]), values["started_s"])


@dataclass(frozen=True, slots=True)
class Visit:
    """One visit of a latency case: its sides, timed alternately.

    case: the program under test. original: the fp32 eager program of the same case (None where the case is the original).
    anchor: a frozen reference workload that never changes between revisions; it tells the machine's drift from the case's.
    base: the case as another revision, environment or configuration has it, timed side by side with this one.
    conditions: of the machine meanwhile; None where nobody watched it.
    """

    case: Samples
    original: Samples | None = None
    anchor: Samples | None = None
    base: Samples | None = None
    conditions: Conditions | None = None

    @property
    def disturbances(self) -> tuple[str, ...]:
        """What made the visit worthless (see core.conditions); none of one that was not watched."""
        return disturbances(self.conditions, ratio=self.base is not None)

    def to_json(self) -> dict[str, Any]:
        found = {side: None if getattr(self, side) is None else getattr(self, side).to_json() for side in SIDES}
        return found if self.conditions is None else found | {"conditions": self.conditions.to_json()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Visit:
        sides = {side: Samples.from_json(values[side]) if values.get(side) else None for side in SIDES}
        assert sides["case"] is not None
        conditions = values.get("conditions")
        conditions = None if conditions is None else Conditions.from_json(conditions)
        return cls(sides["case"], sides["original"], sides["anchor"], sides["base"], conditions)


# New ones join at the end: stored visits of earlier versions have fewer.
SIDES = ("case", "original", "anchor", "base")


@dataclass(frozen=True, slots=True)
class Score:
    """One metric over n examples; fractions are 0 to 1 (Matthews -1 to 1), never per cent.

    formula says how the value follows from the column sums of the outcomes (see core.scores); None when only `evaluate`
    knows. primary: the one that budgets without a metric mean.
    """

    metric: str
    value: float
    n: int
    formula: str | None = None
    primary: bool = False

    def to_json(self) -> dict[str, Any]:
        return {"metric": self.metric, "value": self.value, "n": self.n, "formula": self.formula, "primary": self.primary}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Score:
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """One prediction and one margin per example.

    ids: example ids, unique. predictions: what was predicted, as text. margins: logit distance between the prediction and
    its best rival, rounded through float16. columns: per-example sufficient statistics, each of length n; column `right`
    (1.0 or 0.0) is always there.
    """

    ids: tuple[str, ...]
    predictions: tuple[str, ...]
    margins: tuple[float, ...]
    columns: dict[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def right(self) -> tuple[float, ...]:
        return self.columns["right"]

    def to_json(self) -> dict[str, Any]:
        columns = {name: list(values) for name, values in self.columns.items()}
        return {"ids": list(self.ids), "predictions": list(self.predictions), "margins": list(self.margins), "columns": columns}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Outcomes:
        columns = {name: tuple(column) for name, column in values["columns"].items()}
        return cls(tuple(values["ids"]), tuple(values["predictions"]), tuple(values["margins"]), columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Everything found out about one case in one run.

    visits: of a latency case, in time order. scores, outcomes: of an accuracy case; original_scores, original_outcomes: of
    the fp32 eager model on the same examples (empty, None where the case is the original). model_bytes: size of the
    program's weights or file. peak_memory_bytes: peak resident (cpu) or allocated (cuda) memory of the process while the case
    ran by itself, all else that it holds included. load_ns: building the program from a loaded model, caches included, and the
    runs by which a backend checks it. first_call_ns: the first run after those, of whatever batch came first.
    facts: what the program says of itself (provider, share of nodes on it, export difference, cache hit ...).
    churn: of a repeated prediction of the same examples: {"n", "flips", "margin_noise"}; None where none was made.
    unmeasured: why there is no timing or no score, in one sentence; None when there is.
    """

    case: Case
    fingerprint: Fingerprint
    visits: tuple[Visit, ...] = ()
    scores: tuple[Score, ...] = ()
    outcomes: Outcomes | None = None
    original_scores: tuple[Score, ...] = ()
    original_outcomes: Outcomes | None = None
    model_bytes: int | None = None
    original_bytes: int | None = None
    peak_memory_bytes: int | None = None
    load_ns: int | None = None
    first_call_ns: int | None = None
    facts: dict[str, str | int | float | bool] = field(default_factory=dict)
    churn: dict[str, float] | None = None
    unmeasured: str | None = None

    def score(self, metric: str | None = None, *, original: bool = False) -> Score | None:
        """The score of `metric` (None: the primary one), of the case or of its original; None where there is none."""
        for score in self.original_scores if original else self.scores:
            if score.metric == metric or (metric is None and score.primary):
                return score
        return None

    def durations_ns(self, side: str = "case") -> list[int]:
        """All timed durations of one side ('case', 'original', 'anchor', 'base') over all visits."""
        sides = (getattr(visit, side) for visit in self.visits)
        return [duration for samples in sides if samples is not None for duration in samples.durations_ns]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: crosses processes and ends in stores."""
        plain = (
            "model_bytes",
            "original_bytes",
            "peak_memory_bytes",
            "load_ns",
            "first_call_ns",
            "facts",
            "churn",
            "unmeasured",
        )
        return {
            "case": self.case.to_json(),
            "fingerprint": self.fingerprint.to_json(),
            "visits": [visit.to_json() for visit in self.visits],
            "scores": [score.to_json() for score in self.scores],
            "outcomes": None if self.outcomes is None else self.outcomes.to_json(),
            "original_scores": [score.to_json() for score in self.original_scores],
            "original_outcomes": None if self.original_outcomes is None else self.original_outcomes.to_json(),
            **{name: getattr(self, name) for name in plain},
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Measurement:
        """The inverse of to_json."""
        given = dict(values)
        given["case"] = Case.from_json(given["case"])
        given["fingerprint"] = Fingerprint.from_json(given["fingerprint"])
        given["visits"] = tuple(Visit.from_json(visit) for visit in given["visits"])
        for name in ("scores", "original_scores"):
            given[name] = tuple(Score.from_json(score) for score in given[name])
        for name in ("outcomes", "original_outcomes"):
            given[name] = None if given[name] is None else Outcomes.from_json(given[name])
        return cls(**given)
