"""Names are files: `backends/ort.py` is the backend `ort`. A package outside adds one by an entry point.

Listing names imports nothing; loading a name imports its one module and returns the object that stands there under the
kind's constant (`BACKEND`, `TASK`). What a name declares of itself is read without loading it. Knows no backend and no task
by name.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

from pytest_perfq.errors import UnknownName, UsageError

# kind -> (sub-package, constant in the module, entry point group)
KINDS = {
    "backend": ("backends", "BACKEND", "perfq.backends"),
    "task": ("tasks", "TASK", "perfq.tasks"),
    "metric": ("metrics", "METRIC", "perfq.metrics"),
}


def _files(folder: str) -> list[str]:
    here = os.path.join(os.path.dirname(__file__), folder)
    if not os.path.isdir(here):
        return []
    stems = (name.removesuffix(".py") for name in os.listdir(here) if name.endswith(".py") and not name.startswith("_"))
    return [stem.replace("_", "-") for stem in stems]


@cache
def _entry_points(group: str) -> dict[str, Any]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=group)}


@cache
def names(kind: str) -> frozenset[str]:
    """All known names of `kind` ('backend', 'task', 'metric'), without importing any of them."""
    folder, _, group = KINDS[kind]
    return frozenset(_files(folder)) | frozenset(_entry_points(group))


def check(kind: str, name: str) -> str:
    """`name` itself. Raises UnknownName with the nearest known one, and UsageError for an entry point of a package that is
    not there."""
    if name in _files(KINDS[kind][0]):
        return name
    if name not in names(kind):
        raise UnknownName(kind, name, names(kind), meant=_alias(kind, name))
    point = _entry_points(KINDS[kind][2])[name]
    package = point.module.partition(".")[0]
    if find_spec(package) is None:  # of the outermost package only: this runs none of its code
        raise UsageError(_unloadable(kind, point, f"no module is named {package!r}"))
    return name


def _alias(kind: str, name: str) -> str | None:
    """The known name that people mean by this one: `ALIASES` of the kind's `_declared.py`, where it has any."""
    folder = KINDS[kind][0]
    if not os.path.isfile(os.path.join(os.path.dirname(__file__), folder, "_declared.py")):
        return None
    aliases = getattr(importlib.import_module(f"pytest_perfq.{folder}._declared"), "ALIASES", {})
    found: str | None = aliases.get(str(name).lower())
    return found


def _unloadable(kind: str, point: Any, reason: str) -> str:
    group, owner = KINDS[kind][2], "a package" if point.dist is None else f"package {point.dist.name}"
    entry = f"entry point {point.name!r} in {group}, {point.value!r} of {owner}"
    return f"{kind} {point.name!r} cannot be loaded: {entry}: {reason}; install that package again, or remove it"


@cache
def declared(kind: str, name: str, what: str = "check") -> Callable[[Any], Any] | None:
    """What is known of `name` before it is imported: a function over cases, or None where nothing is declared. `check` raises
    UsageError for a case that cannot be. It stands in the kind's `_declared.py`; a package outside names its `check` by an
    entry point of the same name in `<group>.declared`, in a module that imports nothing heavy."""
    folder, _, group = KINDS[kind]
    found: Callable[[Any], Any]
    if name in _files(folder):
        found = getattr(importlib.import_module(f"pytest_perfq.{folder}._declared"), what)
        return found
    point = _entry_points(f"{group}.declared").get(name) if what == "check" else None
    return None if point is None else _loaded(kind, point)


@cache
def load(kind: str, name: str) -> Any:
    """The object that `name` stands for; imports its module on first use. Raises UnknownName, and UsageError for an entry
    point that leads nowhere."""
    check(kind, name)
    folder, constant, group = KINDS[kind]
    if name in _files(folder):
        module = importlib.import_module(f"pytest_perfq.{folder}.{name.replace('-', '_')}")
        return getattr(module, constant)
    return _loaded(kind, _entry_points(group)[name])


def _loaded(kind: str, point: Any) -> Any:
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise UsageError(_unloadable(kind, point, str(error))) from error
