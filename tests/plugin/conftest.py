"""pytest in a folder of its own, with the package of fakes on its path."""

import os
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
FAKES = Path(__file__).parent / "fakes"
HEAD = "from pytest_perfq import Budget, Dynamic, Static, Sweep\n"
QUICK = ("-p", "no:randomly", "--perf-time=60ms", "--perf-visits=2")


class House:
    """A folder with one suite file, and pytest to run in it. Every run is a process of its own, as people run it."""

    def __init__(self, pytester, monkeypatch):
        self.pytester, self.path = pytester, pytester.path
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FAKES), os.environ.get("PYTHONPATH", "")]))
        monkeypatch.delenv("CI", raising=False)
        monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
        monkeypatch.setenv("PERFQ_CACHE", str(pytester.path / "cache"))
        monkeypatch.setenv("COLUMNS", "200")
        self.monkeypatch = monkeypatch

    def suite(self, sweep, name="test_it.py", extra=""):
        """Writes a suite over the tiny task: `sweep` holds keyword arguments as text."""
        body = (
            f"S = Sweep(task='tiny', model='tiny-model', seq_len=8, {sweep})\n@S\ndef test_it(case, perfq):\n    perfq(case)\n"
        )
        self.pytester.makefile(".py", **{name.removesuffix(".py"): HEAD + body + extra})

    def run(self, *args, quick=True):
        return self.pytester.runpytest_subprocess(*(QUICK if quick else ()), *args, timeout=240)

    def records(self, run="last"):
        """(nodeid, status) of every record of the last run."""
        from pytest_perfq.store import Store

        with Store.open(str(self.path / ".perfq/results.db"), readonly=True) as store:
            return [(one.nodeid, one.status) for one in store.records(store.runs()[0].id)]


@pytest.fixture
def house(pytester, monkeypatch):
    return House(pytester, monkeypatch)
