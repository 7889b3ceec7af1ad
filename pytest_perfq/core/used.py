"""Whether every budget of a sweep is about some of its cases: their axes, and the metrics that they are scored by.

Asked while cases are collected, so that a promise that nothing can keep or break is told before anything is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pytest_perfq.core.budget import ACCURACY_RULES, RELATIVE_RULES, Budget, about, matches
from pytest_perfq.core.case import Case
from pytest_perfq.errors import UnknownName, UsageError

# What a case that names no metric is scored by; None where its task does not say so before it is imported.
Scored = Callable[[Case], tuple[str, ...] | None]


def check_used(budgets: Sequence[Budget], cases: Iterable[Case], floating: Iterable[str] = ("gpu",)) -> None:
    """Raises UsageError for a budget that matches no case, or whose promise is about none of those that it matches.
    floating: keys that depend on the machine of the run, such as the gpu, and so are not held against the entry."""
    wheres = _wheres(budgets, floating)
    # Entry -> its promises that no case was found for yet.
    idle = {index: set(budget.limits()) for index, budget in enumerate(budgets) if wheres[index]}
    matched: set[int] = set()
    seen: set[tuple[Any, ...]] = set()
    keys = sorted({key for index in idle for key in wheres[index]})
    for case in cases if idle else ():
        axes = case.axes()
        # Cases that agree on the keys that budgets ask about match the same budgets: look at each combination once.
        point = (*(axes[key] for key in keys), case.kind, case.is_original)
        if point in seen:
            continue
        seen.add(point)
        for index in [index for index in idle if matches(wheres[index], axes)]:
            matched.add(index)
            idle[index] = {rule for rule in idle[index] if not about(rule, case)}
            if not idle[index]:
                del idle[index]
        if not idle:
            return
    kinds = {point[-2] for point in seen}
    for index, idle_rules in idle.items():
        name = f"budget {index + 1}{budgets[index].label}"
        if index in matched:
            # A sweep without accuracy or without latency cases may share its budgets with one that has them.
            rules = sorted(rule for rule in idle_rules if _kind(rule) in kinds)
            if not rules:
                continue
            subject = f"{_kind(rules[0])} cases" + (" other than the original" if rules[0] in RELATIVE_RULES else "")
            raise UsageError(f"{name} promises {rules[0]}, which is about {subject}, and matches none; mend its where")
        known = "; ".join(f"{key}: {_listed({point[keys.index(key)] for point in seen})}" for key in wheres[index])
        raise UsageError(f"{name} matches no case of its sweep; values of {known}")


def _kind(rule: str) -> str:
    """The kind of case that a promise is about, of those that are about one kind."""
    return "accuracy" if rule in ACCURACY_RULES else "latency"


def check_metrics(budgets: Sequence[Budget], cases: Sequence[Case], scored: Scored, floating: Iterable[str] = ("gpu",)) -> None:
    """Raises UnknownName for a budget about a metric that none of the cases it matches is scored by. floating: see
    check_used."""
    for number, (budget, where) in enumerate(zip(budgets, _wheres(budgets, floating), strict=True), 1):
        if budget.metric is None:
            continue
        known: set[str] = set()
        for case in cases:
            if case.kind == "accuracy" and matches(where, case.axes()):
                metrics = case.metrics or scored(case)
                if metrics is None or budget.metric in metrics:
                    break
                known.update(metrics)
        else:
            if known:
                hint = f"or score by it: metrics=[{', '.join(map(repr, (*sorted(known), budget.metric)))}]"
                raise UnknownName(f"metric of budget {number}{budget.label}", budget.metric, known, hint)


def _wheres(budgets: Sequence[Budget], floating: Iterable[str]) -> list[dict[str, Any]]:
    return [{key: value for key, value in budget.where.items() if key not in set(floating)} for budget in budgets]


def _listed(values: set[Any]) -> str:
    """Numbers by size and without the None of cases that have no batch and no length; else as words."""
    numbers = sorted(value for value in values if isinstance(value, int))
    return ", ".join([str(value) for value in numbers] or sorted(str(value) for value in values))
