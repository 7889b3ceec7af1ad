"""What a suite says of one of its tests: sweep, promises of its markers, and the machine it is meant for.

Every pytest run loads it with the plugin: imports nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_perfq.settings import Settings

if TYPE_CHECKING:
    from pytest_perfq.core.sweep import Sweep
    from pytest_perfq.target import Target

SETTINGS = pytest.StashKey[Settings]()
TARGET = pytest.StashKey["Target"]()


def sweep_of(test: pytest.Metafunc | pytest.Function) -> Sweep | None:
    """The sweep over a test function or its class."""
    return getattr(test.function, "__perfq_sweep__", None) or getattr(test.cls, "__perfq_sweep__", None)


def uses_benchmark(item: pytest.Item) -> bool:
    """Whether a test is one of pytest-benchmark's, and none of a sweep's."""
    names = getattr(item, "fixturenames", ())
    return "benchmark" in names and "perfq" not in names


def marked(node: pytest.Item) -> dict[str, Any]:
    """Keywords of the perfq markers of a test; its own come before its class's, and those before its module's."""
    marks = list(node.iter_markers("perfq"))[::-1]
    for mark in marks:
        if mark.args:
            from pytest_perfq.errors import UsageError

            raise UsageError(
                f"the perfq marker was given {mark.args[0]!r} without a keyword; write perfq(max_drop=...) or such"
            )
    return {name: value for mark in marks for name, value in mark.kwargs.items()}


def target_of(config: pytest.Config) -> Target:
    """What --perf-gpu means on this machine; found out once a process."""
    if TARGET not in config.stash:
        from pytest_perfq import device, target

        settings = config.stash[SETTINGS]
        config.stash[TARGET] = target.resolve(settings.gpu, device.gpu_present(), device.gpu_name(), settings.l2)
    return config.stash[TARGET]
