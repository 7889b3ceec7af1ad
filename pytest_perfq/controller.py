"""The pytest hooks of the one process that remembers and prints: the controller of xdist, or pytest itself.

Registered by plugin.py. Decides nothing: what it stores and shows was judged where it was measured. Imports nothing heavy.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_perfq.settings import BASE, base
from pytest_perfq.suite import uses_benchmark

if TYPE_CHECKING:
    from pytest_perfq.recorder import Recorder
    from pytest_perfq.report.progress import Progress
    from pytest_perfq.settings import Settings

# How messages of skipped items begin that the summary counts.
PASSED_BY = ("refused: ", "unavailable: ")
# Where workers of xdist find what was measured before the items.
AHEAD = "perfq_ahead"
# What `perfq` itself exits with for data that cannot be used.
DATA_ERROR = 3


def _judged(item: pytest.Item, settings: Settings) -> bool:
    """Whether a test will have a verdict: a case's, or one of pytest-benchmark's where they are asked for."""
    return "perfq" in getattr(item, "fixturenames", ()) or (settings.benchmarks and uses_benchmark(item))


class Controller:
    """Remembers every judged item of the run, and prints its progress and summary."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self.config = config
        self.settings = settings
        self.progress: Progress | None = None
        self.ahead: Path | None = None
        self._recorder: Recorder | None = None
        self._walk: Sequence[str] = ()
        self._deselected: list[pytest.Item] = []

    @property
    def recorder(self) -> Recorder:
        """Made when the first case is seen: an ordinary run needs none."""
        if self._recorder is None:
            from pytest_perfq.recorder import Recorder

            self._recorder = Recorder(self.settings)
        return self._recorder

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """What -k, -m and the like leave out."""
        self._deselected += items

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """With cases to judge, the store is opened before the first is measured."""
        total = sum(_judged(item, self.settings) for item in session.items)
        broken = session.testsfailed and not session.config.option.continue_on_collection_errors
        if not total or broken or session.config.option.collectonly:
            return
        if self.settings.save is not None and self.settings.overwrite and self._deselected:
            self._or_exit(self._check_replaced)
        if (self.settings.vs or self.settings.confirm) and self.settings.only != "accuracy":
            self._or_exit(lambda: self._check_ahead(session))
        self._or_exit(lambda: self.recorder.open(total))
        from pytest_perfq.report.progress import Progress

        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        self.progress = Progress(total, self._write, live=reporter is not None and reporter.isatty)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """A worker of xdist is about to start: it learns where to look."""
        node.workerinput[AHEAD] = str(self._ahead_file())
        node.workerinput[BASE] = str(base(self.config))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Latency that shall be visited in passes is measured before the first item runs."""
        broken = session.testsfailed and not session.config.option.continue_on_collection_errors
        wanted = self.settings.passes or self.settings.vs is not None
        if wanted and not broken and not session.config.option.collectonly and self.settings.only != "accuracy":
            self._or_exit(lambda: self._measure_ahead(session))
        try:
            return (yield)
        finally:
            if self.ahead is not None:
                shutil.rmtree(self.ahead.parent, ignore_errors=True)

    def _ahead_file(self) -> Path:
        if self.ahead is None:
            self.ahead = Path(tempfile.mkdtemp(prefix="perfq-")) / "ahead.json"
        return self.ahead

    def _check_replaced(self) -> None:
        from pytest_perfq import collecting, recorder

        found = [one.case.id for item in self._deselected if (one := collecting.collected(item)) is not None]
        recorder.check_replaced(str(self.settings.save), found)

    def _check_ahead(self, session: pytest.Session) -> None:
        from pytest_perfq import ahead

        ahead.check(session, self.settings)

    def _measure_ahead(self, session: pytest.Session) -> None:
        from pytest_perfq import ahead
        from pytest_perfq.report.passing import Passing

        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        passing = Passing(self._write, live=reporter is not None and reporter.isatty)
        try:
            found = ahead.measure(session, self.settings, passing, self.recorder.remember)
        finally:
            passing.close()
        if found is not None:
            found.write(self._ahead_file())

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: object, ids: Sequence[str]) -> None:
        """Under xdist the workers alone know the walk; all have the same."""
        self._walk = ids

    def starting(self, case_id: str) -> None:
        """A case is about to be measured in this process."""
        if self.progress is not None:
            self.progress.starting(case_id)

    def step(self, what: str) -> None:
        """Something long happens inside the case."""
        if self.progress is not None:
            self.progress.step(what)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call":
            return
        if self.progress is not None:
            self.progress.finished()
        record = getattr(report, "perfq", None)
        if record is not None:
            self._or_exit(lambda: self.recorder.remember(report.nodeid, record))
        elif report.skipped and isinstance(report.longrepr, tuple):
            reason = report.longrepr[2].removeprefix("Skipped: ")
            if reason.startswith(PASSED_BY):
                self.recorder.pass_by(reason)

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int | pytest.ExitCode) -> None:
        if self.progress is not None:
            self.progress.close()
        if self._recorder is None:
            return
        from pytest_perfq.errors import PerfqError

        if self._walk:
            self.recorder.walk(self._walk)
        try:
            self.recorder.finish(exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED))
        except PerfqError as error:
            self._write(f"\nperfq: {error}\n")
            session.exitstatus = DATA_ERROR

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        lines = self._recorder.lines(terminalreporter._tw.fullwidth) if self._recorder is not None else []
        if lines:
            terminalreporter.section("perfq")
        for line in lines:
            terminalreporter.write_line(line)

    def _or_exit(self, step: Callable[[], None]) -> None:
        from pytest_perfq.errors import PerfqError

        try:
            step()
        except PerfqError as error:
            # Measuring on without remembering would lose results: the run ends, with the one sentence.
            raise pytest.UsageError(f"perfq: {error}") from None

    def _write(self, text: str) -> None:
        """Past the capture, to the terminal that pytest itself writes to."""
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        capture = self.config.pluginmanager.get_plugin("capturemanager")
        if reporter is None:
            return
        with capture.global_and_fixture_disabled() if capture is not None else nullcontext():
            reporter._tw._file.write(text)
            reporter._tw._file.flush()
