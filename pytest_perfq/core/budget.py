"""Promises: what a case must keep, where each promise holds, and which entry of a list wins.

Knows no measurement: judging is verdict.py's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from pytest_perfq.core.case import Case
from pytest_perfq.errors import UnknownName, UsageError

AXES = tuple("task dataset model backend device precision quantization padding batch_size seq_len tp pp kind".split())
# What --perf-gpu asserts and `where={"gpu": ...}` matches; "cpu" stands for a run without one.
GPUS = tuple("cpu t4 v100 p100 a2 a10 a10g a16 a30 a40 a100 l4 l40 l40s h100 h200 b200 rtx3090 rtx4090 rtx5090".split())
# Of these, the GPUs that MIG cuts into slices. A slice is a GPU of its own by the name `a100-1g.10gb`, and what is promised of
# the whole does not hold for it: `where={"gpu": "a100-*"}` is every slice of an A100, `"a100*"` they and the whole.
MIG_GPUS = frozenset("a30 a100 h100 h200 b200".split())
# As NVML writes profiles: units of the GPU and memory, before them the units of a part (1c.), behind them extras (+me).
MIG_PROFILE = re.compile(r"(\d+c\.)?\d+g\.\d+gb(\+[a-z.]+)*")
RULES = (
    "min_score",
    "max_drop",
    "min_share",
    "p50_ms",
    "p90_ms",
    "p95_ms",
    "p99_ms",
    "min_speedup",
    "max_slowdown",
    "max_bytes",
)
ACCURACY_RULES = frozenset({"min_score", "max_drop", "min_share"})
LATENCY_RULES = frozenset({"p50_ms", "p90_ms", "p95_ms", "p99_ms", "min_speedup", "max_slowdown"})
RELATIVE_RULES = frozenset(
    {"max_drop", "min_share", "min_speedup"}
)  # to the original, which is neither worse nor faster than itself
# Shares of the original's score that are known by a name: MLPerf inference's targets for quantized models.
SHARES = {"mlperf-99": 0.99, "mlperf-99.9": 0.999}
Where = Mapping[str, Any]


def known_gpu(name: str) -> bool:
    """Whether this is the name of a GPU, or of a slice of one."""
    whole, _, profile = name.partition("-")
    return name in GPUS or (whole in MIG_GPUS and MIG_PROFILE.fullmatch(profile) is not None)


def _one(pattern: object, value: object) -> bool:
    if pattern is None or value is None:
        return pattern is value
    if isinstance(pattern, str) and ("*" in pattern or "?" in pattern):
        # Not fnmatch: brackets are part of names here (`int8-dynamic[MatMul]`).
        glob = "".join(".*" if char == "*" else "." if char == "?" else re.escape(char) for char in pattern)
        return re.fullmatch(glob, str(value)) is not None
    return str(pattern) == str(value)


def matches(where: Where, axes: Mapping[str, Any]) -> bool:
    """Whether every pattern of `where` fits. A pattern is a value, a glob with * and ?, or a list of such (any)."""
    return all(
        any(_one(one, axes.get(key)) for one in (wanted if isinstance(wanted, (list, tuple, set)) else (wanted,)))
        or (key in ("backend", "task") and _bare(wanted, axes.get(key)))
        for key, wanted in where.items()
    )


def _bare(wanted: object, value: object) -> bool:
    """`ort` also means every `ort[...]`."""
    name = str(value).partition("[")[0]
    return any(one == name for one in (wanted if isinstance(wanted, (list, tuple, set)) else (wanted,)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What is promised for the cases that `where` describes (all, when it is empty).

    min_score: at least, of `metric` (None: the task's primary one). max_drop: at most below the fp32 original, absolute.
    min_share: at least this share of the original's score, a fraction, or a target by name: mlperf-99, mlperf-99.9.
    p50_ms, p90_ms, p95_ms, p99_ms: milliseconds a call, decided by the binomial rule. min_speedup: over the original, a
    ratio. max_slowdown: against the baseline, a fraction (0.05 is 5 %). max_bytes: of the model.
    """

    where: Where = field(default_factory=dict)
    metric: str | None = None
    min_score: float | None = None
    max_drop: float | None = None
    min_share: float | str | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    min_speedup: float | None = None
    max_slowdown: float | None = None
    max_bytes: int | None = None

    def __new__(cls, *values: object, **given: object) -> Self:
        # Before __init__, whose TypeErrors know no near names.
        if values:
            raise UsageError(
                f"a budget was given {values[0]!r} without a keyword; write Budget(max_drop={values[0]!r}) or such"
            )
        UnknownName.check("keyword of a budget", given, ("where", "metric", *RULES))
        return object.__new__(cls)

    def __post_init__(self) -> None:
        for key, wanted in self.where.items():
            if key not in (*AXES, "gpu"):
                raise UnknownName("axis in a budget's where", key, (*AXES, "gpu"))
            if key == "gpu":
                for one in wanted if isinstance(wanted, (list, tuple, set)) else (wanted,):
                    if "*" not in str(one) and not known_gpu(str(one)):
                        raise UnknownName("gpu", str(one), GPUS)
        if isinstance(self.min_share, str):
            UnknownName.check("share of the original's score", [self.min_share], SHARES)
        given = self.limits()
        if not given:
            raise UsageError(f"a budget{self.label} promises nothing; give one of {', '.join(RULES)}")
        for rule, value in given.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
                raise UsageError(f"{rule} of a budget{self.label} is {value!r}; give a number")
            if value < 0 and rule != "min_score":
                raise UsageError(f"{rule} of a budget{self.label} is {value}; it cannot be negative")

        if given.get("min_share", 0.0) > 1:
            value = given["min_share"]
            raise UsageError(
                f"min_share of a budget{self.label} is {value:g}; it is a share of the original's score: {value / 100:g}?"
            )
        if (value := given.get("max_slowdown", 0.0)) > 1:
            meant = f"it is a fraction: write {value / 100:g} for {value:g} %"
            raise UsageError(f"max_slowdown of a budget{self.label} is {value:g}, which is {value:.0%}; {meant}")
        for rule in ("min_score", "max_drop"):
            value = given.get(rule, 0.0)
            if value > 1 and self.metric is None:
                meant = f"write {value / 100:g} for {value:g} %, or name the metric if it is one that goes beyond 1"
                raise UsageError(f"{rule} of a budget{self.label} is {value}, and scores are fractions: {meant}")

    @property
    def label(self) -> str:
        """How messages name this entry."""
        return f" where {', '.join(f'{key}={value}' for key, value in self.where.items())}" if self.where else " for every case"

    def limits(self) -> dict[str, float]:
        """Rule -> limit, of the promises made."""
        made = {rule: getattr(self, rule) for rule in RULES if getattr(self, rule) is not None}
        return {
            rule: SHARES[value] if rule == "min_share" and isinstance(value, str) else value for rule, value in made.items()
        }

    def entry(self, rule: str) -> str:
        """What findings call the promise of this rule, after the entry's number."""
        return f", {self.min_share}{self.label}" if rule == "min_share" and isinstance(self.min_share, str) else self.label

    def to_json(self) -> dict[str, Any]:
        return {"where": dict(self.where), "metric": self.metric, **self.limits()}


@dataclass(frozen=True, slots=True)
class Limit:
    """One promise as it stands for one case: the rule, its value, the metric it is about, the entry that made it."""

    rule: str
    value: float
    metric: str | None
    entry: str

    def to_json(self) -> dict[str, Any]:
        return {"rule": self.rule, "value": self.value, "metric": self.metric, "entry": self.entry}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Limit:
        return cls(**values)


def about(rule: str, case: Case) -> bool:
    """Whether a promise can be about a case: scores of accuracy cases, times of latency cases, bytes of both; what is held
    against the original, of every case but the original."""
    if rule in RELATIVE_RULES and case.is_original:
        return False
    return (rule not in ACCURACY_RULES or case.kind == "accuracy") and (rule not in LATENCY_RULES or case.kind == "latency")


def marker_limits(keywords: Mapping[str, Any]) -> tuple[Limit, ...]:
    """The promises of a test's own perfq marker. Raises UnknownName and UsageError."""
    if not keywords:
        return ()
    UnknownName.check("keyword of the perfq marker", keywords, (*RULES, "metric"))
    budget = Budget(**keywords)
    return tuple(Limit(rule, value, budget.metric, "the test's perfq marker") for rule, value in budget.limits().items())


def with_marker(limits: Sequence[Limit], keywords: Mapping[str, Any]) -> tuple[Limit, ...]:
    """A case's promises under those of its test's own marker, which override rule by rule. Raises as marker_limits."""
    own = marker_limits(keywords)
    rules = {limit.rule for limit in own}
    return (*(limit for limit in limits if limit.rule not in rules), *own)


def limits_for(budgets: Sequence[Budget], case: Case, gpu: str) -> tuple[Limit, ...]:
    """The promises for one case. Entries cascade: the more specific (more keys in `where`), and among equals the later,
    overrides field by field. gpu: the asserted or found GPU, "cpu" without one."""
    axes = {**case.axes(), "gpu": gpu}
    found: dict[tuple[str, str | None], Limit] = {}
    order = sorted(range(len(budgets)), key=lambda index: (len(budgets[index].where), index))
    for index in order:
        budget = budgets[index]
        if not matches(budget.where, axes):
            continue
        for rule, value in budget.limits().items():
            metric = budget.metric if rule in ACCURACY_RULES else None
            found[rule, metric] = Limit(rule, value, metric, f"budget {index + 1}{budget.entry(rule)}")
    return tuple(found.values())
