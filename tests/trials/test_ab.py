"""`perfq ab` end to end in throw-away repositories, with real workers; the project's own code is what differs."""

import json
import signal
import subprocess
import sys
import time

import psutil
import pytest
from throwaway import FEATHER

from pytest_perfq.report.seen import too_fine
from pytest_perfq.store import Store

FIRST = "synthetic-feather/light/plume@cpu/fp32/b1/s8"


@pytest.mark.slow
def test_slower_code_is_found_named_and_kept(project, command):
    project.suite(f"{FEATHER}, batch_size=[1, 2]")
    project.layers(2.0)
    project.commit("fast")
    project.suite(f"{FEATHER}, batch_size=[1, 3]")
    project.layers(2.8)
    project.commit("slow")
    status, output, errors = command("ab", "HEAD~", "HEAD", "test_it.py", "--threads", 1, "--format", "json")
    found = json.loads(output)
    assert status == 1 and found["counts"] == {"regressed": 1}
    finding = found["cases"][0]["findings"][0]
    assert (found["cases"][0]["case_id"], finding["rule"], finding["status"]) == (FIRST, "slowdown", "regressed")
    # Sleeping for 2.8 ms takes a tenth longer than that, on both sides alike.
    assert 0.2 < finding["observed"] < 0.5 and finding["interval"][0] > 0.1
    assert "3 visits to screen it and 8 fresh visits to confirm it" in finding["note"]
    assert f"1 case is only in HEAD~ ({project.git('rev-parse', '--short=10', 'HEAD~')}), and not compared: " in errors
    assert found["only_in_base"] == [FIRST.replace("/b1/", "/b2/")]
    assert found["only_in_candidate"] == [FIRST.replace("/b1/", "/b3/")]
    assert "/b2/s8" in errors and "1 case is only in HEAD (" in errors and "/b3/s8" in errors
    status, output, _ = command("report", "last")
    assert status == 0 and "plume@cpu/fp32" in output and "regressed" in output
    with Store.open(".perfq/results.db", readonly=True) as store:
        run = store.run("last")
        last = store.records(run.id, latest=True)[0]
    assert run.finished_s is not None and len(last.measurement["visits"]) == 11 and last.status == "regressed"
    assert all(visit["base"]["durations_ns"] for visit in last.measurement["visits"])
    assert last.measurement["facts"]["base"].startswith("HEAD~ (")


def test_unchanged_code_never_alarms_and_the_ini_file_says_how_to_measure(project, command):
    (project.path / "mirror").mkdir()  # no part of the repository: it is not in the tree of a revision
    (project.path / "pytest.ini").write_text("[pytest]\nperf_threads = 1\nperf_data = mirror\nperf_cache = ../other\n")
    project.suite()
    project.layers(1.0)
    project.commit("one")
    status, output, errors = command("ab", "HEAD", ".", "--time", "60s", "--all")
    assert status in (0, 2) and "regressed" not in output, output + errors
    assert "the working tree beside HEAD (" in output and "kept as run" in output
    assert list((project.path.parent / "other" / "revisions").iterdir()) and not (project.path.parent / "cache").exists()
    with Store.open(".perfq/results.db", readonly=True) as store:
        assert store.records(store.run("last").id)[-1].measurement["fingerprint"]["identity"]["threads"] == 1


@pytest.mark.slow
def test_damage_to_a_weight_and_to_the_map_of_labels_is_found(project, command):
    both = ("calibration_split='scaled'", "split='named'")
    sweeps = [f"Sweep(task='woven', model='light', seq_len=8, latency=False, {one})" for one in both]
    tests = [f"@{one}\ndef test_{number}(case, perfq):\n    perfq(case)\n" for number, one in enumerate(sweeps)]
    project.write(test_it="from pytest_perfq import Sweep\n" + "".join(tests))
    project.layers()
    project.commit("sound")
    project.layers(scale=-3.0, labels=("yes", "no"))
    project.commit("damaged")
    status, output, _ = command("ab", "HEAD~", "HEAD", "--threads", 1, "--format", "json")
    found = {one["case_id"].split("/")[0]: one for one in json.loads(output)["cases"]}
    assert status == 1 and list(found) == ["synthetic-woven", "synthetic-woven@named"]
    assert [one["status"] for one in found.values()] == ["regressed", "regressed"]
    # The sound model is right on nine of ten examples by construction; with its names swapped it is on the tenth.
    accuracy = next(one for one in found["synthetic-woven@named"]["findings"] if one["rule"] == "accuracy")
    assert accuracy["observed"] == pytest.approx(0.9 - 0.1)


def test_two_configurations_share_a_process_and_promises_of_this_machine_are_held(project, command, unwatched):
    promises = "Budget(p50_ms=0.5, max_bytes=1000, min_speedup=1.1), Budget(where={'gpu': 't4'}, p50_ms=0.01, max_bytes=10)"
    project.suite(f"backend=['plume', 'plume[ms=2]'], accuracy=False, budgets=[{promises}]")
    project.layers(1.0)
    project.commit("one")
    status, output, errors = command("ab", "--vs", "backend=plume[ms=2]", "--threads", 1, "--format", "json")
    assert "min_speedup is promised of 1 of 1 cases and not held here, where no original is timed; pytest holds it" in errors
    found = json.loads(output)
    # The one that has the value already is not held against itself; the other is the faster.
    assert status == 1 and [(one["case_id"], one["status"]) for one in found["cases"]] == [(FIRST, "fail")]
    assert [(one["rule"], one["status"], one["limit"]) for one in found["cases"][0]["findings"]] == [
        ("slowdown", "improved", 0.05), ("p50_ms", "fail", 0.5), ("max_bytes", "pass", 1000),
    ]  # fmt: skip
    p50 = found["cases"][0]["findings"][1]
    # It sleeps for a millisecond, which is over half of one; and so does the base, for three.
    assert p50["observed"] >= 1.0 and p50["note"].endswith("calls took longer; already red in the baseline")


@pytest.mark.slow
def test_two_environments_are_held_against_each_other(project, command, unwatched):
    """Two Pythons under which the same program takes longer and shorter, as under another torch or driver."""
    project.suite()
    project.layers('float(__import__("os").environ["PROGRAM_MS"])')
    pythons = []
    for name, ms in (("old", 3.0), ("new", 1.0)):
        pythons.append(project.path.parent / name)
        pythons[-1].write_text(f'#!/bin/sh\nexport PROGRAM_MS={ms}\nexec "{sys.executable}" "$@"\n')
        pythons[-1].chmod(0o755)
    old, new = pythons
    status, output, errors = command("ab", "--env", old, "--env", new, "test_it.py", "--threads", 1, "--format", "json")
    (found,) = json.loads(output)["cases"]
    assert status == 0 and found["case_id"] == FIRST and found["status"] in ("pass", "improved"), errors
    # It sleeps for a millisecond instead of three, and wakes a little later either time.
    assert -0.75 < found["findings"][0]["observed"] < -0.4
    with Store.open(".perfq/results.db", readonly=True) as store:
        run = store.run("last")
        visits = store.records(run.id, latest=True)[0].measurement["visits"]
    assert run.settings["trial"] == {"base": str(old), "candidate": str(new), "vs": None}
    assert all(min(one["base"]["durations_ns"]) >= 3e6 > 2e6 > min(one["case"]["durations_ns"]) >= 1e6 for one in visits)


@pytest.mark.slow
def test_a_calibration_of_this_machine_refuses_a_promise_that_it_cannot_see(project, command, unwatched):
    """Both commands must mean one machine: otherwise nothing would be refused, without a word."""
    project.suite(f"{FEATHER}, budgets=Budget(max_slowdown=0.01)")
    project.layers(0.5)
    project.commit("one")
    status, output, errors = command("calibrate", "test_it.py", "--visits", 4, "--threads", 1)
    assert status == 0 and f"{FIRST}: " in output, errors
    with Store.open(".perfq/results.db", readonly=True) as store:
        (found,) = store.calibrations().values()
    assert (found.case_id, found.visits) == (FIRST, 4) and 0.001 <= found.deviation < 1.0
    status, output, errors = command("ab", "HEAD", ".", "test_it.py", "--threads", 1, "--format", "json")
    (finding,) = json.loads(output)["cases"][0]["findings"]
    assert status == 2 and finding["status"] == "invalid", errors
    assert finding["note"] == too_fine(0.01, found.deviation)


def test_ctrl_c_keeps_what_there_is_and_leaves_nobody_behind(project, command):
    project.suite()
    project.layers(1.0)
    project.commit("one")
    words = [sys.executable, "-m", "pytest_perfq.cli", "ab", "--vs", "backend=plume[ms=3]"]
    running = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    line = running.stderr.readline()
    assert line == f"perfq pass 1, screen, case 1 of 1: {FIRST}\n"
    time.sleep(1.0)
    children = psutil.Process(running.pid).children(recursive=True)
    running.send_signal(signal.SIGINT)
    output, errors = running.communicate(timeout=60)
    assert running.returncode == 2, errors
    assert "perfq: Ctrl-C stopped the run; what was measured is kept as run " in errors
    assert "1 inconclusive" in output and "Ctrl-C stopped the run" in output
    _, alive = psutil.wait_procs(children, timeout=10)
    assert children and not alive
    assert "inconclusive" in command("report", "last")[1]


def test_a_second_run_on_one_store_is_told_so(project, command):
    project.suite()
    project.layers(1.0)
    with Store.open(".perfq/results.db") as store:
        store.begin_run(["pytest"], {})
        status, _, errors = command("ab", "--vs", "backend=plume[ms=2]")
    assert status == 3 and "two runs on one store: pid " in errors and errors.count("\n") == 1
    assert errors.endswith("; wait for it to end, or give this run another --store\n")


def test_a_case_that_both_sides_refuse_is_left_out(project, command):
    project.suite("backend='plume[does=refuse-all]', accuracy=False")
    project.layers(1.0)
    status, _, errors = command("ab", "--vs", "precision=fp16")
    assert status == 3 and "\nperfq: nothing is left to compare: this environment refuses " in errors
    assert errors.count("refuses") == 1 and "--vs original" not in errors


@pytest.mark.parametrize(
    "words, sentence",
    [
        ([], "two revisions are needed, the base first, such as `perfq ab main .`; or give --env twice, or --vs AXIS=VALUE"),
        (["--env", "a"], "--env is given once; give the base's Python and the candidate's"),
        (["--env", "a", "--env", "a"], "--env is a twice; give two environments, or --vs for two configurations in one"),
        (["--vs", "original", "--env", "a"], "--vs compares two configurations in this environment and --env two environments"),
        (["HEAD", ".", "--time", "soon"], "--time is 'soon': give a duration over zero, such as 500ms, 15s or 2m"),
        (["HEAD", "main"], "HEAD and main are the same revision "),
        (["HEAD", ".", "--vs", "original"], "HEAD is a revision, and with --vs both sides are of the tree as it is; leave out"),
        (["main", "--env", "a", "--env", "b"], "main is a revision, and with --env both sides are of the tree as it is;"),
        (["HEAD", "gone"], "there is no revision 'gone' in "),
        (["HEAD", ".", "nowhere.py"], "cannot be collected: file or directory not found: nowhere.py"),
        (["--env", sys.executable, "--env", "/no/python"], "/no/python: /no/python cannot be started"),
        (["HEAD~", "HEAD"], "and HEAD ("),
    ],
)
def test_what_is_asked_wrongly_is_one_sentence(project, command, words, sentence):
    project.suite(f"{FEATHER}, batch_size=2")
    project.layers(1.0)
    project.commit("one")
    project.suite()
    project.commit("other cases")
    status, _, errors = command("ab", *words)
    assert status == 3 and sentence in errors and errors.count("\n") == 1 + 2 * (words[:1] == ["HEAD~"]), errors
