"""`perfq` as a person types it: exit status, what is printed, and one sentence for each mistake."""

import csv
import io
import json
import os
import random
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from making import MACHINE, accuracy, case, latency

from pytest_perfq import baselines
from pytest_perfq.cli.nearest import nearest
from pytest_perfq.core.budget import Limit
from pytest_perfq.core.conditions import Conditions
from pytest_perfq.core.finding import Finding
from pytest_perfq.core.fingerprint import Fingerprint
from pytest_perfq.core.measurement import Measurement
from pytest_perfq.core.quantization import Static
from pytest_perfq.core.verdict import Verdict, broken, judge
from pytest_perfq.store import Store

LIMITS = (Limit("p95_ms", 8.0, None, "budget 1 for every case"),)
STILL = {"n": 200, "flips": 0, "margin_noise": 0.0}


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


def disturbed(measurement):
    """The same, its first visit spoilt by something outside of the case."""
    first, *others = measurement.visits
    return replace(measurement, visits=(replace(first, conditions=Conditions(duration_s=5.0, clock_step_s=3.0)), *others))


def one_line(text):
    """Without the breaks that a narrow terminal needs."""
    return " ".join(text.split())


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


def test_noisy_visits_are_undecided_and_exit_2(command):
    save("a", [latency(seed=1, visit_noise=0.08)])
    save("b", [latency(seed=2, visit_noise=0.08)])
    status, output, _ = command("compare", "baselines/a", "baselines/b")
    assert status == 2 and "1 case: 1 inconclusive" in output and "cannot be seen with 3 visits" in output


def test_a_slower_case_exits_1_and_is_named(command):
    status, output, _ = command("compare", save("a", sweep(1, ms3=4.0)), save("b", sweep(2, ms3=7.0)))
    assert status == 1 and "8 cases: 7 pass, 1 regressed" in output
    assert f"{case(3).id}: regressed" in output
    row = next(one for one in output.splitlines() if "/b4/s32 " in one and "ms" in one)
    assert row.split()[1:4:2] == ["4.00", "7.01"] and row.split()[-1] == "regressed"


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
    assert status == 2 and "cpu_model is 'Test CPU 9000' here and 'Other CPU' in the baseline" in one_line(output)


def test_a_missing_case_is_undecided_unless_a_subset_was_asked_for(command):
    save("a", sweep(1))
    save("b", sweep(2)[1:])
    assert command("compare", "baselines/a", "baselines/b")[0] == 2
    status, output, _ = command("compare", "baselines/a", "baselines/b", "--subset")
    assert status == 0 and "7 cases: 7 pass" in output


def test_a_case_that_only_the_second_has_is_marked_as_new(command):
    """It cannot be worse than what was: that it passes says nothing of the case that it may have been."""
    save("a", sweep(1)[1:]), save("b", sweep(2))
    status, output, _ = command("compare", "baselines/a", "baselines/b")
    assert status == 0 and "8 cases: 8 pass" in output
    marked = [line.split() for line in output.splitlines() if line.rstrip().endswith(" pass, new")]
    assert [row[:4] for row in marked] == [["ort@cpu/int8-dynamic[Add,MatMul]/b1/s32", "5.00", "ms", "pass,"]]
    sentence = f"1 measured case is not in the baseline and was held to its own promises only: {case(0).id};"
    assert sentence in one_line(output)
    output = command("compare", "baselines/a", "baselines/b", "--format", "markdown")[1]
    assert output.count("| pass, new |") == 1 and f"- {sentence}" in output
    assert " new" not in command("compare", "baselines/b", "baselines/b")[1]


def test_where_nothing_could_be_compared_nothing_is_fine(command):
    none = [replace(one, visits=(), outcomes=None, scores=(), unmeasured="not on this GPU") for one in sweep(1)]
    status, output, _ = command("compare", save("a", sweep(1)), save("b", none, ()))
    assert status == 2 and "8 cases: 8 unmeasured; nothing was compared" in output
    output = command("compare", "baselines/a", "baselines/b", "--format", "markdown")[1]
    assert output.startswith("**8 cases: 8 unmeasured; nothing was compared**")
    # One that was measured on both sides is enough to go by, and says how many were not.
    save("c", [sweep(2)[6], *none[:6], none[7]], ())
    status, output, _ = command("compare", "baselines/a", "baselines/c")
    assert status == 0 and "8 cases: 1 pass, 7 unmeasured" in output and "nothing was compared" not in output


def test_cases_that_are_new_throughout_were_held_against_nothing(command):
    save("a", sweep(1)[:2]), save("b", sweep(2)[2:])
    status, output, _ = command("compare", "baselines/a", "baselines/b", "--subset")
    assert status == 2 and "6 cases: 6 pass; nothing was compared" in output


def test_json_holds_every_verdict(command):
    status, output, _ = command("compare", save("a", sweep(1, ms3=4.0)), save("b", sweep(2, ms3=7.0)), "--format", "json")
    values = json.loads(output)
    assert status == 1 and values["status"] == "regressed" and values["counts"] == {"pass": 7, "regressed": 1}
    verdicts = {one["case_id"]: Verdict.from_json(one) for one in values["cases"]}
    assert verdicts[case(3).id].failed and len(verdicts) == 8
    assert verdicts[case(3).id].limits == LIMITS


def test_markdown_is_a_table_of_the_same(command):
    status, output, _ = command("compare", save("a", sweep(1, ms3=4.0)), save("b", sweep(2, ms3=7.0)), "--format", "markdown")
    assert status == 1 and output.startswith("**8 cases: 7 pass, 1 regressed**")
    rows = [line for line in output.splitlines() if line.startswith("| `")]
    assert len(rows) == 8 and rows[0].startswith(f"| `{case(3).id}` |") and rows[0].endswith("| regressed |")
    save("c", [latency(0, seed=1)]), save("d", [latency(0, ms=5.4, seed=2)])
    output = command("compare", "baselines/c", "baselines/d", "--format", "markdown")[1]
    assert f"- {case(0).id}: inconclusive: slow-down from the baseline" in output


def test_runs_and_baselines_compare_with_each_other(command):
    first, second = record(sweep(1, ms3=4.0)), record(sweep(2, ms3=7.0))
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
        assert status == 1 and f"{case(1).id}: fail\n  case: export failed: no such operator\n" in output


def test_everything_is_shown_when_asked_for(command):
    found = [latency(number, visits=1, rounds=8) for number in range(60)]
    save("a", found)
    save("b", found)
    output = command("compare", "baselines/a", "baselines/b")[1]
    assert "20 cases are not shown, none of them worse: see them with --all" in output and "b60/s32" not in output
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
        card = command("report", name, "--format", "markdown")[1]
        assert "Times for batch size = 1, input length = 32." in card
        assert card.startswith(f"Measured on {time.strftime('%Y-%m-%d')} ") and f"(machine {MACHINE.key})" in card


def test_a_saved_failure_is_shown_with_its_reason(command):
    save("a", [latency(0, rounds=60), latency(1, rounds=60, ms=12.0)])
    output = one_line(command("report", "baselines/a")[1])
    assert "2 cases: 1 pass, 1 fail" in output
    assert f"{case(1).id}: fail p95 12." in output and "at most 8 ms promised by budget 1 for every case" in output
    regressed = Verdict(case(0).id, (Finding(rule="slowdown", status="regressed", observed=0.5),))
    baselines.save("baselines/b", [latency(0, rounds=60)], [regressed])
    assert f"{case(0).id}: regressed as it was saved" in one_line(command("report", "baselines/b")[1])


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
    assert (status, output) == (
        0,
        "saved 8 cases as baselines/good; hold a run against it with --perf-against=baselines/good\n"
        "it holds what was measured by: pytest suites\n",
    )
    assert command("compare", "baselines/good", good)[0] == 0
    status, _, errors = command("accept", bad, "baselines/bad")
    assert status == 3 and f"has 1 failing or invalid case of 8, the first is '{case(2).id}'" in errors
    assert not os.path.exists("baselines/bad")
    # Worse than the baseline of its day is for --perf-save to accept.
    worse = [judge(one, ()) for one in sweep(1)]
    worse[2] = Verdict(case(2).id, (Finding(rule="slowdown", status="regressed", observed=0.5),))
    status, _, errors = command("accept", record(sweep(1), verdicts=worse), "baselines/worse")
    assert status == 3 and f"has 1 failing or invalid case of 8, the first is '{case(2).id}'" in errors


def test_accept_passes_over_what_was_wrong_with_the_old_baseline_alone(command):
    """It is the one that is replaced. What the run itself has wrong stays."""
    now, elsewhere = sweep(1), Fingerprint({**MACHINE.identity, "cpu_model": "Other CPU"}, MACHINE.stack)
    before = [disturbed(now[0]), replace(now[1], fingerprint=elsewhere), *now[2:6], accuracy([1] * 100, number=0), *now[7:]]
    promised = (Limit("max_slowdown", 0.05, None, "budget 1"),)
    against = [judge(one, promised, was) for one, was in zip(now, before, strict=True)]
    assert [one.status for one in against[:2]] == ["invalid"] * 2 and against[6].status == "invalid"
    assert "in the baseline visit 1 of 20 was disturbed" in against[0].findings[0].note
    run = record(now, verdicts=against)
    assert command("accept", run, "baselines/new") == (
        0, "saved 8 cases as baselines/new; hold a run against it with --perf-against=baselines/new\n"
        "it holds what was measured by: pytest suites\n", ""
    )  # fmt: skip
    saved = baselines.load("baselines/new")
    assert {saved.status(name) for name in saved} <= {"pass", "inconclusive"}
    spoilt = [disturbed(now[0]), *now[1:]]
    found = [judge(one, promised, one) for one in spoilt]
    status, _, errors = command("accept", record(spoilt, verdicts=found), "baselines/spoilt")
    assert status == 3 and f"has 1 failing or invalid case of 8, the first is '{case(0).id}'" in errors


def test_a_part_of_a_suite_does_not_replace_a_baseline_unasked(command):
    command("accept", record(sweep(1)), "baselines/it")
    part = record(sweep(2)[:3])
    status, output, errors = command("accept", part, "baselines/it", "--overwrite")
    assert (status, output) == (3, "") and errors == (
        f"perfq: the run {part} has 3 of the 8 cases of baselines/it, and in its place would drop "
        f"{', '.join(sorted(one.case.id for one in sweep(1)[3:])[:2])} and 3 more; measure the whole suite, or give --subset "
        "where they were left out on purpose\n"
    )
    assert len(baselines.load("baselines/it")) == 8
    assert command("accept", part, "baselines/it", "--overwrite", "--subset")[0] == 0
    assert len(baselines.load("baselines/it")) == 3 and len(baselines.load("baselines/it.previous")) == 8
    # More than there were is no loss.
    assert command("accept", record(sweep(3)), "baselines/it", "--overwrite")[0] == 0


def test_a_baseline_names_the_run_that_was_accepted_as_the_last_one(command):
    run = record(sweep(1))
    assert command("accept", "last", "baselines/it")[0] == 0
    assert baselines.load("baselines/it").meta["provenance"]["run"] == run


def test_accept_refuses_a_run_that_is_unfinished_or_has_no_reference_layer(command):
    """Either could be saved, and would then miss cases, or never gate."""
    cut_off = record(sweep(1)[:5], finish=False)
    status, output, errors = command("accept", cut_off, "baselines/it")
    assert (status, output) == (3, "") and errors == (
        f"perfq: the run {cut_off} is unfinished, with 5 cases: as a baseline it would miss the others; take it up with "
        "--perf-resume, then accept it\n"
    )
    with Store.open(".perfq/results.db") as store:
        trial = store.begin_run(["perfq", "ab"], {"items": 1, "trial": {"base": "main", "candidate": ".", "vs": None}})
        store.record(trial, "test_a.py::one", latency(0).to_json(), judge(latency(0), ()).to_json())
        store.finish_run(trial)
    status, output, errors = command("accept", "last", "baselines/it")
    assert (status, output) == (3, "") and errors == (
        f"perfq: the run {trial} is one of `perfq ab` or `perfq bisect`: its timings have no reference layer beside them, without "
        "which no later run can be held against it; save a run of pytest, with --perf-save\n"
    )
    assert not os.path.exists("baselines")


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


def test_no_command_at_all_shows_the_help_and_no_summary_is_cut_off(command):
    status, output, errors = command()
    assert (status, output) == (3, "") and errors.startswith("Usage: perfq [OPTIONS] COMMAND")
    assert "..." not in errors.partition("Commands:")[2]


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
    status, _, errors = command("export", "--output", "no/such/folder.json")
    assert status == 3 and "cannot write no/such/folder.json: No such file or directory" in errors


def test_a_case_nobody_knows_is_met_with_the_nearest_five_not_with_all(command):
    record([latency(number) for number in range(30)])
    status, output, errors = command("history", "s32")
    near = [repr(case(number).id) for number in range(5)]
    assert (status, output) == (3, "")
    assert errors == (
        f"perfq: unknown case 's32'; did you mean {', '.join(near[:4])} or {near[4]}? the store has 30 cases: see `perfq list "
        "cases`\n"
    )
    wrong = case(0, quantization=Static("MatMul")).id
    assert 1 <= command("history", wrong)[2].count("squad/bert/ort@cpu/int8-dynamic") <= 5
    far = command("history", "zzz")[2]
    assert far == "perfq: unknown case 'zzz'; the store has 30 cases: see `perfq list cases`\n"


def test_the_nearest_of_ten_thousand_cases_are_found_quickly():
    known = [case(number).id for number in range(10_000)]
    wanted = case(7).id
    started = time.perf_counter()
    assert nearest(wanted.replace("bert", "bart"), known)[0] == wanted
    assert time.perf_counter() - started < 2.0


@pytest.mark.parametrize(
    "words",
    [
        ["export", "last"],
        ["export", "last", "--format", "csv"],
        ["report"],
        ["compare", "last", "last"],
        ["accept", "last", "b/x"],
    ],
)
def test_nothing_to_show_is_one_sentence_and_status_3(command, words):
    Store.open(".perfq/results.db").close()
    assert command(*words) == (
        3, "", "perfq: there is no run 'last': the store .perfq/results.db holds none yet; a run of pytest over a suite makes one\n"
    )  # fmt: skip
    run = record([], finish=False)
    assert command(*words) == (
        3, "", f"perfq: the run {run} holds no record: no case was judged in it; name another run, see `perfq list runs`\n"
    )  # fmt: skip


def test_an_empty_store_lists_nothing_in_one_sentence(command):
    Store.open(".perfq/results.db").close()
    for what in ("runs", "cases"):
        assert command("list", what) == (
            0,
            f"no {what} in .perfq/results.db yet; a run of pytest over a suite brings them\n",
            "",
        )
    assert "the store .perfq/results.db holds no case yet; a run of pytest" in command("history", "a")[2]
    assert command("list", "baselines")[:2] == (0, "no baselines in baselines; save one with --perf-save baselines/NAME\n")


def test_a_baseline_without_its_meta_is_said_to_lack_it(command):
    os.remove(f"{save('a', sweep(1))}/meta.json")
    status, _, errors = command("compare", "baselines/a", "baselines/a")
    assert status == 3 and errors.startswith("perfq: the baseline baselines/a lacks meta.json, without which nothing in it")
    listed = command("list", "baselines")
    assert listed[0] == 0 and one_line(listed[1]).startswith("the baseline baselines/a lacks meta.json")


def test_the_folder_of_baselines_lists_them(command):
    save("v1", sweep(1)), save("v2", sweep(1))
    status, _, errors = command("compare", "baselines", "baselines/v1")
    assert (status, errors) == (
        3, "perfq: baselines is not a baseline, it is a folder of 2 baselines: baselines/v1, baselines/v2; name one of them\n"
    )  # fmt: skip
    record(sweep(1))
    assert command("compare", "v1", "last")[2].endswith("; a baseline is named by its folder, as baselines/v1\n")


def test_json_says_of_a_case_on_one_side_what_to_do(command):
    save("a", sweep(1)), save("b", sweep(2)[1:])
    status, output, _ = command("compare", "baselines/a", "baselines/b", "--format", "json")
    values = json.loads(output)
    assert (status, values["status"], values["counts"]) == (2, "invalid", {"pass": 7, "invalid": 1})
    (missing,) = [one for one in values["cases"] if one["case_id"] == case(0).id]
    assert len(missing["reasons"]) == 1 and missing["reasons"][0].endswith("-> measure it as well, or compare with --subset")


def test_cases_stand_whole_where_they_fit_and_below_what_they_share_where_not(command, monkeypatch):
    record([latency(number) for number in (0, 15, 1)])
    whole = [line.split()[0] for line in command("list", "cases")[1].splitlines()[2:]]
    assert whole == [case(number).id for number in (0, 1, 15)]
    monkeypatch.setenv("COLUMNS", "55")
    lines = command("list", "cases")[1].splitlines()
    assert lines[0] == "cases of squad/bert/ort@cpu/int8-dynamic[Add,MatMul]/" and len(lines) == 6
    assert lines[0].removeprefix("cases of ") + lines[3].split()[0] == case(0).id


def test_a_run_of_several_processes_is_shown_by_name_and_any_other_as_it_ran(command):
    backwards = [latency(number) for number in (9, 3, 0)]
    for items, order in ((None, [0, 3, 9]), (3, [9, 3, 0])):
        with Store.open(".perfq/results.db") as store:
            run = store.begin_run(["pytest"], {"items": items})
            for one in backwards:
                store.record(run, f"t.py::test[{one.case.id}]", one.to_json(), judge(one, ()).to_json())
            store.finish_run(run)
        rows = list(csv.DictReader(io.StringIO(command("export", run, "--format", "csv")[1])))
        assert [row["case"] for row in rows] == [case(number).id for number in order]


def test_a_case_asked_for_wrongly_stays_invalid(command):
    note = "ort has no option 'opse'; did you mean 'opset'?"
    found = [Measurement(case=case(0), fingerprint=MACHINE, unmeasured=note)]
    verdict = Verdict(case(0).id, (Finding(rule="usage", status="invalid", note=note),))
    record(found, verdicts=[verdict])
    save("a", [latency(0)])
    status, output, _ = command("compare", "baselines/a", "last")
    assert status == 2 and f"{case(0).id}: invalid: {note}" in one_line(output)


def test_the_command_is_a_process_of_its_own(tmp_path):
    """Its import pulls in neither torch nor any framework."""
    code = "import sys, pytest_perfq.cli.commands; print([one for one in ('torch', 'transformers', 'sqlalchemy', 'pytest', 'scipy') if one in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    done = subprocess.run([sys.executable, "-m", "pytest_perfq.cli", "report"], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, "") and done.stderr.startswith("perfq: there is no store at")
    assert "Traceback" not in done.stderr
