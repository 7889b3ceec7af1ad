"""A test of pytest-benchmark, run by pytest as far as the call that it wants timed, held there, and let go on to its end.

Imports pytest; times nothing. pytest is told to collect only, so that nothing is spread over processes, reported or stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from pytest_perfq import benchmark_call, collecting
from pytest_perfq.benchmark_call import Call, Rounds
from pytest_perfq.core.benchmarks import ONCE
from pytest_perfq.errors import ProgramError

# Of pytest-randomly, which would give each side data of its own.
SEED = 0
# pytest-timeout, by either name.
TIMEOUTS = ("timeout", "pytest_timeout")


class _Test(collecting.Collection):
    """A plugin that runs one test of what was collected, and hands over its call."""

    def __init__(self, nodeid: str, hold: Callable[[Call], Rounds | None]) -> None:
        super().__init__()
        self.nodeid, self.hold = nodeid, hold
        self.reports: list[pytest.TestReport] = []
        self.found = False
        self.call: Call | None = None
        self.stage = "before"

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        if getattr(config.option, "randomly_seed", None) == "default":
            config.option.randomly_seed = SEED

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> None:
        """Its file alone, of all that the arguments name; and nobody ends it early, whose limit is the parent's."""
        config = session.config
        for name in TIMEOUTS:
            if config.pluginmanager.hasplugin(name):
                config.pluginmanager.unregister(name=name)
        config.args = [str(config.rootpath / self.nodeid.partition("::")[0])]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        for item in session.items:
            if item.nodeid == self.nodeid:
                self.found = True
                if session.config.pluginmanager.hasplugin("_cov"):
                    item.add_marker("no_cover")
                # Without the protocol's hook: what repeats a test, or ends it after a time, would take it for a slow one.
                self.reports = runtestprotocol(item, log=False, nextitem=None)
                break
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> None:
        fixture: Any = getattr(item, "funcargs", {}).get("benchmark")
        if fixture is not None:
            benchmark_call.hold(fixture, self._held)

    def _held(self, call: Call) -> Rounds | None:
        self.call, self.stage = call, "in"
        found = None if call.once else self.hold(call)
        self.stage = "after"
        return found


def run(nodeid: str, args: Sequence[str], hold: Callable[[Call], Rounds | None]) -> str | None:
    """Runs a test until it gives its benchmark fixture a call, which `hold` is handed, to return what it timed of it; and then
    to its end. Why there is nothing to time, or None. args: of pytest, by which the test was collected. Raises UsageError where
    pytest cannot collect it, ProgramError where it fails, and what `hold` raises fails it."""
    test = _Test(nodeid, hold)
    collecting.run(args, test)
    if not test.found:
        return f"{nodeid} is not among the tests any more that pytest finds with {' '.join(args) or 'no arguments'}"
    if test.call is not None and test.call.once:
        return f"{nodeid}: {ONCE}; give it more rounds"
    for report in test.reports:
        if report.failed:
            raise ProgramError(f"{nodeid} fails {test.stage} its benchmark: {_said(report)}")
    if test.call is not None:
        return None
    for report in test.reports:
        if report.skipped:
            return f"{nodeid} is skipped: {_skipped(report)}"
    return f"{nodeid} gives its benchmark fixture nothing to time; call benchmark(...) in it"


def _said(report: pytest.TestReport) -> str:
    """What went wrong and where, in one line."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        return f"{crash.message.splitlines()[0]} ({crash.path.replace(chr(92), '/').rpartition('/')[2]}:{crash.lineno})"
    lines = report.longreprtext.strip().splitlines()
    return next((line.lstrip("E ") for line in lines if line.startswith("E ")), lines[-1] if lines else "it says nothing")


def _skipped(report: pytest.TestReport) -> str:
    return report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else str(report.longrepr)
