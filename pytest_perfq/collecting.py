"""The cases of some suites without running them: pytest collects, and its items are read. Imports pytest; runs no test.

A test of pytest-benchmark is a case like those of sweeps."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from _pytest.skipping import evaluate_skip_marks

from pytest_perfq import suite
from pytest_perfq.core.benchmarks import case_of
from pytest_perfq.core.budget import with_marker
from pytest_perfq.core.case import Case
from pytest_perfq.errors import UsageError
from pytest_perfq.trials.entry import Collected


class _Reading:
    """A plugin that keeps the settings, and collects nothing."""

    config: pytest.Config | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> bool:
        self.config = session.config
        return True


class Collection:
    """A plugin that keeps what was collected, and the last line of whatever could not be."""

    def __init__(self) -> None:
        self.items: list[pytest.Item] = []
        self.errors: list[str] = []

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.errors.append(str(report.longrepr).strip().splitlines()[-1])

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.items = list(session.items)


def run(args: Sequence[str], plugin: object) -> None:
    """Runs pytest as far as its collection, and what the plugin makes of that. Raises UsageError with its own words for what it
    cannot use."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        status = pytest.main(["--collect-only", "-qq", *args], plugins=[plugin])
    where = f"pytest {' '.join(args)} in {os.getcwd()}"
    if errors := getattr(plugin, "errors", None):
        raise UsageError(f"{where}: {errors[0]}")
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        # What argparse says of an argument comes after its usage, and where the ini files are after that.
        told = [line.strip() for line in said.getvalue().splitlines() if "rror: " in line or line.startswith("ERROR")]
        why = told[-1].partition("rror: ")[2] or told[-1].removeprefix("ERROR: ") if told else f"exit status {int(status)}"
        raise UsageError(f"{where} cannot be collected: {why}; run it there with --collect-only to see more")


def settings(args: Sequence[str]) -> dict[str, Any]:
    """What the command line and the ini files say of how to measure: {cache, data, pickle, threads, l2}; paths are absolute,
    None where nothing is said. Raises UsageError."""
    reading = _Reading()
    run(args, reading)
    assert reading.config is not None
    found = reading.config.stash[suite.SETTINGS]
    return {
        "cache": str(found.cache.resolve()),
        "data": None if found.data is None else str(found.data),
        "pickle": found.allow_pickle,
        "threads": found.threads,
        "l2": found.l2,
    }


def collect(args: Sequence[str]) -> list[Collected]:
    """The cases that pytest finds with these arguments and would not skip, in their order. Raises UsageError for arguments and
    suites that pytest cannot use, and for cases that must not be timed on this machine."""
    found = Collection()
    run(args, found)
    cases = [one for item in found.items if evaluate_skip_marks(item) is None and (one := collected(item)) is not None]
    if found.items:
        target = suite.target_of(found.items[0].config)
        for one in cases:
            if one.case.test is None and (reason := target.unmeasured(one.case)) is not None:
                raise UsageError(f"{one.case.id} cannot be timed here: {reason}; or ask for --perf-only=accuracy")
    return cases


def collected(item: pytest.Item) -> Collected | None:
    """The case of a test item; None of one that has none. Raises UsageError for promises that a test's marker cannot make."""
    if not isinstance(item, pytest.Function):
        return None
    if suite.uses_benchmark(item):
        return _benchmark(item)
    case = item.callspec.params.get("case") if hasattr(item, "callspec") else None
    if not isinstance(case, Case):
        return None
    sweep = suite.sweep_of(item)
    limits = () if sweep is None else sweep.limits(case, suite.target_of(item.config).gpu)
    return Collected(item.nodeid, case, with_marker(limits, suite.marked(item)))


def _benchmark(item: pytest.Function) -> Collected | None:
    """The case of a test of pytest-benchmark; None where nobody wants timings, or `benchmark` is somebody else's fixture."""
    if item.config.stash[suite.SETTINGS].only == "accuracy":
        return None
    try:
        limits = with_marker((), suite.marked(item))
    except UsageError as error:
        raise UsageError(f"{item.nodeid}: {error}") from None
    found = Collected(item.nodeid, case_of(item.nodeid), limits)
    if item.config.pluginmanager.hasplugin("pytest-benchmark"):
        return found
    if item._fixtureinfo.name2fixturedefs.get("benchmark"):
        return None
    return replace(found, refused=f"{item.nodeid} needs pytest-benchmark, which is not loaded; install it there")
