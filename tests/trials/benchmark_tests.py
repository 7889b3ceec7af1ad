"""Files of tests that use pytest-benchmark, for projects of the tests here."""

# What pytest-benchmark promises of its fixture, as assertions: they hold under pytest-benchmark itself.
PROMISES = """\
import time

def test_gives_back_what_the_call_gives(benchmark):
    assert benchmark(lambda a, b=1: a + b, 2, b=3) == 5

def test_gives_back_the_last_call(benchmark):
    calls = []
    def work():
        calls.append(1)
        return len(calls)
    assert benchmark(work) == len(calls) > 5

def test_sets_up_every_round(benchmark):
    log = []
    def setup():
        log.append("setup")
        return ([3, 1, 2],), {"reverse": True}
    def work(values, reverse):
        assert log[-1] == "setup" and values == [3, 1, 2]
        log.append("work")
        values.sort(reverse=reverse)
        return values
    def teardown(values, reverse):
        assert log[-1] == "work" and values == [3, 2, 1] and reverse
        log.append("teardown")
    assert benchmark.pedantic(work, setup=setup, teardown=teardown, rounds=8) == [3, 2, 1]
    assert log == ["setup", "work", "teardown"] * (len(log) // 3) and len(log) >= 24

def test_sets_up_beside_arguments(benchmark):
    log = []
    assert benchmark.pedantic(sum, args=([1, 2],), setup=lambda: log.append(1), rounds=4) == 3
    assert len(log) >= 4

def test_makes_as_many_calls_a_round_as_it_is_told(benchmark):
    calls, ends = [], []
    benchmark.pedantic(calls.append, args=(1,), teardown=lambda one: ends.append(len(calls)), rounds=4, iterations=25)
    rounds = [after - before for before, after in zip([0, *ends], ends)]
    assert rounds == [25] * (len(rounds) - 1) + [1] and len(rounds) >= 5

def test_knows_its_statistics(benchmark):
    benchmark.extra_info["what"] = "sleep"
    benchmark(time.sleep, 1e-3)
    assert 1e-3 <= benchmark.stats["min"] <= benchmark.stats.stats.median <= benchmark.stats["max"] < 0.5
    assert benchmark.stats["iterations"] == 1 and benchmark.stats["rounds"] >= 5

def test_knows_that_it_is_enabled(benchmark):
    assert benchmark.enabled and benchmark(lambda: 3) == 3
    assert benchmark.enabled and benchmark.name == "test_knows_that_it_is_enabled"

def test_weaves(benchmark):
    import woven
    benchmark.weave("woven.work")
    assert woven.work(4) == 16
    benchmark._cleanup()
    assert woven.work.__name__ == "work"

def test_refuses_a_second_call(benchmark):
    benchmark(sum, [1])
    benchmark(sum, [2])

def test_refuses_many_calls_of_what_is_set_up(benchmark):
    benchmark.pedantic(sum, args=([1],), setup=lambda: None, iterations=3, rounds=3)

def test_refuses_arguments_twice(benchmark):
    benchmark.pedantic(sum, args=([1],), setup=lambda: (([2],), {}), rounds=3)

def test_is_right_afterwards(benchmark):
    assert benchmark(sum, [1, 2]) == 4
"""
# A stand-in for aspectlib, by which pytest-benchmark weaves.
ASPECTLIB = """\
import importlib
class weave:
    def __init__(self, target, aspect):
        module, _, self.name = target.rpartition(".")
        self.module = importlib.import_module(module)
        self.before = getattr(self.module, self.name)
        setattr(self.module, self.name, aspect(self.before))
    def rollback(self):
        setattr(self.module, self.name, self.before)
"""
WOVEN = "def work(number):\n    return number ** 2\n"

# What cannot be timed. SIDE: the side that goes wrong alone.
TROUBLED = """\
import os, sys, time
import pytest
SIDE = "PERFQ_FAKES_SIDE" in os.environ

def test_never(benchmark):
    pass
def test_once(benchmark):
    benchmark.pedantic(sum, args=([1],))
def test_skipped(benchmark):
    pytest.skip("no such machine")
def test_before(benchmark):
    assert not SIDE, "the wrong side"
    benchmark(sum, [1])
def test_both(benchmark):
    assert 1 == 2
def test_fixture(benchmark, nowhere):
    benchmark(sum, [1])
def test_raises(benchmark):
    benchmark(time.sleep, "long")
def test_after(benchmark):
    assert benchmark(sum, [1, SIDE]) == 1
def test_in_a_block(benchmark):
    calls = []
    def work():
        calls.append(time.sleep(1e-4))
        if len(calls) > 20 and SIDE: raise RuntimeError("worn out")
    benchmark(work)
@pytest.fixture
def torn():
    yield
    raise OSError("left open")
def test_torn(benchmark, torn):
    benchmark(sum, [1])
def test_hangs(benchmark):
    if SIDE: time.sleep(600)
    benchmark(sum, [1])
def test_uneven(benchmark):
    benchmark.pedantic(time.sleep, args=(1e-4,), iterations=30 if SIDE else 10, rounds=3)
def test_renewed(benchmark):
    if SIDE:
        benchmark.pedantic(sum, setup=lambda: (([1],), {}), rounds=3)
    else:
        benchmark(sum, [1])
def test_traced(benchmark):
    assert benchmark(sys.gettrace) is None
def test_fine(benchmark):
    benchmark(time.sleep, 1e-4)
"""
