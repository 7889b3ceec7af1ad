"""Metrics that are not built in: another package's (entry point `perfq.metrics`) and those of the library `evaluate`.

Knows predictions and references as lists, and no task.
"""

from __future__ import annotations

from typing import Any

from pytest_perfq import registry
from pytest_perfq.errors import UsageError
from pytest_perfq.tasks import _hub


def value(metric: str, predictions: list[Any], references: list[Any]) -> float:
    """One number for the metric. An entry point is a function of (predictions, references); anything else is loaded by
    `evaluate`, `NAME:KEY` naming one of several numbers it answers with. Raises Unavailable (hub), UsageError."""
    if metric in registry.names("metric"):
        return float(registry.load("metric", metric)(predictions, references))
    name, _, key = metric.partition(":")
    with _hub.reach(f"metric {name!r}"):
        import evaluate

        try:
            loaded = evaluate.load(name)
        except ImportError as error:  # the metric's own code needs a package
            raise UsageError(f"metric {name!r} cannot be loaded: {str(error).splitlines()[0]}") from error
    return pick(metric, key or name, loaded.compute(predictions=predictions, references=references))


def pick(metric: str, key: str, answer: dict[str, Any] | None) -> float:
    """The number under `key`, or the only number there is. Raises UsageError."""
    numbers = {name: one for name, one in (answer or {}).items() if isinstance(one, (int, float))}
    if key in numbers:
        return float(numbers[key])
    if len(numbers) == 1 and ":" not in metric:
        return float(next(iter(numbers.values())))
    keys = ", ".join(sorted(numbers)) or "no number"
    raise UsageError(f"metric {metric!r} answers with {keys}; name one of them as {metric.partition(':')[0]}:KEY")
