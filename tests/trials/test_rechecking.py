"""A confirmed regression is counted again in clock cycles, where the clock is known, before anybody is accused."""

from types import SimpleNamespace

import pytest
from scripted import blamed, case, lost, refused
from test_running import Both

from pytest_perfq.core.budget import Limit
from pytest_perfq.errors import TrialError
from pytest_perfq.trials import clocks
from pytest_perfq.trials import running as trials_of
from pytest_perfq.trials.entry import Entry
from pytest_perfq.trials.running import Trials

pytestmark = pytest.mark.usefixtures("alone", "unwatched")


def rechecked(monkeypatch, counted, promise=None, slower=0.3):
    """The finding about a case that is slower in time, once it was counted in cycles: `counted` says or raises it."""

    def count(entry, pair, watcher, threads):
        if isinstance(counted, Exception):
            raise counted
        return counted

    monkeypatch.setattr(clocks, "known", lambda entry: True)
    monkeypatch.setattr(clocks, "slowdown_in_cycles", count)
    # Nobody looks at this machine: the visits are made up.
    monkeypatch.setattr(
        trials_of, "sampler", lambda: SimpleNamespace(begin=lambda **_: None, end=lambda: None, close=lambda: 0)
    )
    limits = () if promise is None else (Limit("max_slowdown", promise, None, "budget 1"),)
    entry = Entry("test.py::it", case(), case(), limits)
    trials = Trials([entry], Both({entry.name: slower}, sd=0.003), explained=False)
    trials.run()
    return trials.verdicts[entry.name].findings[0]


@pytest.mark.parametrize(
    "promise, slower, cycles, status",
    [
        (None, 0.05, 0.05, "regressed"),
        (None, 0.05, 0.0101, "regressed"),
        (None, 0.05, 0.0099, "inconclusive"),
        (None, 0.05, -0.1, "inconclusive"),
        (0.1, 0.13, 0.11, "regressed"),
        # Slower in time by more than was promised, in cycles by less: it kept its promise, and the clock broke it.
        (0.1, 0.13, 0.05, "inconclusive"),
        (0.1, 0.13, 0.0999, "inconclusive"),
    ],
)
def test_what_is_a_regression_in_time_is_held_to_the_same_bar_in_cycles(monkeypatch, promise, slower, cycles, status):
    found = rechecked(monkeypatch, cycles, promise, slower)
    assert found.status == status and f"; in clock cycles it is {cycles:+.1%}" in found.note
    assert found.observed == pytest.approx(slower, abs=0.01)
    if status == "inconclusive":
        bar = "+1.0%" if promise is None else "+10.0%"
        assert found.note.endswith(f", not over {bar}: the clock did the rest, not the code; fix it and measure again")
    else:
        assert found.note.endswith(f"{cycles:+.1%}")


@pytest.mark.parametrize(
    "counted, sentence",
    [
        (None, "not counted in clock cycles: the clock was not known any more"),
        (blamed(), "not counted in clock cycles: it cannot be built"),
        (refused(), "not counted in clock cycles: main refuses it: no such thing"),
        (lost(), "not counted in clock cycles: the worker of x was ended by SIGKILL"),
        (TrialError("main: the disk is full"), "not counted in clock cycles: main: the disk is full"),
    ],
)
def test_what_cannot_be_counted_stays_a_regression_and_says_so(monkeypatch, counted, sentence):
    found = rechecked(monkeypatch, counted)
    assert found.status == "regressed" and found.note.endswith(f"; {sentence}")


def test_what_is_not_slower_is_not_counted(monkeypatch):
    found = rechecked(monkeypatch, AssertionError("it was counted"), slower=0.0)
    assert found.status == "pass" and "cycles" not in found.note
