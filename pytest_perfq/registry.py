"""Names are files: `backends/ort.py` is the backend `ort`. A package outside adds one by an entry point.

Listing names imports nothing; loading a name imports its one module and returns the object that stands there under the
kind's constant (`BACKEND`, `TASK`). Knows no backend and no task by name.
"""

from __future__ import annotations

import importlib
import os
from functools import cache
from typing import Any

from pytest_perfq.errors import UnknownName

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
    """`name` itself, or UnknownName with the nearest known one."""
    if name in _files(KINDS[kind][0]) or name in names(kind):
        return name
    raise UnknownName(kind, name, names(kind))


@cache
def load(kind: str, name: str) -> Any:
    """The object that `name` stands for; imports its module on first use."""
    check(kind, name)
    folder, constant, group = KINDS[kind]
    if name in _files(folder):
        module = importlib.import_module(f"pytest_perfq.{folder}.{name.replace('-', '_')}")
        return getattr(module, constant)
    return _entry_points(group)[name].load()
