"""Tests of pytest-benchmark under --perf-benchmarks: visited beside the anchor, judged, remembered, and left as they were."""

import json
import re

import pytest

from pytest_perfq import baselines
from pytest_perfq.core.benchmarks import called_once
from pytest_perfq.core.measurement import Measurement
from pytest_perfq.store import Store

FAST = "-p no:randomly -p no:cacheprovider --benchmark-max-time=0.01 --benchmark-min-rounds=3 --perf-time=300ms --perf-passes=0"
SUITE = """\
import os, time
def work():
    time.sleep(float(os.environ.get("PERFQ_TEST_MS", 1)) / 1e3)
def test_work(benchmark):
    benchmark(work)
"""


class Bench:
    """pytest with --perf-benchmarks over one file of tests."""

    def __init__(self, house, monkeypatch):
        self.house, self.path, self.monkeypatch = house, house.path, monkeypatch

    def run(self, *args, text=SUITE, ms=1, apart=False):
        self.house.pytester.makepyfile(test_it=text)
        self.monkeypatch.setenv("PERFQ_TEST_MS", str(ms))
        return self.house.run("--perf-benchmarks", *FAST.split(), *args, quick=False, apart=apart)

    def measurements(self):
        with Store.open(str(self.path / ".perfq/results.db"), readonly=True) as store:
            found = store.records(store.runs()[0].id)
        return {one.nodeid: Measurement.from_json(one.measurement) for one in found}


@pytest.fixture
def bench(house, monkeypatch):
    import perfq_calm

    import pytest_perfq.benchmarks  # noqa: F401 - pytester would drop what a run in this process brings in
    from pytest_perfq.device import sampler

    monkeypatch.setattr(sampler, "sampler", perfq_calm.unwatched)
    return Bench(house, monkeypatch)


def test_a_test_is_visited_beside_the_anchor_and_kept_while_pytest_benchmark_measures_as_ever(bench):
    ran = bench.run("--benchmark-json=theirs.json")
    assert ran.ret == 0
    ran.stdout.fnmatch_lines(["latency of benchmark/test_it.py", "*test_work*pass*", "*benchmark: 1 tests*"])
    assert bench.house.records() == [("test_it.py::test_work", "pass")]
    (found,) = bench.measurements().values()
    assert found.case.id == "benchmark/test_it.py::test_work"
    assert len(found.visits) == 3
    for visit in found.visits:
        assert len(visit.case.durations_ns) >= 5 and len(visit.anchor.durations_ns) == len(visit.case.durations_ns)
        # A sleep of a millisecond takes at least that.
        assert min(visit.case.durations_ns) >= 1_000_000
    theirs = json.loads((bench.path / "theirs.json").read_text())["benchmarks"]
    assert [one["fullname"] for one in theirs] == ["test_it.py::test_work"] and theirs[0]["stats"]["rounds"] >= 3


def test_without_the_option_nothing_is_judged(bench):
    bench.house.pytester.makepyfile(test_it=SUITE)
    ran = bench.house.run(*FAST.split(), quick=False)
    assert ran.ret == 0 and "latency of" not in ran.stdout.str()
    assert not (bench.path / ".perfq").exists()


def test_the_ini_file_asks_for_it_as_well(bench):
    bench.house.pytester.makeini("[pytest]\nperf_benchmarks = true\n")
    bench.house.pytester.makepyfile(test_it=SUITE)
    assert bench.house.run(*FAST.split(), quick=False).ret == 0
    assert bench.house.records() == [("test_it.py::test_work", "pass")]


def test_a_slower_function_is_named_against_a_saved_baseline(bench):
    assert bench.run("--perf-save=base", ms=1).ret == 0
    assert list(baselines.load(bench.path / "base")) == ["benchmark/test_it.py::test_work"]
    ran = bench.run("--perf-against=base", ms=4)
    assert ran.ret == 1
    ran.stdout.fnmatch_lines(["*regressed: slow-down from the baseline +*%*, at most +5.0%*", "*test_work*regressed*"])
    found = re.search(r"slow-down from the baseline \+(\d+)\.", ran.stdout.str())
    assert 150 < int(found[1]) < 600  # four times the sleep, and the anchor is as noisy as the machine
    assert bench.house.records() == [("test_it.py::test_work", "regressed")]


def test_the_same_function_is_not_called_slower(bench):
    bench.run("--perf-save=base", ms=3)
    ran = bench.run("--perf-against=base", ms=3)
    assert ran.ret == 0 and "regressed" not in ran.stdout.str()


def test_promises_of_a_marker_hold(bench):
    text = SUITE.replace("def test_work", "import pytest\n@pytest.mark.perfq(p50_ms=0.5)\ndef test_work")
    ran = bench.run(text=text)
    assert ran.ret == 1
    ran.stdout.fnmatch_lines(["*fail: p50 1* ms*at most 0.5 ms*"])
    ran = bench.run(text=text.replace("p50_ms=0.5", "p51_ms=0.5"))
    assert ran.ret == 1
    ran.stdout.fnmatch_lines(["*usage error: *p51_ms*"])


@pytest.mark.slow
def test_under_xdist_every_test_is_visited_though_pytest_benchmark_is_disabled(bench):
    text = SUITE + "def test_more(benchmark):\n    benchmark(sorted, list(range(500)))\ndef test_other():\n    pass\n"
    ran = bench.run("-n2", text=text, apart=True)
    assert ran.ret == 0, ran.stdout.str()
    assert dict(bench.house.records()) == {"test_it.py::test_work": "pass", "test_it.py::test_more": "pass"}
    found = bench.measurements()
    assert all(len(one.visits) == 3 and one.visits[0].anchor is not None for one in found.values())
    # Only one section is timed at a time.
    spans = [[visit.case.started_s for visit in one.visits] for one in found.values()]
    assert len({start for span in spans for start in span}) == 6


@pytest.mark.slow
def test_under_xdist_a_slower_function_is_named_and_the_others_are_not(bench):
    text = SUITE + "def test_other():\n    pass\n"
    ran = bench.run("-n2", "--perf-save=base", text=text, apart=True)
    assert ran.ret == 0 and len(baselines.load(bench.path / "base")) == 1, ran.stdout.str()
    ran = bench.run("-n2", "--perf-against=base", text=text, ms=4, apart=True)
    assert ran.ret == 1, ran.stdout.str()
    ran.assert_outcomes(passed=1, failed=1)
    ran.stdout.fnmatch_lines(["*regressed: slow-down from the baseline +*"])


def test_pedantic_keeps_its_setup_its_teardown_and_its_iterations(bench):
    text = """\
        import time
        log = []
        def setup():
            log.append("setup")
            return ([3, 1, 2],), {"reverse": True}
        def work(values, reverse):
            assert log[-1] == "setup" and values == [3, 1, 2] and reverse
            log.append("work")
            values.sort()
            time.sleep(1e-3)
        def test_fresh(benchmark):
            benchmark.pedantic(work, setup=setup, rounds=4)
        def test_loops(benchmark):
            benchmark.pedantic(sum, args=([1, 2],), rounds=4, iterations=25)
        def test_after(benchmark):
            assert log.count("setup") == log.count("work") > 20
    """
    ran = bench.run(text=text)
    ran.assert_outcomes(passed=3)
    found = bench.measurements()
    assert list(found) == ["test_it.py::test_fresh", "test_it.py::test_loops"]
    assert [one.facts["iterations"] for one in found.values()] == [1, 25]
    assert min(found["test_it.py::test_fresh"].durations_ns()) >= 1_000_000


def test_a_call_that_must_not_be_repeated_is_not(bench):
    text = """\
        calls = []
        def test_once(benchmark):
            benchmark.pedantic(calls.append, args=(1,))
        def test_after():
            assert len(calls) == 1
    """
    ran = bench.run(text=text)
    ran.assert_outcomes(passed=2)
    (found,) = bench.measurements().values()
    assert len(found.durations_ns()) == 1 and found.visits[0].anchor is None and called_once(found)
    ran = bench.run("--benchmark-disable", text=text)
    ran.assert_outcomes(passed=2)
    (found,) = bench.measurements().values()
    assert found.unmeasured == (
        "benchmark.pedantic(rounds=1) is one call and is not repeated, and pytest-benchmark was disabled, as it is under xdist; "
        "give it more rounds"
    )
    assert bench.run("--benchmark-disable", "--perf-strict", text=text).ret == 1


def test_a_test_that_fails_by_itself_is_not_judged(bench):
    text = """\
        def test_wrong(benchmark):
            assert benchmark(sum, [1, 2]) == 4
        def test_raises(benchmark):
            benchmark(int, "x")
        def test_unused(benchmark):
            pass
    """
    ran = bench.run(text=text)
    ran.assert_outcomes(passed=1, failed=2)
    ran.stdout.fnmatch_lines(["*assert 3 == 4*", "*ValueError*"])
    assert bench.house.records() == []


def test_what_breaks_only_when_repeated_fails_as_it_is(bench):
    text = """\
        calls = []
        def work():
            calls.append(1)
            if len(calls) > 1: raise RuntimeError("not twice")
        def test_it(benchmark):
            benchmark(work)
    """
    ran = bench.run("--benchmark-disable", text=text)
    ran.assert_outcomes(failed=1)
    ran.stdout.fnmatch_lines(["*RuntimeError: not twice*"])
    assert bench.house.records() == []


def test_without_pytorch_there_is_no_anchor_and_that_is_said(bench, monkeypatch):
    monkeypatch.setattr("pytest_perfq.benchmarks.find_spec", lambda name: None)
    assert bench.run().ret == 0
    (found,) = bench.measurements().values()
    assert {visit.anchor for visit in found.visits} == {None}
    assert found.facts["anchor"] == "none: it is made of PyTorch, which is not installed here"
    assert "anchor" not in found.fingerprint.stack


def test_without_pytest_benchmark_the_option_says_what_it_needs(bench):
    bench.house.pytester.makepyfile(test_it="def test_it(): pass")
    ran = bench.house.run("--perf-benchmarks", "-p", "no:benchmark", quick=False, apart=True)
    assert ran.ret == 4
    assert "--perf-benchmarks visits the tests of pytest-benchmark, which is not loaded; install it" in ran.stderr.str()


def test_fast_calls_are_timed_by_the_round(bench):
    bench.run(text="def test_it(benchmark):\n    benchmark(len, ())\n")
    (found,) = bench.measurements().values()
    assert found.facts["iterations"] > 100
    assert all(1 <= one < 100_000 for one in found.durations_ns())
