import gc
import time

import pytest

from pytest_perfq import stopwatch
from pytest_perfq.stopwatch import CpuClock, VisitPlan, visit


class Scripted:
    """A clock that advances by what each side says it takes, and writes down who was called."""

    def __init__(self):
        self.calls = []

    def ready(self, call):
        pass

    def time_ns(self, call):
        name, duration = call()
        self.calls.append(name)
        return duration


def sides(**durations):
    return {name: (lambda name=name, duration=duration: (name, duration)) for name, duration in durations.items()}


def test_sides_alternate_and_each_switch_discards_until_it_has_settled():
    clock = Scripted()
    found = visit(
        sides(anchor=3_000_000, case=6_000_000), clock, VisitPlan(budget_s=60, precision=1e-9, min_rounds=20, max_rounds=20)
    )
    blocks = "".join("a" if name == "anchor" else "c" for name in clock.calls[4:])
    # 30 ms blocks at 6 ms a call are 5 rounds, after the calls that fill 5 ms: two of 3 ms, one of 6. A B, then B A.
    assert blocks == ("a" * 7 + "c" * 6 + "c" * 6 + "a" * 7) * 2
    assert found["case"].durations_ns == (6_000_000,) * 20 and found["anchor"].durations_ns == (3_000_000,) * 20
    assert len(found["case"].warmup_ns) == 2 + 4
    assert sum(len(one.durations_ns) + len(one.warmup_ns) for one in found.values()) == len(clock.calls)  # nothing is lost


def test_stops_as_soon_as_the_median_is_precise():
    found = visit(sides(case=1_000_000), Scripted(), VisitPlan(budget_s=60, precision=0.01, min_rounds=20, max_rounds=60))
    assert len(found["case"].durations_ns) == 20


def test_an_imprecise_side_goes_on_to_the_cap():
    ticks = iter(range(10**9))
    noisy = {"case": lambda: ("case", 1_000_000 + next(ticks) % 7 * 300_000)}
    found = visit(noisy, Scripted(), VisitPlan(budget_s=60, precision=0.01, min_rounds=20, max_rounds=60))
    assert len(found["case"].durations_ns) == 60


def test_time_ends_a_slow_side_but_never_before_five_rounds():
    found = visit(
        {"case": lambda: ("case", time.sleep(0.002) or 2_000_000)}, Scripted(), VisitPlan(budget_s=1e-6, precision=1e-9)
    )
    assert stopwatch.FEWEST_ROUNDS <= len(found["case"].durations_ns) <= stopwatch.FEWEST_ROUNDS + stopwatch.BLOCK_ROUNDS


def test_the_cpu_clock_agrees_with_a_sleep():
    # sleep() promises at least its time: the only side of the clock that a busy machine cannot blur.
    assert CpuClock().time_ns(lambda: time.sleep(0.01)) >= 10_000_000


@pytest.mark.parametrize("enabled", [True, False])
def test_collection_is_left_as_it_was_even_after_an_error(enabled):
    def broken():
        raise ValueError("no")

    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with pytest.raises(ValueError):
            visit({"case": broken}, CpuClock(), VisitPlan(budget_s=1, precision=0.1))
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()


@pytest.mark.parametrize(
    ("call_ns", "rounds", "block"),
    # 500 calls fill a quarter of a second, in ten blocks; long calls keep to blocks of 30 ms, and very short ones to a number.
    [(500_000, 500, 50), (4_000_000, 63, 7), (10_000_000, 27, 3), (1_000, stopwatch.MOST_ROUNDS, 100)],
)
def test_a_side_is_timed_for_its_seconds(call_ns, rounds, block):
    clock = Scripted()
    found = visit(sides(a=call_ns, b=call_ns), clock, VisitPlan(budget_s=60, precision=1e-9, side_s=0.25))
    assert {len(side.durations_ns) for side in found.values()} == {rounds}
    settling = -(-stopwatch.SETTLE_NS // call_ns)
    assert clock.calls[4:].index("b") == block + settling
