"""Confirmed regressions counted in clock cycles: what the clock alone did is no regression."""

import contextlib
from types import SimpleNamespace

import pytest
from scripted import BASE_NS, Script, Side, entries

from pytest_perfq.core.conditions import Conditions, GpuConditions
from pytest_perfq.core.measurement import Samples
from pytest_perfq.core.trial import TrialVisit
from pytest_perfq.trials import clocks


class Clocks:
    """A watcher that sees side a at one clock and side b at another, MHz; None for a clock nobody knows."""

    def __init__(self, a, b):
        self.seen = {"a": a, "b": b}
        self.asked = 0

    def begin(self, **given):
        self.asked += 1

    def end(self):
        # A B, B A, A B: as the blocks go.
        return conditions(self.seen["abbaab"[(self.asked - 1) % 6]])


def conditions(mhz):
    gpu = None if mhz is None else GpuConditions(busy=9, mean_sm_mhz=mhz, min_sm_mhz=mhz, max_sm_mhz=mhz)
    return Conditions(duration_s=1.0, readings=9, gpu=gpu)


@pytest.fixture
def slower(monkeypatch):
    """An entry 5 % slower in time, and what its sides say."""
    monkeypatch.setattr(clocks, "device_lock", lambda device: SimpleNamespace(write_lock=contextlib.nullcontext))
    (entry,) = entries(1)
    samples = Samples((BASE_NS,) * 20)
    entry.confirm.append(TrialVisit(0, "confirm", "a", samples, samples, conditions(1500.0)))
    script = Script({entry.name: 0.05}, sd=0.0)
    with script.opened() as pair:
        yield entry, pair


@pytest.mark.parametrize(
    ("a", "b", "in_cycles"), [(1500.0, 1500.0, 0.05), (1500.0, 1500.0 / 1.05, 0.0), (1400.0, 1500.0, 0.125)]
)
def test_the_slowdown_is_in_cycles_of_each_sides_own_clock(slower, a, b, in_cycles):
    entry, pair = slower
    assert clocks.known(entry)
    assert clocks.slowdown_in_cycles(entry, pair, Clocks(a, b), 1) == pytest.approx(in_cycles, abs=1e-4)


def test_sides_are_counted_as_they_are_timed(slower, monkeypatch):
    """Warm, by which workers are held to their cores: two that the system places differ by more than most regressions."""
    entry, pair = slower
    done = []
    warm, block = Side.warm, Side.block
    monkeypatch.setattr(Side, "warm", lambda side: done.append(f"warm {side.name}") or warm(side))
    monkeypatch.setattr(Side, "block", lambda side, *args, **given: done.append(side.name) or block(side, *args, **given))
    clocks.slowdown_in_cycles(entry, pair, Clocks(1500.0, 1500.0), 1)
    assert done == ["warm a", "warm b", *"abbaab"]


def test_a_clock_that_nobody_knows_counts_nothing(slower):
    entry, pair = slower
    assert clocks.slowdown_in_cycles(entry, pair, Clocks(1500.0, None), 1) is None
    entry.confirm[-1] = TrialVisit(0, "confirm", "a", entry.confirm[-1].a, entry.confirm[-1].b, None)
    assert not clocks.known(entry)
