"""Whole runs: the asserted GPU, saving, comparing, killing and resuming."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from pytest_perfq.core.finding import Finding, Verdict
from pytest_perfq.store import Store


def gpus_here():
    from pytest_perfq import device

    return device.gpu_present()


@pytest.mark.skipif(gpus_here(), reason="asserts what happens on a machine without a GPU")
def test_an_asserted_gpu_that_is_not_here(house):
    house.suite(
        "backend='eager', batch_size=[1, 2], budgets=[Budget(min_score=0.85), Budget(where={'gpu': 't4', 'kind': 'latency'}, p95_ms=3)]"
    )
    result = house.run("--perf-gpu=t4", "-rs")
    assert result.ret == 0 and result.parseoutcomes() == {"passed": 1, "skipped": 2}
    assert "--perf-gpu=t4 asserts a t4, and this machine has no GPU" in result.stdout.str()
    statuses = [status for _, status in sorted(house.records())]
    assert statuses == ["pass", "unmeasured", "unmeasured"]
    assert ["@cpu" in name for name, _ in sorted(house.records())] == [True, False, False]  # no cpu number under a cuda name
    strict = house.run("--perf-gpu=t4", "--perf-strict")
    assert strict.ret == 1 and strict.parseoutcomes() == {"passed": 1, "failed": 2}
    house.monkeypatch.setenv("CI", "true")
    assert house.run("--perf-gpu=t4").ret == 1
    assert house.run("--perf-gpu=t4", "--no-perf-strict").ret == 0


def test_saved_twice_and_compared_is_never_a_regression(house):
    house.suite("backend=['eager', 'slow[ms=3]'], batch_size=1")
    for name in ("one", "two"):
        assert house.run(f"--perf-save=baselines/{name}").ret == 0
    code, text = house.perfq("compare", "baselines/one", "baselines/two")
    assert code in (0, 2), text
    assert house.run("--perf-against=baselines/one").ret == 0
    assert house.perfq("compare", "baselines/one", "baselines/one")[0] in (0, 2)


def test_a_slower_model_is_named(house):
    wait = house.path / "ms"
    house.monkeypatch.setenv("PERFQ_FAKES_MS", str(wait))
    house.suite("backend='slow', batch_size=1")
    wait.write_text("2")
    options = ("--perf-visits=4", "--perf-time=300ms", "--perf-passes=0", "-p", "no:randomly")
    assert house.run(*options, "--perf-save=baselines/fast", quick=False).ret == 0
    wait.write_text("12")
    assert house.run(*options, "--perf-save=baselines/slow", quick=False).ret == 0
    code, text = house.perfq("compare", "baselines/fast", "baselines/slow")
    assert code == 1 and "slow@cpu/fp32/b1/s8" in text and "regressed" in text.lower(), text
    result = house.run(*options, "--perf-against=baselines/fast", quick=False)
    assert result.ret == 1 and "slow@cpu/fp32/b1/s8" in result.stdout.str()


def test_a_damaged_model_is_named(house):
    damage = house.path / "damage"
    house.monkeypatch.setenv("PERFQ_FAKES_DAMAGE", str(damage))
    house.suite("backend='eager', latency=False")
    assert house.run("--perf-save=baselines/whole").ret == 0
    damage.write_text("")
    assert house.run("--perf-save=baselines/damaged").ret == 0  # no promise was broken; the baseline knows better
    code, text = house.perfq("compare", "baselines/whole", "baselines/damaged")
    assert code == 1 and "eager@cpu/fp32/accuracy" in text and "tiny-" in text, text
    assert house.run("--perf-against=baselines/whole").ret == 1


def test_a_place_that_is_taken_is_refused_before_measuring(house):
    house.suite("latency=False")
    assert house.run("--perf-save=baselines/v1").ret == 0
    again = house.run("--perf-save=baselines/v1")
    assert again.ret == 4 and "baselines/v1" in again.stderr.str() and "--perf-overwrite" in again.stderr.str()
    assert house.run("--perf-save=baselines/v1", "--perf-overwrite").ret == 0


def test_a_part_of_a_suite_does_not_take_the_place_of_the_whole(house):
    house.suite("backend=['eager', 'idle'], latency=False")
    assert house.run("--perf-save=baselines/v1").ret == 0
    part = house.run("-k", "idle", "--perf-save=baselines/v1", "--perf-overwrite")
    assert part.ret == 4 and "baselines/v1, which has 2 cases, 1 of them deselected here: " in part.stderr.str()
    assert "eager@cpu/fp32/accuracy; run the whole suite, or save under another name" in part.stderr.str()
    assert house.run("-k", "idle", "--perf-save=baselines/part", "--perf-overwrite").ret == 0
    house.suite("backend=['idle'], latency=False")  # what the suite has no longer may go
    assert house.run("--perf-save=baselines/v1", "--perf-overwrite").ret == 0


def test_a_run_says_what_it_saved_and_which_cases_its_baseline_does_not_have(house):
    both = "latency=False, budgets=Budget(min_score=0.85)"
    house.suite(f"backend=['eager', 'wrong'], {both}")
    first = house.run("--perf-save=baselines/v1")
    saved = (
        "saved 2 cases as baselines/v1, 1 of which fails or is invalid; hold a run against it with --perf-against=baselines/v1"
    )
    assert first.ret == 1 and first.stdout.str().count(saved) == 1
    house.suite(f"backend=['eager', 'idle'], {both}")
    second = house.run("--perf-against=baselines/v1")
    text = " ".join(second.stdout.str().split())
    told, _, step = text.partition("; once it is right, save the suite with --perf-save, or this run with: perfq ")
    assert second.ret == 0 and told.endswith(
        "1 measured case is not in the baseline baselines/v1 and was held to its own promises only: "
        "synthetic-tiny/tiny-model/idle@cpu/fp32/accuracy; changing a configuration renames its case"
    )
    accept = step.split()[:4]
    code, text = house.perfq(*accept)
    assert accept[0] == "accept" and code == 3 and "has 1 of the 2 cases of baselines/v1, and in its place would drop" in text
    assert house.perfq(*accept, "--subset")[0] == 0
    third = house.run("--perf-against=baselines/v1")
    assert third.ret == 0 and "not in the baseline" not in third.stdout.str()


def test_a_run_that_judged_nothing_says_that_it_saved_nothing(house):
    house.suite("backend='eager', quantization=Dynamic('MatMul')")
    result = house.run("--perf-save=baselines/v1")
    assert result.parseoutcomes() == {"skipped": 2} and not (house.path / "baselines/v1").exists()
    assert "no baseline was saved as baselines/v1" in result.stdout.str()


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("--perf-vs=orig", "--perf-only=accuracy"), "'orig' names no configuration; give AXIS=VALUE, such as backend=eager"),
        (("--perf-vs=backend=eager",), "every case is backend=eager already; give another value to hold it against"),
        (("--perf-vs=quantization=int9",), "unknown quantization among the cases 'int9'; known: none"),
        (("--perf-against=v1", "--perf-confirm=mian"), "no revision 'mian'"),
        # Nothing is timed, and the option is wrong all the same.
        (("--perf-against=v1", "--perf-confirm=mian", "--perf-only=accuracy"), "no revision 'mian'"),
        (
            ("--perf-against=v1", "--perf-confirm=main", "--perf-only=accuracy"),
            " is in no git repository; go into one, or leave out --perf-confirm=main",
        ),
    ],
)
def test_what_no_case_can_be_held_against_is_told_before_a_run_is_begun(house, args, sentence):
    house.suite("backend='eager'")
    if "--perf-against=v1" in args:
        if "--perf-confirm=mian" in args:
            house.pytester.run("git", "init", "-q")
        assert house.run("--perf-save=v1", "--perf-only=accuracy", "--perf-store=other.db").ret == 0
    result = house.run("-p", "no:randomly", *args, quick=False)
    text = " ".join((result.stdout.str() + result.stderr.str()).split())
    assert result.ret == 4 and sentence in text, text
    assert "--perf-resume" not in text and not (house.path / ".perfq").exists()


def test_kill_and_resume(house):
    house.suite("backend='slow[ms=10]', batch_size=[1, 2, 3, 4, 5]")
    options = ("-q", "-p", "no:randomly", "--perf-time=300ms", "--perf-visits=2")
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, "--perf-threads=1", "-p", "perfq_calm", "-p", "perfq"],
        cwd=house.path, stdout=subprocess.DEVNULL, start_new_session=True,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # loading all that are installed here takes seconds
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while len(_done(house)) < 3:
        assert time.monotonic() < deadline and run.poll() is None
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    before = _done(house)
    assert 3 <= len(before) < 6
    other = house.run("-q", "--perf-time=2s", "--perf-visits=2", "--perf-resume", quick=False)
    assert other.ret == 4 and "time=0.3" in other.stdout.str() + other.stderr.str()  # not the same run
    part = house.run(*options, "--perf-resume", "-k", "b1 or b2", quick=False)
    assert part.ret == 0 and "this run is unfinished" in part.stdout.str()  # a part does not close the whole
    resumed = house.run(*options, "--perf-resume", quick=False)
    assert resumed.ret == 0 and resumed.parseoutcomes() == {"passed": 6}
    assert re.search(r"resumed: [3-5] of 6 cases had been measured before, and stand as they were", resumed.stdout.str())
    after = _done(house)
    assert len(after) == 6 and set(before) < set(after)
    # What was there was taken over as it was, not measured again.
    assert [after[name] for name in before] == list(before.values())


def test_what_was_measured_in_all_its_passes_but_not_judged_is_judged_when_resumed(house):
    """The run was killed after its last pass, before its first item."""
    house.suite("backend='eager', batch_size=1, accuracy=False")
    assert house.run().ret == 0
    with Store.open(str(house.path / ".perfq/results.db")) as store:
        whole = store.runs()[0]
        (record,) = store.records(whole.id)
        run = store.begin_run([], whole.settings)
        note = "cut off before it was judged, after 2 of 2 visits"
        cut_off = Verdict(record.case_id, (Finding(rule="measured", status="inconclusive", note=note),))
        store.record(run, record.nodeid, record.measurement, cut_off.to_json())
    for _ in range(2):
        assert house.run("--perf-resume").ret == 0
        with Store.open(str(house.path / ".perfq/results.db"), readonly=True) as store:
            found = store.records(run)
        assert [one.status for one in found] == ["inconclusive", "pass"] and found[1].measurement == record.measurement
        assert [one.judged for one in found] == [False, True]
        with Store.open(str(house.path / ".perfq/results.db")) as store, store._engine.begin() as connection:
            # As if it had been killed once more: there is nothing left to judge.
            connection.exec_driver_sql("UPDATE perfq_runs SET finished_s = NULL")


def _done(house):
    """nodeid -> raw durations of every record of the newest run."""
    from pytest_perfq.errors import StoreError

    try:
        with Store.open(str(house.path / ".perfq/results.db"), readonly=True) as store:
            runs = store.runs()
            return {name: str(one.measurement["visits"]) for name, one in store.done(runs[0].id).items()} if runs else {}
    except StoreError:
        return {}
