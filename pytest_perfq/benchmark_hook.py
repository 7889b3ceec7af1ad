"""The hook on tests of pytest-benchmark: once one has passed it is visited, judged, and remembered like a case of a sweep.

Registered where --perf-benchmarks asks for it. Imports nothing heavy until such a test has run.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_perfq.suite import marked, uses_benchmark

if TYPE_CHECKING:
    from pytest_perfq.benchmarks import Visits
    from pytest_perfq.item import Gate
    from pytest_perfq.outcome import Outcome
    from pytest_perfq.settings import Settings

NAME = "perfq-benchmarks"
# Names of pytest-benchmark's plugin: where pytest finds it by itself, and where somebody asks for it with -p.
LOADED = ("benchmark", "pytest_benchmark.plugin")


def check(config: pytest.Config) -> None:
    """Raises UsageError without pytest-benchmark."""
    if not any(config.pluginmanager.hasplugin(name) for name in LOADED):
        from pytest_perfq.errors import UsageError

        raise UsageError(
            "--perf-benchmarks visits the tests of pytest-benchmark, which is not loaded; install it, or take away what blocks "
            "it, such as -p no:benchmark"
        )


class BenchmarkTests:
    """gate: of this process. remember: keeps what became of an item."""

    def __init__(self, settings: Settings, gate: Callable[[], Gate], remember: Callable[[pytest.Item, Outcome], None]) -> None:
        self.settings, self.gate, self.remember = settings, gate, remember
        self._visits: Visits | None = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        # Where tests are only collected, whoever runs one of them times it.
        judged = uses_benchmark(item) and not item.config.option.collectonly
        fixture = getattr(item, "funcargs", {}).get("benchmark") if judged else None
        if fixture is None:
            return (yield)
        from pytest_perfq import benchmark_call

        benchmark_call.keep(fixture)
        # A test that fails by itself ends here, and is not judged.
        found = yield
        self._judge(item, fixture)
        return found

    def _judge(self, item: pytest.Item, fixture: Any) -> None:
        __tracebackhide__ = True
        outcome = self.gate().judge_timed(lambda: self.visits.measure(item.nodeid, fixture), marked(item), item.nodeid)
        if outcome is None:
            return
        if outcome.record is not None:
            self.remember(item, outcome)
        # Never skipped: the test itself has passed. What was not measured says so in the summary.
        if outcome.failed:
            pytest.fail(outcome.message, pytrace=False)

    @property
    def visits(self) -> Visits:
        """Made at the first test."""
        if self._visits is None:
            from pytest_perfq.benchmarks import Visits
            from pytest_perfq.device import sampler

            given = self.settings
            self._visits = Visits(
                watcher=sampler.sampler(), visits=given.visits, time_s=given.time, precision=given.precision,
                threads=given.threads,
            )  # fmt: skip
        return self._visits

    def pytest_sessionfinish(self) -> None:
        if self._visits is not None:
            self._visits.watcher.close()
