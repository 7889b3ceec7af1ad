"""Workers that die or hang, interpreters that are none, and that no worker outlives its parent."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest
from taking_part import environment, plume

from pytest_perfq.errors import TrialError
from pytest_perfq.trials.environment import Environment
from pytest_perfq.trials.opened import Lost
from pytest_perfq.trials.sides import Sides
from pytest_perfq.trials.worker import PROTOCOL, Worker


def pid_of(worker):
    return worker._process.pid


def gone(pid, within_s):
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


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
        from taking_part import environment, plume
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
