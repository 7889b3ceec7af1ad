"""Promises finer than what calibration found: refused by machine and case, and before anything is measured of them."""

from types import SimpleNamespace

import pytest
from making import MACHINE, latency

from pytest_perfq import ahead, collecting, suite
from pytest_perfq.core.budget import Limit
from pytest_perfq.store import Calibration, Store
from pytest_perfq.trials.calibrated import Calibrated
from pytest_perfq.trials.entry import Collected

CASES = [latency(number).case for number in range(3)]
FINE, COARSE = (Limit("max_slowdown", 0.01, None, "budget 1"),), (Limit("max_slowdown", 0.5, None, "budget 1"),)


@pytest.fixture
def store(tmp_path):
    """The first two cases were calibrated, the second one on another machine alone."""
    name = str(tmp_path / "results.db")
    with Store.open(name) as found:
        found.calibrate(
            [
                Calibration(recorded_s=1.0, machine=machine, case_id=case.id, visits=6, deviation=0.02)
                for case, machine in ((CASES[0], MACHINE.key), (CASES[1], "another"), (CASES[0], "another"))
            ]
        )
    return name


def test_a_promise_is_refused_where_this_machine_cannot_see_as_much(store):
    asked = []
    found = Calibrated(store, lambda on: asked.append(on) or MACHINE.key)
    told = found.too_fine(CASES[0], FINE)
    assert told.startswith("max_slowdown is 1.0%, under what this machine can see: a +")
    assert found.too_fine(CASES[0], COARSE) is None and found.too_fine(CASES[0], ()) is None
    assert found.too_fine(CASES[1], FINE) is None and asked == ["cpu"]


def test_nobody_is_asked_for_this_machine_where_nothing_was_calibrated(store, tmp_path):
    found = Calibrated(store, None)
    assert found.too_fine(CASES[2], FINE) is None and found.too_fine(CASES[0], ()) is None
    assert Calibrated(str(tmp_path / "none.db"), None).too_fine(CASES[0], FINE) is None


def test_such_cases_are_not_visited_before_their_items_refuse_them(store, tmp_path, monkeypatch):
    items = [Collected(f"t.py::{case.id}", case, FINE) for case in CASES]
    settings = SimpleNamespace(store=store, threads=1, l2="warm", resume=False, passes=3, benchmarks=False)
    timed = []
    monkeypatch.setattr(ahead, "selection", lambda config: [])
    monkeypatch.setattr(collecting, "collected", lambda item: item)
    monkeypatch.setattr(suite, "target_of", lambda config: SimpleNamespace(unmeasured=lambda case: None))
    monkeypatch.setattr(ahead.device, "fingerprint", lambda on, threads, l2: MACHINE)

    def measured(settings, items, *given, **told):
        timed.extend(one.case for one in items)
        return SimpleNamespace(run=lambda: "done")

    monkeypatch.setattr(ahead, "Beforehand", measured)
    config = SimpleNamespace(invocation_params=SimpleNamespace(dir=tmp_path))
    passing = SimpleNamespace(watch=None, say=None)
    assert ahead.measure(SimpleNamespace(config=config, items=items), settings, passing, None) == "done"
    assert timed == CASES[1:]
    assert ahead.measure(SimpleNamespace(config=config, items=items[:1]), settings, passing, None) is None
