"""pytest in a folder of its own, with the package of fakes on its path."""

import io
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

FAKES = Path(__file__).parent / "fakes"
HEAD = "from pytest_perfq import Budget, Dynamic, Static, Sweep\n"
# In this process: passes have tests of their own, and each would start workers.
QUICK = ("-p", "no:randomly", "--perf-passes=0", "--perf-time=60ms", "--perf-visits=2")


class House:
    """A folder with one suite file, and pytest to run in it: in this process, which has torch loaded already, or with
    `apart` in a process of its own, as people run it."""

    def __init__(self, pytester, monkeypatch):
        self.pytester, self.path = pytester, pytester.path
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FAKES), os.environ.get("PYTHONPATH", "")]))
        monkeypatch.delenv("CI", raising=False)
        monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
        monkeypatch.setenv("PERFQ_CACHE", str(pytester.path / "cache"))
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.chdir(pytester.path)
        self.monkeypatch = monkeypatch

    def suite(self, sweep, extra=""):
        """Writes a suite over the tiny task: `sweep` holds keyword arguments as text."""
        body = (
            f"S = Sweep(task='tiny', model='tiny-model', seq_len=8, {sweep})\n@S\ndef test_it(case, perfq):\n    perfq(case)\n"
        )
        self.pytester.makepyfile(test_it=HEAD + body + extra)

    def run(self, *args, quick=True, apart=False):
        run = self.pytester.runpytest_subprocess if apart else self.pytester.runpytest_inprocess
        # One thread: a pool of them waits for each other whenever something else runs beside the tests.
        calm = ("-p", "perfq_calm") if apart else ()
        return run("--perf-threads=1", *calm, *(QUICK if quick else ()), *args)

    def perfq(self, *args):
        """`perfq` in this process and this folder: (status, everything printed)."""
        from pytest_perfq.cli import main

        printed = io.StringIO()
        with redirect_stdout(printed), redirect_stderr(printed), pytest.raises(SystemExit) as done:
            main(args)
        return done.value.code, printed.getvalue()

    def export(self, how):
        """The last run in a format of others."""
        from pytest_perfq.cli.show import export

        return export("last", how, str(self.path / ".perfq/results.db"))

    def records(self):
        """(nodeid, status) of every record of the last run."""
        from pytest_perfq.store import Store

        with Store.open(str(self.path / ".perfq/results.db"), readonly=True) as store:
            return [(one.nodeid, one.status) for one in store.records(store.runs()[0].id)]


@pytest.fixture(scope="session")
def fakes():
    """The package of fakes, and everything that a run in this process would import: pytester drops modules that such a run
    brings in, and torch cannot be imported twice."""
    from pytest_perfq import registry

    sys.path.insert(0, str(FAKES))
    for cached in (registry._entry_points, registry.names, registry.declared, registry.load):
        cached.cache_clear()
    import perfq_fakes

    import pytest_perfq.cli
    import pytest_perfq.item
    import pytest_perfq.recorder
    import pytest_perfq.report.progress
    import pytest_perfq.report.terminal
    import pytest_perfq.runner
    import pytest_perfq.store
    import pytest_perfq.target  # noqa: F401

    yield perfq_fakes
    sys.path.remove(str(FAKES))
    for cached in (registry._entry_points, registry.names, registry.declared, registry.load):
        cached.cache_clear()


@pytest.fixture(autouse=True)
def calm(fakes, monkeypatch):
    """See perfq_calm.py: here for what runs in this process."""
    import perfq_calm

    monkeypatch.setattr("pytest_perfq.runner.sampler", perfq_calm.unwatched, raising=False)


@pytest.fixture
def house(fakes, pytester, monkeypatch):
    return House(pytester, monkeypatch)
