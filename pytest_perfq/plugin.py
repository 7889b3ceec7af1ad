"""Every pytest hook of every process, in the order pytest calls them; those of the one process that remembers and prints are
in controller.py. Nothing else. Imports nothing heavy: every pytest run loads it."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_perfq import arguments, benchmark_hook, settings
from pytest_perfq.controller import AHEAD, Controller
from pytest_perfq.suite import SETTINGS, marked, sweep_of, target_of

if TYPE_CHECKING:
    from pytest_perfq.item import Gate
    from pytest_perfq.outcome import Outcome

GATE = pytest.StashKey["Gate"]()
RECORD = pytest.StashKey["dict[str, Any]"]()
PASSED = pytest.StashKey[bool]()
CONTROLLER = "perfq-controller"


def pytest_addoption(parser: pytest.Parser) -> None:
    arguments.add_options(parser)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "perfq(min_score=..., max_drop=..., p95_ms=..., ...): a case of a Sweep; keywords are budgets for this test, "
        "over the sweep's own",
    )
    from pytest_perfq.errors import PerfqError

    try:
        given = config.stash[SETTINGS] = settings.read(config)
        if given.benchmarks and given.only != "accuracy":
            benchmark_hook.check(config)
            tests = benchmark_hook.BenchmarkTests(given, lambda: _gate(config, _controller(config)), _remember)
            config.pluginmanager.register(tests, benchmark_hook.NAME)
        if hasattr(config, "workerinput"):
            return
        if given.against is not None or given.save is not None:
            from pytest_perfq import recorder

            recorder.check(given)
        config.pluginmanager.register(Controller(config, given), CONTROLLER)
    except PerfqError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    sweep = sweep_of(metafunc)
    if sweep is None:
        return
    from pytest_perfq.core.budget import marker_limits
    from pytest_perfq.errors import PerfqError, UsageError

    name = metafunc.definition.nodeid
    if "case" not in metafunc.fixturenames:
        if "perfq" in metafunc.fixturenames or hasattr(metafunc.function, "__perfq_sweep__"):
            raise UsageError(f"{name} stands under a Sweep and takes no `case`; add the argument")
        return
    if "perfq" not in metafunc.fixturenames:
        raise UsageError(
            f"{name} stands under a Sweep and takes no `perfq`, so it would measure nothing; add it and call perfq(case)"
        )
    target = target_of(metafunc.config)
    try:
        cases = sweep.cases(target.accuracy_device, target.latency_device)
        marker_limits(marked(metafunc.definition))
    except PerfqError as error:
        raise UsageError(f"{name}: {error}") from None
    only = metafunc.config.stash[SETTINGS].only
    chosen = [case for case in cases if only in (None, case.kind)]
    marks = list(getattr(metafunc.function, "pytestmark", []))
    if not any(mark.name == "perfq" for mark in marks):
        # On the function, not on each parameter: 10,000 items then share one mark.
        metafunc.function.pytestmark = [*marks, pytest.mark.perfq.mark]
    if not chosen:  # pytest's own word for that is an odd skip
        reason = f"--perf-only={only} leaves none of the sweep's {len(cases)} cases: all of them are about {cases[0].kind}"
        none = pytest.param(None, marks=pytest.mark.skip(reason=reason), id=f"no-{only}")
        metafunc.parametrize("case", [none])
        return
    metafunc.parametrize("case", chosen, ids=[case.id for case in chosen])


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A mistake found while a suite is read, such as an unknown axis, is told in its one sentence and where it stands."""
    report = yield
    excinfo = getattr(getattr(report, "call", None), "excinfo", None)
    if excinfo is not None and not collector.config.option.fulltrace:
        from pytest_perfq.errors import PerfqError

        if isinstance(excinfo.value, PerfqError):
            report.longrepr = f"{_place(collector.config, excinfo)}{excinfo.value}"
    return report


def _place(config: pytest.Config, excinfo: pytest.ExceptionInfo[BaseException]) -> str:
    """File and line that the suite's author wrote: the innermost frame that is neither ours nor the machinery's."""
    machinery = ("pytest_perfq", "_pytest", "pluggy", "importlib")
    for entry in reversed(excinfo.traceback):
        if entry.frame.f_globals.get("__name__", "").partition(".")[0] not in machinery:
            return f"{os.path.relpath(entry.path, config.rootpath)}:{entry.lineno + 1}: "
    return ""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Restores the order of the walk among our items where pytest-randomly has shuffled them: a case is right in any order,
    but only in this one is every program built once."""
    if not config.pluginmanager.hasplugin("randomly"):
        return
    ours = [
        item
        for item in items
        if isinstance(item, pytest.Function) and "perfq" in item.fixturenames and "case" in item.fixturenames
    ]
    chosen = set(ours)
    walk = iter(sorted(ours, key=_walk_key))
    items[:] = [next(walk) if item in chosen else item for item in items]


def _walk_key(item: pytest.Function) -> tuple[str, int, int]:
    indices = item.callspec.indices if hasattr(item, "callspec") else {}
    return str(item.path), item.function.__code__.co_firstlineno, indices.get("case", 0)


def _gate(config: pytest.Config, controller: Controller | None) -> Gate:
    if GATE not in config.stash:
        from pytest_perfq.item import Gate

        step = controller.step if controller is not None else (lambda what: None)
        ahead = controller.ahead if controller is not None else getattr(config, "workerinput", {}).get(AHEAD)
        config.stash[GATE] = Gate(config.stash[SETTINGS], target_of(config), step, None if ahead is None else Path(ahead))
    return config.stash[GATE]


def _controller(config: pytest.Config) -> Controller | None:
    found: Controller | None = config.pluginmanager.get_plugin(CONTROLLER)
    return found


def _remember(item: pytest.Item, outcome: Outcome) -> None:
    """Keeps the record until the item is reported."""
    assert outcome.record is not None
    item.stash[RECORD] = outcome.record
    # Small and plain, for JUnit; the raw data travels on the report, below. A rerun replaces its first try's.
    others = [pair for pair in item.user_properties if not pair[0].startswith("perfq_")]
    item.user_properties[:] = [*others, *outcome.properties]


@pytest.fixture
def perfq(request: pytest.FixtureRequest) -> Generator[Callable[..., Any], None, None]:
    """Measures a case, judges it and passes, skips or fails the test: `perfq(case)`. Returns (Measurement, Verdict)."""
    controller = _controller(request.config)
    gate = _gate(request.config, controller)
    judged: list[Any] = []

    def judge(case: Any = None) -> Any:
        __tracebackhide__ = True  # a skip is reported where the test calls perfq, not here
        judged.append(case)
        sweep = sweep_of(request.node)
        if controller is not None:
            controller.starting(getattr(case, "id", ""))
        outcome = gate.judge(case, sweep, marked(request.node), request.node.nodeid)
        if outcome.record is not None:
            _remember(request.node, outcome)
        if outcome.raised is not None:
            raise outcome.raised
        if outcome.skipped:
            pytest.skip(outcome.message)
        if outcome.failed:
            pytest.fail(outcome.message, pytrace=False)
        return outcome.measurement, outcome.verdict

    yield judge
    if not judged and request.node.stash.get(PASSED, False):
        pytest.fail("the test passed and measured nothing: call perfq(case) in it", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    report = yield
    if call.when == "call":
        item.stash[PASSED] = report.passed
    record: dict[str, Any] | None = item.stash.get(RECORD, None)
    if call.when == "call" and record is not None:
        # Plain JSON on the report: it crosses from an xdist worker to the controller unaided.
        report.perfq = record | {"attempt": getattr(item, "execution_count", 1)}
        del item.stash[RECORD]
        if report.failed:  # not of one that was expected to: nobody reads its message
            from pytest_perfq.outcome import read

            read(record, item.config.stash[GATE].listed)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.CollectReport | pytest.TestReport) -> tuple[str, str, str] | None:
    record = getattr(report, "perfq", None)
    if record is None or report.outcome not in ("passed", "failed", "skipped"):
        return None
    letters = {"inconclusive": "~", "improved": "+", "regressed": "R", "unmeasured": "u", "invalid": "I"}
    status = record["verdict"]["status"]
    if status not in letters:
        return None
    return report.outcome, letters[status], status.upper()


def pytest_sessionfinish(session: pytest.Session) -> None:
    if GATE in session.config.stash:
        session.config.stash[GATE].close()
