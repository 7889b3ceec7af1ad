"""`perfq` as a person types it: exit status, what is printed, and one sentence for each mistake."""

import json
import os
import random
import subprocess
import sys

import pytest
from making import MACHINE, accuracy, case, latency

from pytest_perfq import baselines
from pytest_perfq.cli import main
from pytest_perfq.core.budget import Limit
from pytest_perfq.core.fingerprint import Fingerprint
from pytest_perfq.core.measurement import Measurement
from pytest_perfq.core.verdict import Verdict, broken, judge
from pytest_perfq.store import Store

LIMITS = (Limit("p95_ms", 8.0, None, "budget 1 for every case"),)
STILL = {"n": 200, "flips": 0, "margin_noise": 0.0}


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs `perfq` in a folder of its own: (status, output, errors)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.delenv("PERFQ_STORE", raising=False)

    def run(*words):
        with pytest.raises(SystemExit) as done:
            main([str(word) for word in words])
        output, errors = capsys.readouterr()
        return done.value.code, output, errors

    return run


def sweep(seed=0, **changes):
    """Six timed cases of twenty visits and two scored ones. changes: number -> milliseconds, or lost=examples."""
    dice = random.Random(seed)
    right = [1] * 180 + [0] * 20
    lost = changes.get("lost", 0)
    return [
        *(latency(n, ms=changes.get(f"ms{n}", 5.0), rounds=10, visits=20, seed=dice.random()) for n in range(6)),
        accuracy([0] * lost + right[lost:], right, number=0, churn=STILL),
        accuracy(right, number=1, backend="eager", churn=STILL),
    ]


def save(name, found, limits=LIMITS):
    baselines.save(f"baselines/{name}", found, [judge(one, limits) for one in found])
    return f"baselines/{name}"


def record(found, url=".perfq/results.db", verdicts=None, finish=True):
    with Store.open(url) as store:
        run = store.begin_run(["pytest", "suites"], {"time": 1.0})
        for one, verdict in zip(found, verdicts or [judge(one, LIMITS) for one in found], strict=True):
            store.record(run, f"test_a.py::test[{one.case.id}]", one.to_json(), verdict.to_json())
        if finish:
            store.finish_run(run)
    return run


# -- compare


def test_an_unchanged_sweep_exits_0(command):
    status, output, errors = command("compare", save("a", sweep(1)), save("b", sweep(2)))
    assert (status, errors) == (0, "")
    assert "8 cases: 8 pass" in output


def test_three_visits_are_undecided_and_exit_2(command):
    save("a", [latency(seed=1)])
    save("b", [latency(seed=2)])
    status, output, _ = command("compare", "baselines/a", "baselines/b")
    assert status == 2 and "1 case: 1 inconclusive" in output and "cannot be seen with 3 visits" in output


def test_a_slower_case_exits_1_and_is_named(command):
    status, output, _ = command("compare", save("a", sweep(1)), save("b", sweep(2, ms3=7.0)))
    assert status == 1 and "8 cases: 7 pass, 1 regressed" in output
    assert f"{case(3).id}: regressed" in output
    row = next(one for one in output.splitlines() if one.startswith(case(3).id[:30]) and "ms" in one)
    assert row.split()[1:4:2] == ["5.00", "7.01"] and row.split()[-1] == "regressed"


def test_a_damaged_model_exits_1_and_its_examples_are_listed(command):
    status, output, _ = command("compare", save("a", sweep(1)), save("b", sweep(2, lost=2)))
    assert status == 1
    assert f"{case(0, kind='accuracy').id}: regressed" in output and "examples: q00000, q00001" in output


def test_b_is_held_against_its_own_promises(command):
    status, output, _ = command(
        "compare", save("a", sweep(1)), save("b", sweep(2), (Limit("p95_ms", 4.0, None, "budget 9 where batch_size=1"),))
    )
    assert status == 1 and "6 fail" in output and "at most 4 ms promised by budget 9 where batch_size=1" in output


def test_another_machine_exits_2_and_is_named(command):
    other = Fingerprint({**MACHINE.identity, "cpu_model": "Other CPU"}, MACHINE.stack)
    save("a", [latency(machine=other)])
    save("b", [latency(ms=7.0)])
    status, output, _ = command("compare", "baselines/a", "baselines/b")
    assert status == 2 and "cpu_model is 'Test CPU 9000' here and 'Other CPU' in the baseline" in output


def test_a_missing_case_is_undecided_unless_a_subset_was_asked_for(command):
    save("a", sweep(1))
    save("b", sweep(2)[1:])
    assert command("compare", "baselines/a", "baselines/b")[0] == 2
    status, output, _ = command("compare", "baselines/a", "baselines/b", "--subset")
    assert status == 0 and "7 cases: 7 pass" in output


def test_json_holds_every_verdict(command):
    status, output, _ = command("compare", save("a", sweep(1)), save("b", sweep(2, ms3=7.0)), "--format", "json")
    values = json.loads(output)
    assert status == 1 and values["status"] == "regressed" and values["counts"] == {"pass": 7, "regressed": 1}
    verdicts = {one["case_id"]: Verdict.from_json(one) for one in values["cases"]}
    assert verdicts[case(3).id].failed and len(verdicts) == 8
    assert verdicts[case(3).id].limits == LIMITS


def test_markdown_is_a_table_of_the_same(command):
    status, output, _ = command("compare", save("a", sweep(1)), save("b", sweep(2, ms3=7.0)), "--format", "markdown")
    assert status == 1 and output.startswith("**8 cases: 7 pass, 1 regressed**")
    rows = [line for line in output.splitlines() if line.startswith("| `")]
    assert len(rows) == 8 and rows[0].startswith(f"| `{case(3).id}` |") and rows[0].endswith("| regressed |")


def test_runs_and_baselines_compare_with_each_other(command):
    first, second = record(sweep(1)), record(sweep(2, ms3=7.0))
    save("a", sweep(3))
    assert command("compare", first, "last")[0] == 1
    assert command("compare", "baselines/a", first)[0] == 0
    assert command("compare", second, "baselines/a")[0] == 0


def test_a_case_that_could_not_be_built_stays_a_failure(command):
    found = [
        latency(0, visits=20),
        Measurement(case=case(1), fingerprint=MACHINE, unmeasured="export failed: no such operator"),
    ]
    verdicts = [judge(found[0], ()), broken(case(1), "export failed: no such operator")]
    record(found, verdicts=verdicts)
    baselines.save("baselines/b", found, verdicts)
    save("a", [latency(0, visits=20, seed=1), latency(1)])
    for name in ("last", "baselines/b"):
        status, output, _ = command("compare", "baselines/a", name)
        assert status == 1 and "fail: case: export failed: no such operator" in output


def test_everything_is_shown_when_asked_for(command):
    found = [latency(number, visits=1, rounds=8) for number in range(60)]
    save("a", found)
    save("b", found)
    assert "and 20 more cases, none of them worse: see them with --all" in command("compare", "baselines/a", "baselines/b")[1]
    assert sum("b60/s32" in line for line in command("compare", "baselines/a", "baselines/b", "--all")[1].splitlines()) >= 1


# -- the other commands


def test_list_shows_runs_cases_and_baselines(command):
    run = record(sweep(1, ms0=50.0))
    cut_off = record(sweep(1)[:1], finish=False)
    save("good", sweep(1))
    output = command("list")[1].splitlines()
    assert [line.split()[0] for line in output[2:]] == [cut_off, run]
    assert "unfinished" in output[2] and "finished" in output[3] and "7 pass, 1 fail" in output[3] and "aaaaaaaaaa" in output[3]
    assert f"{case(0).id}" in command("list", "cases")[1]
    (os.makedirs("baselines/torn"), open("baselines/torn/meta.json", "w").close())
    listed = command("list", "baselines")[1]
    assert "baselines/good" in listed and "8 pass" in listed and "baselines/torn" in listed and "is torn" in listed


def test_history_shows_a_case_over_runs(command):
    for ms in (5.0, 6.0):
        record([latency(ms=ms, noise=0.0)])
    rows = command("history", case(0).id)[1].splitlines()
    assert rows[0] == case(0).id
    assert [row.split()[-4:] for row in rows[3:]] == [["5.00", "5.00", "2.00x", "pass"], ["6.00", "6.00", "1.67x", "pass"]]


def test_report_shows_a_run_a_baseline_and_a_model_card(command):
    record(sweep(1))
    save("a", sweep(1))
    for name in ("last", "baselines/a"):
        status, output, _ = command("report", name)
        assert status == 0 and "latency of squad/bert" in output and "8 cases: 8 pass" in output
    assert "Times for batch size = 1, input length = 32." in command("report", "last", "--format", "markdown")[1]


def test_export_writes_what_others_read(command):
    record(sweep(1))
    assert len(json.loads(command("export", "--format", "pytest-benchmark")[1])["benchmarks"]) == 6
    assert command("export", "last", "--format", "csv", "--output", "run.csv")[0] == 0
    with open("run.csv") as file:
        assert len(file.read().splitlines()) == 9
    assert 'tests="8"' in command("export", "--format", "junit")[1]


def test_accept_saves_a_good_run_and_refuses_a_bad_one(command):
    good, bad = record(sweep(1)), record(sweep(1, ms2=50.0))
    status, output, _ = command("accept", good, "baselines/good")
    assert (status, output) == (0, "saved 8 cases as baselines/good\n")
    assert command("compare", "baselines/good", good)[0] == 0
    status, _, errors = command("accept", bad, "baselines/bad")
    assert status == 3 and f"has 1 failing or invalid cases of 8, the first is '{case(2).id}'" in errors
    assert not os.path.exists("baselines/bad")


def test_doctor_prints_the_machine_and_the_refusals(command, monkeypatch):
    facts = {
        "machine": {"identity": {"cpu": "A CPU", "gpu": None}, "stack": {"torch": "2.13.0"}, "volatile": {}},
        "gpu": None,
        "threads": 2,
        "backends": {"eager": {"cpu": {"fp32": [], "fp16": ["fp16 is emulated: use fp32"]}}},
    }
    monkeypatch.setattr("pytest_perfq.device.doctor_facts", lambda: facts)
    status, output, _ = command("doctor")
    assert status == 0 and "A CPU" in output and "gpu none; 2 threads" in output
    assert [line.split()[-1] for line in output.splitlines() if line.startswith("eager")] == ["yes", "fp32"]
    assert json.loads(command("doctor", "--format", "json")[1]) == facts


def test_the_store_is_found_by_option_and_environment(command, monkeypatch, tmp_path):
    run = record(sweep(1)[:1], url="elsewhere/runs.db")
    assert run in command("list", "--store", "elsewhere/runs.db")[1]
    monkeypatch.setenv("PERFQ_STORE", str(tmp_path / "elsewhere" / "runs.db"))
    assert run in command("list")[1]


def test_help_lists_every_command(command):
    status, output, _ = command("--help")
    assert status == 0
    for name in ("compare", "report", "list", "history", "export", "accept", "doctor"):
        assert f"\n  {name} " in output
    assert "0 fine, 1 a regression or a broken promise" in " ".join(output.split())


# -- mistakes


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["compare", "baselines/nothing", "last"], "there is no baseline at baselines/nothing; save one with --perf-save"),
        (["compare", "last", "last"], "there is no store at .perfq/results.db; a run of pytest makes one"),
        (["compare", "a"], "Missing argument 'B'"),
        (["compares"], "No such command 'compares'"),
        (["list", "things"], "'things' is not one of 'runs', 'cases', 'baselines'"),
        (["compare", "a", "b", "--format", "xml"], "'xml' is not one of 'table', 'markdown', 'json'"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_3(command, words, sentence):
    status, output, errors = command(*words)
    assert (status, output) == (3, "")
    assert errors.startswith("perfq: ") and sentence in errors and errors.count("\n") == 1


def test_mistakes_about_a_store_name_what_there_is(command):
    run = record(sweep(1)[:1])
    assert f"there is no run 'tomorrow' in the store .perfq/results.db; runs: {run}" in command("report", "tomorrow")[2]
    close = case(0).id[:-1]
    assert f"unknown case {close!r}; did you mean {case(0).id!r}?" in command("history", close)[2]
    empty = record([])
    assert f"the run {empty!r} holds no record; compare another one" in command("compare", empty, run)[2]
    status, _, errors = command("export", "--output", "no/such/folder.json")
    assert status == 3 and "cannot write no/such/folder.json: No such file or directory" in errors


def test_the_command_is_a_process_of_its_own(tmp_path):
    """Its import pulls in neither torch nor any framework."""
    code = "import sys, pytest_perfq.cli.commands; print([one for one in ('torch', 'transformers', 'sqlalchemy', 'pytest', 'scipy') if one in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    done = subprocess.run([sys.executable, "-m", "pytest_perfq.cli", "report"], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, "") and done.stderr.startswith("perfq: there is no store at")
    assert "Traceback" not in done.stderr
