"""Real worker processes: what they answer, and whose fault is told. Few, since each takes a second to start."""

import os
import sys
import time

import pytest
from taking_part import environment, plume

from pytest_perfq.core.spec import Spec
from pytest_perfq.device.cpu import cores_for
from pytest_perfq.device.lock import device_lock
from pytest_perfq.errors import ProgramError, Unavailable, UsageError
from pytest_perfq.trials.opened import Blamed, Refused
from pytest_perfq.trials.sides import Sides
from pytest_perfq.trials.worker import PROTOCOL, Worker


@pytest.fixture(scope="module")
def worker(folder, given):
    with Worker(environment(folder, side="bad"), given) as found:
        yield found


@pytest.fixture(scope="module")
def opened(folder, given):
    """Two workers, the candidate's being the one that goes wrong."""
    with Sides(environment(folder), environment(folder, "the change", "bad"), given).opened() as found:
        yield found


def test_a_worker_says_who_it_is_and_how_its_suites_want_to_be_measured(worker, folder):
    assert worker.facts["protocol"] == PROTOCOL and worker.facts["python"] == sys.executable
    found = worker.ask("settings", 60, args=["--perf-threads=3", "--perf-data=."])
    assert found["threads"] == 3 and found["data"] == str(folder.resolve()) and found["pickle"] is False


def test_a_worker_collects_cases_with_their_promises(worker):
    found = worker.ask("collect", 60, args=["test_it.py"])
    assert [one["case"]["batch_size"] for one in found] == [1, 2]
    assert [one["limits"][0]["value"] for one in found] == [0.1, 0.1] and found[0]["nodeid"].startswith("test_it.py::test_it[")
    # What runs the tests of others is no hindrance, wherever it was asked for.
    assert len(worker.ask("collect", 60, args=["test_it.py", "-n2", "-k", "b2", "--cov=layers", "--cov-fail-under=99"])) == 1


@pytest.mark.parametrize(
    "args, sentence",
    [
        (["nowhere.py"], r"main: pytest nowhere\.py in .* cannot be collected: file or directory not found: nowhere\.py"),
        (["--nonsense"], r"main: pytest --nonsense in .* cannot be collected: unrecognized arguments: --nonsense"),
        (["--perf-threads=none"], r"main: .* cannot be collected: --perf-threads is 'none': give a whole number"),
        (["torn.py"], r"main: pytest torn\.py in .*: .*nothing_of_the_kind"),
        (["test_it.py", "--perf-gpu=t4"], r"cannot be timed here: --perf-gpu=t4 asserts a t4.*or ask for --perf-only=accuracy"),
    ],
)
def test_suites_that_pytest_cannot_collect_are_one_sentence(worker, folder, args, sentence):
    (folder / "torn.py").write_text("import nothing_of_the_kind\n")
    with pytest.raises(UsageError, match=sentence) as told:
        worker.ask("collect", 60, args=args)
    assert "\n" not in str(told.value)


def test_a_worker_collects_nothing_that_pytest_would_skip(worker, folder):
    text = (folder / "test_it.py").read_text().replace("@S\n", "import pytest\n@pytest.mark.skipif('True')\n@S\n")
    (folder / "test_skipped.py").write_text(text)
    assert worker.ask("collect", 60, args=["test_skipped.py"]) == []


def test_a_prepared_case_is_timed_in_blocks(worker):
    assert worker.ask("refuses", 60, case=plume().to_json()) == []
    worker.ask("prepare", 60, side="a", case=plume().to_json())
    assert len(worker.ask("warm", 60, side="a")) == 2
    settling, timed = worker.ask("block", 60, side="a", rounds=7, settle=True)
    assert len(timed) == 7 and sum(settling) >= 5e6 and min(timed) >= 0.2e6
    settling, timed = worker.ask("block", 60, side="a", rounds=2, settle=False)
    assert settling == [] and len(timed) == 2
    assert worker.ask("fingerprint", 60, device="cpu")["identity"]["threads"] == 1


def test_both_sides_are_timed_on_one_core_with_one_thread_and_built_on_all(opened):
    def where():
        return [os.sched_getaffinity(worker._process.pid) for worker in opened._workers.values()]

    opened.prepare(plume(), plume())
    assert where() == [os.sched_getaffinity(0)] * 2
    for side in opened.sides().values():
        side.warm()
    assert where() == [set(cores_for(1, 0))] * 2
    opened.prepare(plume(), plume())
    assert where() == [os.sched_getaffinity(0)] * 2


def test_a_block_spends_its_time_on_calls(worker):
    """Garbage of the whole heap is collected once a case: before every block it would take longer than the block."""
    worker.ask("prepare", 60, side="a", case=plume().to_json())
    spent = []
    for _ in range(8):
        begun = time.perf_counter()
        settling, timed = worker.ask("block", 60, side="a", rounds=20, settle=True)
        spent.append(time.perf_counter() - begun - (sum(settling) + sum(timed)) / 1e9)
    assert sorted(spent)[2] < 0.03


def test_a_worker_builds_nothing_while_somebody_times_on_its_device(worker, folder, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    device_lock.cache_clear()
    try:
        with device_lock("cpu").write_lock():
            worker.post("prepare", side="a", case=plume().to_json())
            assert not worker._selector.select(0.7)
        assert worker.answer("prepare", 60) == {"bytes": 1000}
    finally:
        device_lock.cache_clear()


# ---- what goes wrong in a case


@pytest.mark.parametrize(
    "wanted, kind, sentence",
    [
        (plume("build"), ProgramError, "main: the compiler found no registers; give it some"),
        (plume("crash"), ProgramError, r"main: ZeroDivisionError: division by zero \(perfq_feather\.py:\d+\)"),
        (plume("read"), ProgramError, r"main: EOFError: EOF when reading a line \(perfq_feather\.py:\d+\)"),
        (plume(model="far-away"), Unavailable, "main: far-away cannot be fetched: no network"),
        (plume(backend=Spec.parse("plume[colour=blue]")), UsageError, "main: unknown option of backend plume 'colour'"),
    ],
    ids=["build", "crash", "read", "away", "usage"],
)
def test_an_error_of_a_case_travels_as_it_is_and_ends_nothing(worker, wanted, kind, sentence):
    with pytest.raises(kind, match=sentence):
        worker.ask("prepare", 60, side="a", case=wanted.to_json())
    assert worker.ask("hello", 60)["protocol"] == PROTOCOL


def test_what_the_code_under_test_prints_is_no_answer(worker):
    assert worker.ask("prepare", 60, side="a", case=plume().to_json()) == {"bytes": 1000}
    worker._errors.seek(0)
    assert b"a library prints while it builds" in worker._errors.read()


@pytest.mark.parametrize("does", ["build", "crash"])
def test_the_side_that_cannot_build_a_case_is_blamed(opened, does):
    with pytest.raises(Blamed, match="the change: ") as told:
        opened.prepare(plume(does), plume(does))
    assert told.value.candidate is True
    opened.prepare(plume(), plume())  # no answer is left over
    assert opened.sizes == {"a": 1000, "b": 1000}


def test_the_side_whose_program_breaks_while_it_is_timed_is_blamed(opened):
    opened.prepare(plume("run"), plume("run"))
    base, candidate = opened.sides()["a"], opened.sides()["b"]
    assert len(base.block(6, False)[1]) == 6
    with pytest.raises(Blamed, match="the change: RuntimeError: the program broke in its timed loop") as told:
        candidate.block(6, False)
    assert told.value.candidate is True


def test_nobody_is_blamed_for_what_must_be_fetched(opened):
    with pytest.raises(Blamed, match="far-away cannot be fetched") as told:
        opened.prepare(plume(), plume(model="far-away"))
    assert told.value.candidate is False


def test_what_the_base_refuses_cannot_be_compared_and_what_the_candidate_alone_refuses_is_its_fault(opened):
    with pytest.raises(Blamed, match=r"the change refuses .*: plume takes no such thing") as told:
        opened.prepare(plume("refuse"), plume("refuse"))
    assert told.value.candidate is True
    with pytest.raises(Refused, match=r"main refuses .*: plume takes no such thing"):
        opened.prepare(plume("refuse-all"), plume("refuse-all"))
