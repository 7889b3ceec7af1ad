"""The cases of some suites without running them: pytest collects, and its items are read. Imports pytest; runs no test."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from pytest_perfq import suite
from pytest_perfq.core.budget import with_marker
from pytest_perfq.core.case import Case
from pytest_perfq.errors import UsageError
from pytest_perfq.trials.entry import Collected


class _Collection:
    """A plugin that keeps what was collected."""

    def __init__(self) -> None:
        self.items: list[pytest.Item] = []
        self.errors: list[str] = []

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.errors.append(str(report.longrepr).strip().splitlines()[-1])

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.items = list(session.items)


def collect(args: Sequence[str]) -> list[Collected]:
    """The cases that pytest finds with these arguments, in their order. Raises UsageError for arguments and suites that pytest
    cannot use, with its own words."""
    found = _Collection()
    try:
        status = pytest.main(["--collect-only", "-qq", *args], plugins=[found])
    except pytest.UsageError as error:
        raise UsageError(str(error)) from None
    where = f"pytest {' '.join(args)} in {os.getcwd()}"
    if found.errors:
        raise UsageError(f"{where}: {found.errors[0]}")
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise UsageError(f"{where} cannot be collected (exit status {int(status)}); run it there to see why")
    return [one for item in found.items if (one := collected(item)) is not None]


def collected(item: pytest.Item) -> Collected | None:
    """The case of a test item; None of one that has none."""
    if not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
        return None
    case = item.callspec.params.get("case")
    if not isinstance(case, Case):
        return None
    sweep = suite.sweep_of(item)
    limits = () if sweep is None else sweep.limits(case, suite.target_of(item.config).gpu)
    return Collected(item.nodeid, case, with_marker(limits, suite.marked(item)))
