"""What a run says at its end: rows in the order of the walk, and a command that shows them again."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from making import case, latency

from pytest_perfq import baselines
from pytest_perfq.cli import main
from pytest_perfq.cli.show import report
from pytest_perfq.core.conditions import Conditions
from pytest_perfq.core.finding import Finding, Verdict
from pytest_perfq.core.verdict import judge
from pytest_perfq.recorder import Recorder
from pytest_perfq.settings import Settings
from pytest_perfq.store import Store

WALK = [9, 0, 3]
DAY = 86400.0


def settings(store, tmp_path):
    return Settings(
        gpu="auto", against=None, save=None, store=str(store), data=None, cache=tmp_path / "cache", time=1.0, precision=0.01,
        visits=3, threads=1, only=None, strict=False, resume=False, allow_pickle=False, overwrite=False,
    )  # fmt: skip


def nodeid(number):
    return f"t.py::test[{case(number).id}]"


def finished(recorder, numbers):
    for number in numbers:
        measurement = latency(number)
        verdict = judge(measurement, ())
        record = {"measurement": measurement.to_json(), "verdict": verdict.to_json(), "resumed": False, "attempt": 1}
        recorder.remember(nodeid(number), record)
    recorder.finish(interrupted=False)


def shapes(recorder):
    text = "\n".join(recorder.lines(120))
    return [word for line in text.splitlines() for word in line.split() if word in {"b1", "b4", "b10"}]


@pytest.mark.parametrize("order", [[9, 0, 3], [0, 3, 9], [3, 9, 0]])
def test_rows_stand_in_the_order_of_the_walk(tmp_path, order):
    """However several processes finish, the rows are those of one process."""
    told = Recorder(settings(tmp_path / "told.db", tmp_path))
    told.walk([nodeid(number) for number in WALK])
    finished(told, order)
    assert shapes(told) == ["b10", "b1", "b4"]
    untold = Recorder(settings(tmp_path / "untold.db", tmp_path))
    finished(untold, order)
    assert shapes(untold) == ["b1", "b4", "b10"]


def test_a_process_that_collected_them_itself_shows_them_as_they_came(tmp_path):
    recorder = Recorder(settings(tmp_path / "runs.db", tmp_path))
    recorder.open(3)
    finished(recorder, WALK)
    assert shapes(recorder) == ["b10", "b1", "b4"]


def test_the_command_that_shows_it_again_finds_the_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for store, option in ((Path(".perfq/results.db").resolve(), ""), (tmp_path / "x.db", f" --store {tmp_path / 'x.db'}")):
        recorder = Recorder(settings(store, tmp_path))
        finished(recorder, [0])
        assert recorder.lines(300)[-2] == f"run {recorder._run} is in {store}; again with:"
        # One line at any width, to be copied.
        assert {recorder.lines(width)[-1] for width in (40, 300)} == {f"  perfq report {recorder._run}{option}"}


def test_a_password_in_the_name_of_the_store_is_not_printed(tmp_path):
    recorder = Recorder(settings("postgresql://me:secret@db/perfq", tmp_path))
    recorder._run, recorder._name = "20260101-000000-abcd", "postgresql://me:***@db/perfq"
    text = " ".join(" ".join(recorder.lines(80)).split())
    assert "secret" not in text and text.endswith("perfq report 20260101-000000-abcd with PERFQ_STORE set to that URL")


def disturbed(number):
    """A timing that is invalid: the clock stepped in its first visit."""
    found = latency(number)
    first = replace(found.visits[0], conditions=Conditions(duration_s=1.0, readings=9, clock_step_s=-3.0))
    return replace(found, visits=(first, *found.visits[1:]))


def told_of_age(tmp_path, before, now):
    """What a run says of the age of timings. before: (measurement, days ago) of an earlier run. now: its measurements."""
    tmp_path.mkdir(exist_ok=True)
    with Store.open(tmp_path / "runs.db") as store:
        run = store.begin_run(["pytest"], {})
        for one, days in before:
            verdict = judge(one, ())
            at_s = time.time() - days * DAY
            store.record(run, f"t.py::test[{one.case.id}]", one.to_json(), verdict.to_json(), at_s=at_s)
        store.finish_run(run)
    recorder = Recorder(settings(tmp_path / "runs.db", tmp_path))
    for one in now:
        record = {"measurement": one.to_json(), "verdict": judge(one, ()).to_json(), "resumed": False, "attempt": 0}
        recorder.remember(f"t.py::test[{one.case.id}]", record)
    recorder.finish(interrupted=False)
    return [line for line in recorder.lines(200) if "without a valid timing" in line]


@pytest.mark.parametrize("days, told", [(9.1, "9 days"), (1.1, "1 day"), (1.9, "2 days"), (0.5, None)])
@pytest.mark.parametrize("bad", ["disturbed", "unmeasured"])
def test_a_case_without_a_valid_timing_tells_how_old_its_last_one_is(tmp_path, days, told, bad):
    now = disturbed(0) if bad == "disturbed" else replace(latency(0), visits=(), unmeasured="not on this GPU")
    # Of earlier timings that were no more valid, and of other cases, nothing is told.
    before = [(latency(0), days), (disturbed(0), days / 4), (latency(1), days / 8)]
    found = told_of_age(tmp_path, before, [now, latency(2)])
    assert found == ([] if told is None else [f"1 case without a valid timing had its last one {told} ago"])


def test_each_case_has_an_age_of_its_own(tmp_path):
    """The newest of all would hide a case that nobody has timed for weeks."""
    before = [(latency(0), 30), (latency(0), 20.2), (latency(1), 2.1), (latency(2), 0.3), (latency(3), 1.2)]
    now = [disturbed(0), disturbed(1), disturbed(2), latency(3)]
    assert told_of_age(tmp_path, before, now) == ["2 cases without a valid timing had their last one 2 to 20 days ago"]


def test_a_run_that_timed_everything_and_a_case_that_never_was_timed_tell_no_age(tmp_path):
    assert told_of_age(tmp_path, [(latency(0), 9)], [latency(0)]) == []
    assert told_of_age(tmp_path / "other", [(latency(1), 9)], [disturbed(0)]) == []


def test_what_was_resumed_is_counted_and_nothing_to_resume_is_told(tmp_path):
    def told(records):
        recorder = Recorder(replace(settings(tmp_path / "runs.db", tmp_path), resume=True))
        for number, resumed in enumerate(records):
            one = latency(number)
            record = {"measurement": one.to_json(), "verdict": judge(one, ()).to_json(), "resumed": resumed, "attempt": 0}
            recorder.remember(nodeid(number), record)
        recorder.finish(interrupted=len(records) < 3)
        return [line for line in recorder.lines(200) if line.startswith(("resumed", "there was"))]

    assert told([False, False]) == ["there was no unfinished run to resume in this store, so all was measured, as a new run"]
    assert told([True, True, False]) == ["resumed: 2 of 3 cases had been measured before, and stand as they were"]


@pytest.mark.parametrize(("faster", "told"), [(1, "1 case has improved"), (2, "2 cases have improved"), (0, None)])
def test_improvements_ask_to_be_kept(tmp_path, faster, told):
    saved = [latency(number) for number in range(3)]
    baselines.save(tmp_path / "v1", saved, [judge(one, ()) for one in saved])
    recorder = Recorder(replace(settings(tmp_path / "runs.db", tmp_path), against=str(tmp_path / "v1")))
    for number, one in enumerate(saved):
        status = "improved" if number < faster else "pass"
        verdict = Verdict(one.case.id, (Finding(rule="slowdown", status=status, observed=-0.2, limit=0.05),))
        record = {"measurement": one.to_json(), "verdict": verdict.to_json(), "resumed": False, "attempt": 0}
        recorder.remember(nodeid(number), record)
    recorder.finish(interrupted=False)
    found = [line for line in recorder.lines(1000) if "improved;" in line]
    step = f"; make this run the baseline, so that the gain is kept, with: perfq accept {recorder._run} {tmp_path / 'v1'} --overwrite"
    assert found == ([] if told is None else [told + step])


@pytest.mark.parametrize(("numbers", "held"), [([0, 2], 2), ([0], 1), ([0, 1, 2], None), ([0, 1, 2, 3], None), ([3], 0)])
def test_cases_of_the_baseline_that_had_no_verdict_are_counted_and_the_command_names_them(tmp_path, capsys, numbers, held):
    """Whether somebody chose others, or the case was taken away, this run cannot know."""
    was = [latency(number) for number in range(3)]
    folder = baselines.save(tmp_path / "v1", was, [judge(one, ()) for one in was])
    recorder = Recorder(replace(settings(tmp_path / "runs.db", tmp_path), against=str(folder)))
    finished(recorder, numbers)
    found = [line for line in recorder.lines(1000) if "were judged" in line]
    if held is None:
        assert found == []
        return
    told, _, again = found[0].partition(": ")
    assert told == f"{held} of the 3 cases of the baseline {folder} were judged; the others are named by"
    with pytest.raises(SystemExit) as done:
        main([*again.split()[1:], "--format", "json"])
    verdicts = {one["case_id"]: one["status"] for one in json.loads(capsys.readouterr().out)["cases"]}
    assert done.value.code == 2
    assert {name for name, status in verdicts.items() if status == "invalid"} == {
        case(number).id for number in range(3) if number not in numbers
    }


def test_rows_of_one_case_in_two_tests_name_their_test(tmp_path):
    recorder = Recorder(settings(tmp_path / "it.db", tmp_path))
    for name, number in (("a/test_a.py::test_fast", 0), ("a/test_a.py::test_again", 0), ("a/test_a.py::test_fast", 3)):
        measurement = latency(number)
        record = {"measurement": measurement.to_json(), "verdict": judge(measurement, ()).to_json(), "resumed": False}
        recorder.remember(f"{name}[{case(number).id}]", record | {"attempt": 1})
    recorder.finish(interrupted=False)
    live = "\n".join(recorder.lines(160))
    assert "ort@cpu int8-dynamic[Add,MatMul] of a/test_a.py::test_fast " in live
    assert live.count(" of a/test_a.py::test_again ") == 1 and live.count(" of a/test_a.py::test_fast ") == 1
    assert live.count("ort@cpu int8-dynamic[Add,MatMul]  ") == 1  # what stands there once needs no test
    assert report("last", "table", str(tmp_path / "it.db"), 160).count(" of a/test_a.py::test_again ") == 1
