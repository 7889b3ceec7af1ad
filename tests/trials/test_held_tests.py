"""Tests of pytest-benchmark in real workers: held at their call, timed in blocks, let go on. What their fixture does is held
against pytest-benchmark itself."""

import re
import subprocess
import sys
import time

import pytest
from benchmark_tests import ASPECTLIB, PROMISES, TROUBLED, WOVEN
from taking_part import BENCHMARKED, environment
from throwaway import FEATHER, Project, variables

from pytest_perfq.core.benchmarks import case_of, nodeid_of
from pytest_perfq.errors import ProgramError, UsageError
from pytest_perfq.trials import sides
from pytest_perfq.trials.entry import matched
from pytest_perfq.trials.opened import Blamed, Lost, Refused
from pytest_perfq.trials.sides import Sides
from pytest_perfq.trials.worker import Worker

ARGS = ["-p", "no:cacheprovider"]
NAMES = re.findall(r"^def (test_\w+)", PROMISES, re.M)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables().items():
            patch.setenv(name, value)
        found = Project(tmp_path_factory.mktemp("held") / "project")
    found.write(test_promises=PROMISES, aspectlib=ASPECTLIB, woven=WOVEN, tests__test_troubled=TROUBLED)
    return found.path


@pytest.fixture(scope="module")
def worker(folder, given):
    with Worker(environment(folder, plugins=f"{BENCHMARKED},xdist.plugin"), given) as found:
        yield found


@pytest.fixture(scope="module")
def everything(folder, given):
    """A worker with all the plugins that are installed here."""
    with Worker(environment(folder), given) as found:
        yield found


@pytest.fixture(scope="module")
def both(folder, given):
    """Two sides, the candidate's being the one that goes wrong."""
    base = environment(folder, plugins=BENCHMARKED)
    return Sides(base, environment(folder, "the change", "bad", plugins=BENCHMARKED), given, ARGS)


@pytest.fixture(scope="module")
def opened(both):
    with both.opened() as found:
        yield found


@pytest.fixture(scope="module")
def theirs(folder):
    """What pytest-benchmark itself makes of the promises: name -> the last line of its failure, None of a test that passes."""
    quick = ("--benchmark-max-time=0.01", "--benchmark-warmup=off", "-rfE", "--tb=line", "-q")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *ARGS, *quick, "test_promises.py"],
        cwd=folder, env=environment(folder, plugins=BENCHMARKED).variables_of_process(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    failed = dict(re.findall(r"^FAILED test_promises\.py::(\w+) - (.*)$", ran.stdout, re.M))
    assert ran.returncode == 1, ran.stdout + ran.stderr
    return {name: failed.get(name) for name in NAMES}


def troubled(name):
    return case_of(f"tests/test_troubled.py::test_{name}")


def held(worker, case):
    """Prepares, times and lets go of a test: what was prepared, and its rounds, ns."""
    facts = worker.ask("prepare", 60, side="a", case=case.to_json(), args=ARGS)
    worker.ask("warm", 60, side="a")
    _, timed = worker.ask("block", 60, side="a", rounds=10, settle=False)
    worker.ask("audit", 60, side="a")
    return facts, timed


@pytest.mark.parametrize("name", NAMES)
def test_a_held_test_sees_what_pytest_benchmark_shows_it(worker, theirs, name):
    case = case_of(f"test_promises.py::{name}")
    if theirs[name] is None:
        assert len(held(worker, case)[1]) == 10
        return
    with pytest.raises(ProgramError) as told:
        held(worker, case)
    said = re.fullmatch(
        rf"main: test_promises\.py::{name} fails (before|after) its benchmark: (.*) \(\w+\.py:\d+\)", str(told.value)
    )
    # Shortened by pytest to the width of a terminal.
    assert said and said[2].rpartition(".")[2].startswith(theirs[name].removesuffix("...").rpartition(".")[2][:20])


def test_pytest_benchmark_refuses_what_the_promises_say_it_refuses(theirs):
    failing = [name for name, said in theirs.items() if said is not None]
    assert failing == [name for name in NAMES if "refuses" in name or name == "test_is_right_afterwards"]


def test_calls_that_are_too_short_are_timed_by_the_round(worker):
    facts, timed = held(worker, case_of("test_promises.py::test_gives_back_what_the_call_gives"))
    assert facts["loops"] > 100 and facts["bytes"] is None and not facts["renewed"]
    assert sum(timed) / len(timed) > 20_000  # a whole round, of a tenth of a millisecond and more
    facts, timed = held(worker, troubled("fine"))
    assert facts["loops"] == 1 and min(timed) >= 100_000


def test_a_test_that_the_parent_leaves_goes_on_unseen(worker):
    worker.ask("prepare", 60, side="a", case=troubled("torn").to_json(), args=ARGS)
    assert len(held(worker, troubled("fine"))[1]) == 10  # nobody is told that the other is torn
    assert worker.ask("fingerprint", 60, device="cpu")["identity"]["threads"] == 1


@pytest.mark.parametrize(
    "args",
    [
        ("-o", "timeout=0.5", "-o", "timeout_func_only=true"),
        ("--cov=woven", "--cov-report=", "-n2", "--reruns=2"),
        ("--perf-benchmarks", "--benchmark-disable", "--perf-threads=1"),
    ],
    ids=["timeout", "coverage", "judged"],
)
def test_what_else_runs_tests_leaves_it_alone(everything, folder, args):
    """Held for longer than its time, traced by nobody, judged and remembered by nobody."""
    case = troubled("traced" if "--cov=woven" in args else "fine").to_json()
    everything.ask("prepare", 60, side="a", case=case, args=[*ARGS, *args])
    time.sleep(0.6)
    assert len(everything.ask("block", 60, side="a", rounds=3, settle=False)[1]) == 3
    assert everything.ask("audit", 60, side="a") is None
    assert not (folder / ".perfq").exists()


# ---- collected beside the cases of sweeps


def names(worker, *args):
    return [one["nodeid"] for one in worker.ask("collect", 60, args=[*ARGS, *args])]


def test_they_are_collected_like_cases_with_the_promises_of_their_markers(worker, folder):
    text = "import pytest\n@pytest.mark.perfq(max_slowdown=0.1)\n@pytest.mark.parametrize('n', [1, 2])\n"
    text += "def test_it(benchmark, n):\n    benchmark(sum, [n])\ndef test_other():\n    pass\n"
    (folder / "test_marked.py").write_text(text)
    found = worker.ask("collect", 60, args=[*ARGS, "test_marked.py"])
    assert [one["nodeid"] for one in found] == ["test_marked.py::test_it[1]", "test_marked.py::test_it[2]"]
    assert [one["case"]["id"] for one in found] == [
        "benchmark/test_marked.py::test_it[1]",
        "benchmark/test_marked.py::test_it[2]",
    ]
    assert [[limit["rule"] for limit in one["limits"]] for one in found] == [["max_slowdown"]] * 2
    assert nodeid_of(case_of("tests/a.py::A::test_it[x::y/z]")) == "tests/a.py::A::test_it[x::y/z]"
    assert names(worker, "test_marked.py", "-k", "2", "-n2", "--benchmark-disable") == ["test_marked.py::test_it[2]"]
    assert names(worker, "test_marked.py", "--benchmark-skip") == names(worker, "test_marked.py", "--perf-only=accuracy") == []
    (folder / "test_mistaken.py").write_text(text.replace("max_slowdown", "most_slowdown"))
    with pytest.raises(UsageError, match=r"main: test_mistaken\.py::test_it\[1\]: .*most_slowdown"):
        names(worker, "test_mistaken.py")


def test_somebody_elses_fixture_of_that_name_is_none(worker, folder):
    text = "import pytest\n@pytest.fixture\ndef benchmark():\n    return len\ndef test_it(benchmark):\n    benchmark(())\n"
    (folder / "test_own.py").write_text(text)
    assert names(worker, "test_own.py", "-p", "no:pytest_benchmark.plugin") == []


def test_a_side_without_pytest_benchmark_is_named(folder, given):
    without = environment(folder, "old", plugins="pytest_perfq.plugin")
    base, candidate = Sides(without, environment(folder, plugins=BENCHMARKED), given).collected(["tests", "-k", "fine"])
    (entry,), gone, new = matched(base, candidate)
    assert gone == new == [] and entry.over
    assert entry.refused == (
        "old: tests/test_troubled.py::test_fine needs pytest-benchmark, which is not loaded; install it there"
    )


# ---- what cannot be held, and whose fault it is


def prepared(opened, name):
    opened.prepare(troubled(name), troubled(name))
    found = opened.sides()
    for side in "ab":
        found[side].warm()
    timed = {side: found[side].block(30, False)[1] for side in "ab"}
    opened.audit()
    return timed


@pytest.mark.parametrize(
    "name, sentence",
    [
        ("never", "gives its benchmark fixture nothing to time; call benchmark(...) in it"),
        ("once", "benchmark.pedantic(rounds=1) is one call and is not repeated; give it more rounds"),
        ("skipped", "is skipped: no such machine"),
        ("gone", "is not among the tests any more that pytest finds with -p no:cacheprovider"),
    ],
)
def test_what_gives_nothing_to_time_is_not_compared(opened, name, sentence):
    with pytest.raises(Refused) as told:
        prepared(opened, name)
    said = f"tests/test_troubled.py::test_{name}{':' if name == 'once' else ''} {sentence}"
    assert str(told.value) in (f"main: {said}", f"the change: {said}")


@pytest.mark.parametrize(
    "name, candidate, sentence",
    [
        (
            "before",
            True,
            r"the change: .*::test_before fails before its benchmark: AssertionError: the wrong side \(test_tro.*:\d+\)",
        ),
        ("both", False, r"main: .*::test_both fails before its benchmark: assert 1 == 2 \(test_troubled\.py:\d+\)"),
        ("fixture", False, r"main: .*::test_fixture fails before its benchmark: fixture 'nowhere' not found"),
        ("raises", False, r"main: .*::test_raises fails in its benchmark: TypeError: .*\(benchmark_call\.py:\d+\)"),
        ("in_a_block", True, r"the change: RuntimeError: worn out \(test_troubled\.py:\d+\)"),
        ("after", True, r"the change: .*::test_after fails after its benchmark: assert 2 == 1 \(test_troubled\.py:\d+\)"),
        ("torn", False, r"main: .*::test_torn fails after its benchmark: OSError: left open \(test_troubled\.py:\d+\)"),
    ],
)
def test_a_test_that_fails_is_the_fault_of_its_side_or_of_neither(opened, name, candidate, sentence):
    with pytest.raises(Blamed) as told:
        prepared(opened, name)
    assert re.fullmatch(sentence, str(told.value)) and told.value.candidate is candidate, str(told.value)
    assert len(prepared(opened, "fine")["b"]) == 30  # no answer is left over


def test_both_sides_make_as_many_calls_a_round(opened):
    timed = prepared(opened, "uneven")
    assert min(timed["a"]) >= 30 * 100_000 and min(timed["b"]) >= 30 * 100_000
    prepared(opened, "renewed")
    assert opened._loops["benchmark/tests/test_troubled.py::test_uneven"] == 30
    assert opened._loops["benchmark/tests/test_troubled.py::test_renewed"] == 1


def test_a_test_that_hangs_is_ended_after_its_limit(both, monkeypatch):
    with both.opened() as found:
        found.prepare(troubled("fine"), troubled("fine"))  # pytest is loaded
        monkeypatch.setattr(sides, "PREPARE_S", 3.0)
        with pytest.raises(Lost) as told:
            found.prepare(troubled("hangs"), troubled("hangs"))
    assert told.value.candidate is True and str(told.value) == (
        "the worker of the change did not answer 'prepare' within 3 s and was ended; see whether the case hangs there"
    )


def test_a_visit_of_a_pass_has_an_anchor_beside_the_call(worker, folder):
    given = {"limits": [], "time_s": 0.05, "precision": 0.5, "passes": 1, "args": ARGS}
    found = worker.ask("time", 60, case=case_of("test_promises.py::test_knows_its_statistics").to_json(), **given)
    (visit,) = found["visits"]
    assert min(visit["case"]["durations_ns"]) >= 1_000_000 and len(visit["anchor"]["durations_ns"]) >= 5
    with pytest.raises(UsageError, match=r"test_once: benchmark\.pedantic\(rounds=1\) is one call and is not repeated"):
        worker.ask("time", 60, case=troubled("once").to_json(), **given)
    with pytest.raises(ProgramError, match="fails after its benchmark: OSError: left open"):
        worker.ask("time", 60, case=troubled("torn").to_json(), **given)


def test_cases_of_sweeps_and_these_live_in_one_run(worker, folder):
    text = f"from pytest_perfq import Sweep\n@Sweep(task='feather', model='light', seq_len=8, {FEATHER})\n"
    text += "def test_it(case, perfq):\n    perfq(case)\ndef test_more(benchmark):\n    benchmark(sum, [1])\n"
    (folder / "test_mixed.py").write_text(text)
    (folder / "layers.py").write_text("def forward(ids):\n    return [[float(row.sum()), 1.0] for row in ids]\n")
    case, test = (one["case"] for one in worker.ask("collect", 60, args=[*ARGS, "test_mixed.py"]))
    worker.ask("prepare", 60, side="a", case=test, args=ARGS)
    assert worker.ask("refuses", 60, case=case) == []
    assert worker.ask("prepare", 60, side="a", case=case) == {"bytes": 1000}
    assert len(worker.ask("block", 60, side="a", rounds=3, settle=False)[1]) == 3
    assert worker.ask("audit", 60, side="a") is None
