"""Tests of pytest-benchmark as entries of a run: what is stored of them by scripted sides, then whole runs with real workers."""

import contextlib
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
from scripted import BASE_NS, Pair, Script, case
from taking_part import BENCHMARKED, environment

from pytest_perfq.cli.bisect import _case
from pytest_perfq.core.benchmarks import case_of
from pytest_perfq.core.fingerprint import Fingerprint
from pytest_perfq.core.measurement import Measurement
from pytest_perfq.core.rules import Rules
from pytest_perfq.errors import UnknownName, UsageError
from pytest_perfq.store import Store
from pytest_perfq.trials import running
from pytest_perfq.trials.ahead import Ahead
from pytest_perfq.trials.beforehand import Beforehand
from pytest_perfq.trials.entry import Collected, Entry, matched, varied
from pytest_perfq.trials.running import Trials
from pytest_perfq.trials.sides import Sides

SUITE = """\
import pytest
from work import work
@pytest.mark.parametrize("n", {numbers})
def test_work(benchmark, n):
    assert benchmark(work, n) == n
"""
WORK = """\
import time
def work(n):
    time.sleep({ms} / 1e3)
    return n
"""
NAME = "benchmark/test_it.py::test_work[1]"


class Told(Pair):
    """profile: fails the test; a call has no operators."""

    def fingerprints(self, device):
        return {side: Fingerprint({"asked for": device}).to_json() for side in "ab"}


class Both(Script):
    base, given = SimpleNamespace(label="main"), {"threads": 1}

    @contextlib.contextmanager
    def opened(self):
        yield Told(self, 1)


def test_what_is_kept_is_a_call_and_nothing_is_profiled(alone, monkeypatch):
    monkeypatch.setattr(running, "sampler", lambda: SimpleNamespace(close=lambda: None))
    monkeypatch.setattr("pytest_perfq.trials.passes.watched", lambda attempt, *given, **how: (attempt(), None))
    found, other = case_of("test_it.py::test_work[1]"), case()
    sides = Both({found.id: 0.5}, sd=0.001)
    sides.loops[found.id] = 100
    trials = Trials([Entry(f"test_it.py::{one.id}", one, one) for one in (found, other)], sides)
    trials.run()
    (finding,) = trials.verdicts[found.id].findings
    assert (finding.status, round(finding.observed, 1)) == ("regressed", 0.5) and "explained" not in finding.note
    pair, beside = trials.pairs[found.id], trials.pairs[other.id]
    assert pair.candidate.facts["iterations"] == 100 and "iterations" not in beside.candidate.facts
    visit = pair.candidate.visits[0]
    assert set(visit.base.durations_ns) == {BASE_NS // 100} and visit.case.median_ns == pytest.approx(1.5e4, rel=0.01)
    assert set(beside.baseline.visits[0].case.durations_ns) == {BASE_NS}
    assert trials.verdicts[other.id].status == "pass"


def test_what_one_side_cannot_hold_is_refused_and_no_axis_of_it_varies():
    test, swept = Collected("test_it.py::test_work[1]", case_of("test_it.py::test_work[1]")), Collected("test.py::x", case())
    (entry,), _, _ = matched([Collected(test.nodeid, test.case, refused="main: no")], [test])
    assert entry.refused == "main: no"
    assert [one.name for one in varied([test, swept], "backend=eager")] == [swept.case.id]
    with pytest.raises(UsageError, match=r"tests of pytest-benchmark have no axis to vary; hold two revisions or two environm"):
        varied([test], "backend=eager")
    # What was written wrongly comes first.
    with pytest.raises(
        UsageError, match=r"'eager' names no configuration; give AXIS=VALUE, such as backend=eager, or original"
    ):
        varied([test], "eager")
    with pytest.raises(UsageError, match="unknown axis to vary 'batch_size'"):
        varied([test], "batch_size=2")


def test_a_run_that_varies_an_axis_passes_over_them(tmp_path):
    test = Collected("test_it.py::test_work[1]", case_of("test_it.py::test_work[1]"))
    given = SimpleNamespace(passes=0, against=None, vs="backend=eager", confirm=None, run_time=None)
    assert Beforehand(given, [test], [], tmp_path).run() == Ahead({}, {})


def test_one_is_bisected_by_either_name():
    test = Collected("test_it.py::test_work[1]", case_of("test_it.py::test_work[1]"))
    assert _case([test], NAME) is _case([test], "test_it.py::test_work[1]") is test
    with pytest.raises(UnknownName, match=r"did you mean 'benchmark/test_it\.py::test_work\[1\]'"):
        _case([test], "test_it.py::test_work[2]")


def revisions(project, *milliseconds, numbers="[1]"):
    project.write(test_it=SUITE.format(numbers=numbers))
    for ms in milliseconds:
        project.write(work=WORK.format(ms=ms))
        project.commit(f"{ms} ms")


def test_a_slower_function_is_found_by_real_workers(project, alone, tmp_path):
    trees = [tmp_path / name for name in ("one", "other")]
    for tree, ms in zip(trees, (1, 3), strict=True):
        tree.mkdir()
        (tree / "test_it.py").write_text(SUITE.format(numbers="[1]"))
        (tree / "work.py").write_text(WORK.format(ms=ms))
    one, other = (environment(tree, tree.name, plugins=BENCHMARKED) for tree in trees)
    sides = Sides(one, other, {"cache": str(tmp_path), "threads": 1}, ["."])
    entries, gone, new = matched(*sides.collected(["."]))
    trials = Trials(entries, sides, Rules(looks=(4,), noisy_looks=(4,), spending=(1.0,)), screened=False)
    trials.run()
    (finding,) = trials.verdicts[NAME].findings
    # Sleeping takes a tenth of a millisecond longer than it says, on both sides alike.
    assert gone == new == [] and finding.status == "regressed" and 1.0 < finding.observed < 2.1
    assert trials.pairs[NAME].candidate.facts["iterations"] == 1 and len(entries[0].confirm) == 4


@pytest.fixture
def benchmarked(command, monkeypatch):
    """`perfq` whose workers load pytest-benchmark too."""
    monkeypatch.setenv("PYTEST_PLUGINS", BENCHMARKED)
    return command


@pytest.mark.slow
def test_ab_holds_them_beside_the_cases_of_a_sweep(project, benchmarked):
    (project.path / "test_sweep.py").write_text(
        "from pytest_perfq import Sweep\n@Sweep(task='feather', model='light', seq_len=8, backend='plume', accuracy=False)\n"
        "def test_it(case, perfq):\n    perfq(case)\n"
    )
    project.layers(1.0)
    project.write(test_it=SUITE.format(numbers="[1, 2]"), work=WORK.format(ms=1))
    project.commit("fast")
    project.write(test_it=SUITE.format(numbers="[1, 3]"), work=WORK.format(ms=3))
    project.commit("slow")
    status, output, errors = benchmarked("ab", "HEAD~", "HEAD", "--threads", 1, "--format", "json")
    found = {one["case_id"]: one for one in json.loads(output)["cases"]}
    assert status == 1 and sorted(found) == [NAME, "synthetic-feather/light/plume@cpu/fp32/b1/s8"], errors
    finding = found[NAME]["findings"][0]
    assert finding["status"] == "regressed" and 1.0 < finding["observed"] < 2.1
    assert "explained" not in finding["note"] and not finding.get("details")
    assert f"1 case is only in HEAD~ ({project.git('rev-parse', '--short=10', 'HEAD~')}), and not compared: " in errors
    assert "test_work[2]" in errors and "test_work[3]" in errors
    with Store.open(".perfq/results.db", readonly=True) as store:
        record = next(
            one for one in store.records(store.run("last").id, latest=True) if one.nodeid == "test_it.py::test_work[1]"
        )
    kept = Measurement.from_json(record.measurement)
    assert record.status == "regressed" and kept.case == case_of("test_it.py::test_work[1]") and kept.facts["iterations"] == 1
    assert min(kept.durations_ns()) >= 3_000_000 and min(kept.visits[0].base.durations_ns) >= 1_000_000
    assert '"regressed"' in json.dumps(found[NAME]) and 'name="' in benchmarked("export", "last", "--format", "junit")[1]


def test_a_test_that_fails_on_the_candidate_alone_fails_the_comparison(project, benchmarked):
    revisions(project, 1)
    project.write(work="def work(n):\n    return -n\n")
    status, output, _ = benchmarked("ab", "HEAD", ".", "--threads", 1, "--format", "json")
    (found,) = json.loads(output)["cases"]
    assert (
        status == 1
        and found["status"] == "fail"
        and found["findings"][0]["note"]
        == ("the working tree: test_it.py::test_work[1] fails after its benchmark: assert -1 == 1 (test_it.py:5)")
    )


def test_where_nothing_can_be_timed_it_says_so(project, benchmarked):
    project.write(test_it="def test_it(benchmark):\n    pass\n")
    project.commit("one")
    status, _, errors = benchmarked("ab", "HEAD", ".", "--threads", 1)
    told = "perfq: nothing is left to compare: "
    assert status == 3 and (f"{told}HEAD (" in errors or f"{told}the working tree: " in errors)
    assert "test_it.py::test_it gives its benchmark fixture nothing to time; call benchmark(...) in it" in errors
    status, _, errors = benchmarked("ab", "--vs", "backend=eager")
    assert status == 3 and "tests of pytest-benchmark have no axis to vary; hold two revisions or two environm" in errors


@pytest.mark.slow
def test_what_a_baseline_suspects_is_confirmed_against_a_revision(project, monkeypatch):
    """Nothing is watched: on a busy machine visits would be repeated."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_PLUGINS", f"{BENCHMARKED},perfq_calm")
    revisions(project, 1)
    quick = ("--perf-benchmarks", "--perf-passes=1", "--perf-threads=1", "--benchmark-max-time=0.01", "-p", "no:cacheprovider")

    def run(*args):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *quick, *args], cwd=project.path, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    status, output = run("--perf-save=base")
    assert status == 0 and "1 of 1, case 1 of 1: benchmark/test_it.py::test_work[1]" in output, output
    project.write(work=WORK.format(ms=3))
    status, output = run("--perf-against=base", "--perf-confirm=HEAD")
    assert status == 1 and "regressed: slow-down from the base +" in output, output
    assert "; against HEAD (" in output and "3 visits to screen it and 8 fresh visits to confirm it" in output
    assert "1 passed" not in output and "1 failed" in output
    with Store.open(".perfq/results.db", readonly=True) as store:
        (record,) = store.records(store.runs()[0].id, latest=True)
    kept = Measurement.from_json(record.measurement)
    # The visit of the pass, made before the test itself ran.
    assert len(kept.visits) == 1 and kept.visits[0].anchor is not None and min(kept.durations_ns()) >= 3_000_000


def test_a_commit_that_gives_nothing_to_time_is_skipped_in_a_search(project, benchmarked):
    project.write(test_it="def test_it(benchmark):\n    benchmark(sum, [1])\n")
    project.commit("good")
    project.write(test_it="import pytest\ndef test_it(benchmark):\n    pytest.skip('later')\n    benchmark(sum, [1])\n")
    bad = project.commit("bad")
    status, _, errors = benchmarked("bisect", "test_it.py::test_it", "HEAD~", "HEAD", "--threads", 1)
    assert status == 3 and f"HEAD cannot be measured: {bad[:10]}: test_it.py::test_it is skipped: later" in errors
