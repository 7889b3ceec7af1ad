"""Metrics that are not built in: another package's (entry point `perfq.metrics`) and those of the library `evaluate`.

Knows predictions and references as lists, and no task.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytest_perfq import registry
from pytest_perfq.errors import UsageError
from pytest_perfq.tasks import _hub


def value(metric: str, task: str, predictions: list[Any], references: list[Any]) -> float:
    """One number for the metric. An entry point is a function of (predictions, references); anything else is loaded by
    `evaluate`: a script here, or a name at the hub. `NAME:KEY` names one of several numbers it answers with. task: whose
    predictions these are, for messages. Raises Unavailable (hub), UsageError."""
    if metric in registry.names("metric"):
        return float(registry.load("metric", metric)(predictions, references))
    name, _, key = metric.partition(":")
    loaded = _load(name)
    try:
        answer = loaded.compute(predictions=predictions, references=references)
    except (ValueError, TypeError, KeyError) as error:  # how metrics say that they are about something else
        raise UsageError(
            f"metric {name!r} cannot be computed from what task {task} predicts: {_first_line(error)}; name another metric"
        ) from error
    return pick(metric, key or Path(name).stem, answer)


def _load(name: str) -> Any:
    import evaluate  # before the hub is tried: see _hub

    def load(commit: str | None = None) -> Any:
        try:
            return evaluate.load(name)
        except ImportError as error:  # the metric's own code needs a package
            raise UsageError(f"metric {name!r} cannot be loaded: {_first_line(error)}") from error

    script = Path(name)
    if script.suffix == ".py" and not script.is_file():
        raise UsageError(f"metric script {name!r} does not exist; give a script, or a name that the hub knows")
    if script.suffix == ".py" or (script / f"{script.name}.py").is_file():
        return load()
    repository = name if "/" in name else f"evaluate-metric/{name}"
    return _hub.fetched(f"metric {name!r}", "space", repository, load)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def pick(metric: str, key: str, answer: dict[str, Any] | None) -> float:
    """The number under `key`, or the only number there is. Raises UsageError."""
    numbers = {name: one for name, one in (answer or {}).items() if isinstance(one, (int, float))}
    if key in numbers:
        return float(numbers[key])
    if len(numbers) == 1 and ":" not in metric:
        return float(next(iter(numbers.values())))
    keys = ", ".join(sorted(numbers)) or "no number"
    raise UsageError(f"metric {metric!r} answers with {keys}; name one of them as {metric.partition(':')[0]}:KEY")
