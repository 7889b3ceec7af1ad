"""Real worker processes: what they answer, whose fault is told, and that none outlives its parent. Few, since each takes a
second to start."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest
from scripted import case
from throwaway import FEATHER, Project, variables

from pytest_perfq.core.spec import Spec
from pytest_perfq.device.lock import device_lock
from pytest_perfq.errors import ProgramError, TrialError, Unavailable, UsageError
from pytest_perfq.trials.environment import Environment
from pytest_perfq.trials.opened import Blamed, Lost, Refused
from pytest_perfq.trials.sides import Sides
from pytest_perfq.trials.worker import PROTOCOL, Worker


def plume(does="", **fields):
    backend = Spec.parse(f"plume[does={does}]" if does else "plume")
    return case(**{"backend": backend, "dataset": "synthetic", **fields})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A project that takes part, in no repository."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables().items():
            patch.setenv(name, value)
        found = Project(tmp_path_factory.mktemp("trials") / "project")
    found.suite(f"{FEATHER}, batch_size=[1, 2], budgets=Budget(max_slowdown=0.1)")
    found.layers(0.2)
    return found.path


def environment(folder, label="main", side=None, python=sys.executable):
    """side: marks the side that goes wrong; see perfq_feather."""
    # A folder for temporary files of its own: nobody else's timing holds the device.
    given = variables(TMPDIR=str(folder), **({} if side is None else {"PERFQ_FAKES_SIDE": str(side)}))
    return Environment(label=label, python=str(python), folder=folder, variables=given)


@pytest.fixture(scope="module")
def given(folder):
    return {"cache": str(folder / "cache"), "threads": 1}


@pytest.fixture(scope="module")
def worker(folder, given):
    with Worker(environment(folder, side="bad"), given) as found:
        yield found


@pytest.fixture(scope="module")
def opened(folder, given):
    """Two workers, the candidate's being the one that goes wrong."""
    with Sides(environment(folder), environment(folder, "the change", "bad"), given).opened() as found:
        yield found


def pid_of(worker):
    return worker._process.pid


def gone(pid, within_s):
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


# ---- what it answers


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
        assert worker.answer("prepare", 60) is None
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
    assert worker.ask("prepare", 60, side="a", case=plume().to_json()) is None
    worker._errors.seek(0)
    assert b"a library prints while it builds" in worker._errors.read()


@pytest.mark.parametrize("does", ["build", "crash"])
def test_the_side_that_cannot_build_a_case_is_blamed(opened, does):
    with pytest.raises(Blamed, match="the change: ") as told:
        opened.prepare(plume(does), plume(does))
    assert told.value.candidate is True
    opened.prepare(plume(), plume())  # no answer is left over


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


# ---- workers that are lost


def test_a_worker_that_dies_is_named_with_its_signal_and_its_request(folder, given):
    with Sides(environment(folder), environment(folder, "the change", "bad"), given).opened() as both:
        with pytest.raises(Lost) as told:
            both.prepare(plume("die"), plume("die"))
        assert told.value.candidate is True
        assert str(told.value).startswith("the worker of the change was ended by SIGKILL while asked to 'prepare'")


def test_a_worker_that_hangs_is_ended_after_its_limit(folder, given):
    with Worker(environment(folder, side="bad"), given) as hanging:
        with pytest.raises(TrialError) as told:
            hanging.ask("prepare", 1.5, side="a", case=plume("hang").to_json())
        assert str(told.value) == (
            "the worker of main did not answer 'prepare' within 1.5 s and was ended; see whether the case hangs there"
        )
        assert gone(pid_of(hanging), 1)


def test_ctrl_c_ends_a_worker_in_the_middle_of_its_work(folder, given):
    with contextlib.suppress(KeyboardInterrupt), Worker(environment(folder, side="bad"), given) as hanging:
        hanging.post("prepare", side="a", case=plume("hang").to_json())
        time.sleep(0.5)
        begun = time.monotonic()
        raise KeyboardInterrupt
    assert gone(pid_of(hanging), 1) and time.monotonic() - begun < 3


def test_a_worker_goes_when_its_parent_is_killed_in_the_middle_of_a_request(folder, given):
    code = f"""
        import json, sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        from pathlib import Path
        from test_workers import environment, plume
        from pytest_perfq.trials.worker import Worker
        with Worker(environment(Path({str(folder)!r}), side="bad"), {given!r}) as hanging:
            hanging.post("prepare", side="a", case=plume("hang").to_json())
            print(hanging._process.pid, flush=True)
            hanging.answer("prepare", 60)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    time.sleep(0.5)
    assert psutil.pid_exists(pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert gone(pid, 15)


# ---- environments that are none


def script(folder, text):
    """An interpreter that says this, whatever it is asked."""
    file = folder / "python"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("echo Welcome; cat >&2", r"the worker of main answered b?'Welcome' to 'hello', which is not JSON; see what writes"),
        (
            'echo \'{"answer": {"protocol": 99, "version": "9.9"}}\'; cat >&2',
            rf"main has pytest-perfq 9\.9, which speaks version 99 of trials, and this one speaks {PROTOCOL}; install one",
        ),
        ("echo no memory left >&2; exit 3", r"the worker of main ended with status 3 while asked to 'hello': no memory left"),
        ("exec >&-; cat >&2", r"the worker of main (closed its standard output|ended with status 0) while asked to 'hello'"),
    ],
    ids=["nonsense", "protocol", "status", "closed"],
)
def test_an_interpreter_that_is_no_worker_is_one_sentence(tmp_path, monkeypatch, text, sentence):
    monkeypatch.setattr("pytest_perfq.trials.worker.END_S", 0.5)
    with pytest.raises(TrialError, match=sentence), Worker(environment(tmp_path, python=script(tmp_path, text)), {}):
        pass


def test_a_missing_interpreter_is_one_sentence(tmp_path):
    with pytest.raises(TrialError, match=r"main: /no/such/python cannot be started \(No such file.*give the path of a Python"):
        Worker(environment(tmp_path, python="/no/such/python"), {})


def test_an_environment_without_the_plugin_is_one_sentence(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    bare = environment(tmp_path, "bare", python=tmp_path / "bare/bin/python")
    with pytest.raises(TrialError, match=r"bare: .* has no pytest-perfq that takes part in trials \(.*No module.*; install it"):
        with Worker(bare, {}):
            pass


def test_a_worker_is_no_part_of_the_run_that_started_it(monkeypatch, tmp_path):
    for name in ("PYTEST_CURRENT_TEST", "PYTEST_XDIST_WORKER", "COV_CORE_SOURCE", "COVERAGE_PROCESS_START", "PYTEST_ADDOPTS"):
        monkeypatch.setenv(name, "-q")
    found = Environment(label="x", folder=tmp_path, variables={"MINE": "1"}).variables_of_process()
    assert found["MINE"] == "1" and found["PATH"] == os.environ["PATH"] and found["PYTEST_ADDOPTS"] == "-q"
    assert not {name for name in found if name.startswith(("PYTEST_C", "PYTEST_X", "COV"))}
