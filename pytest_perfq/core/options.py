"""The options that a backend or a task takes, as data: read before the backend or the task itself is imported.

Knows no name of either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_perfq.core.spec import Spec, Value
from pytest_perfq.errors import UnknownName, UsageError


@dataclass(frozen=True, slots=True)
class Option:
    """default: what holds where a case is silent; its type is the type of the option. among: all other values it may have,
    where they are few. least: the smallest number it may be."""

    default: Value
    among: tuple[Value, ...] = ()
    least: float | None = None


def read(kind: str, spec: Spec, declared: Mapping[str, Option]) -> dict[str, Value]:
    """The options of `spec` over their defaults. kind: 'backend' or 'task', for messages. Raises UnknownName and UsageError
    for options and values that are not among the declared ones."""
    values = spec.only(kind, **{name: option.default for name, option in declared.items()})
    for name, option in declared.items():
        value = values[name]
        if option.among and value not in (option.default, *option.among):
            if isinstance(value, str):
                raise UnknownName(f"{name} of {kind} {spec.name}", value, [str(one) for one in option.among])
            raise UsageError(f"option {name} of {kind} {spec.name} is {value}; it takes {_listed(option.among)}")
        if option.least is not None and isinstance(value, (int, float)) and value < option.least:
            raise UsageError(f"option {name} of {kind} {spec.name} is {value}; give at least {option.least:g}")
    return values


def _listed(values: tuple[Value, ...]) -> str:
    return ", ".join(str(value) for value in values)
