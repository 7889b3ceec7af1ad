"""`perfq ab` where the two sides say what they are told: what it makes of cases of one side only, of the age of the base."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from making import MACHINE, accuracy
from scripted import case
from test_running import RIGHT, Both

from pytest_perfq.cli import ab as trying
from pytest_perfq.cli import main
from pytest_perfq.core.budget import Limit
from pytest_perfq.report.seen import range_seen, too_fine
from pytest_perfq.store import Calibration, Store
from pytest_perfq.trials import revisions, running
from pytest_perfq.trials.entry import Collected

pytestmark = pytest.mark.usefixtures("alone", "unwatched")
DAY = 86400.0


class Sides(Both):
    """base, candidate: the cases of each."""

    candidate, shared = SimpleNamespace(label="the working tree"), False

    def __init__(self, base, candidate, revision=None, limits=(), **given):
        super().__init__(sd=0.003, **given)
        self.base = SimpleNamespace(label="main", revision=revision, folder=None)
        self.both = [[Collected(f"test.py::{one.id}", one, tuple(limits)) for one in side] for side in (base, candidate)]

    def collected(self, words):
        return self.both


@pytest.fixture
def ab(tmp_path, monkeypatch, capsys):
    """Holds these sides against each other: (status, output, errors)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(sides, *words):
        monkeypatch.setattr(trying, "_sides", lambda asked, say: (sides, ["suites"]))
        with pytest.raises(SystemExit) as done:
            main(["ab", "main", ".", "--store", "it.db", *words])
        output, errors = capsys.readouterr()
        return done.value.code, output, errors

    return run


def test_a_case_that_the_candidate_lacks_is_undecided_unless_it_was_left_out_on_purpose(ab):
    gone = f"1 case is only in main, and not compared: {case(1).id}"
    status, output, errors = ab(Sides([case(0), case(1)], [case(0)]))
    assert status == 2 and f"perfq: {gone}; give --subset where that is meant\n" in errors
    assert "1 case: 1 pass; 1 only in the base: not compared" in output
    status, output, errors = ab(Sides([case(0), case(1)], [case(0)]), "--subset")
    assert status == 0 and f"perfq: {gone}\n" in errors and "1 only in the base: not compared" in output


def test_a_case_that_only_the_candidate_has_is_named_and_fine(ab):
    status, _, errors = ab(Sides([case(0)], [case(0), case(1)]))
    assert status == 0 and f"1 case is only in the working tree, and not compared: {case(1).id}\n" in errors


def test_a_missing_case_hides_no_slower_one(ab, monkeypatch):
    sides = Sides([case(0), case(1)], [case(0)], slower={case(0).id: 0.3})
    monkeypatch.setattr(running.explaining, "explained", lambda entry, opened: ("why", ()))
    assert ab(sides)[0] == 1


def test_cases_of_another_kind_than_was_asked_for_are_nobodys_loss(ab):
    scored = accuracy(RIGHT, number=0).case
    sides = Sides([case(0), scored], [case(0)])
    status, output, errors = ab(sides, "--only", "latency", "--format", "json")
    assert status == 0 and json.loads(output)["only_in_base"] == [] and "only in main" not in errors
    assert ab(Sides([case(0), scored], [case(0)]))[0] == 2


@pytest.mark.parametrize(
    "age_days, mark",
    [
        (3, "already red in the baseline, 3 days old"),
        (20, "already red in the baseline, 20 days old: over 14 days, so mend it or change the promise"),
    ],
)
def test_what_the_base_breaks_as_well_is_marked_for_as_long_as_the_base_is_young(ab, monkeypatch, age_days, mark):
    asked = []
    monkeypatch.setattr(revisions, "age_s", lambda commit, folder: asked.append(commit) or age_days * DAY)
    scored = accuracy(RIGHT, number=0).case
    limits = (Limit("min_score", 0.95, None, "budget 1"), Limit("p50_ms", 0.01, None, "budget 2"))
    sides = Sides([scored, case(0)], [scored, case(0)], revision="abc", limits=limits)
    status, output, _ = ab(sides, "--format", "json")
    found = {one["rule"]: one for case in json.loads(output)["cases"] for one in case["findings"]}
    assert status == 1 and asked == ["abc"]
    assert [found[rule]["status"] for rule in ("min_score", "p50_ms")] == ["fail", "fail"]
    assert all(found[rule]["note"].endswith(mark) for rule in ("min_score", "p50_ms"))


def calibrated(machine, deviation, *names):
    """Stores that visits of these cases differed by so much there."""
    found = [Calibration(recorded_s=1.0, machine=machine.key, case_id=name, visits=6, deviation=deviation) for name in names]
    with Store.open("it.db") as store:
        store.calibrate(found)


def test_a_promise_finer_than_was_calibrated_is_refused_before_anything_is_timed(ab):
    limits = (Limit("max_slowdown", 0.02, None, "budget 1"),)
    calibrated(MACHINE, 0.05, case(0).id)
    sides = Sides([case(0), case(1)], [case(0), case(1)], limits=limits)
    status, output, _ = ab(sides, "--format", "json")
    found = {one["case_id"]: one for one in json.loads(output)["cases"]}
    assert status == 2 and found[case(0).id]["status"] == "invalid" and found[case(1).id]["status"] == "pass"
    assert found[case(0).id]["findings"][0]["note"] == too_fine(0.02, 0.05)
    assert {name for _, name, _ in sides.log} == {case(1).id}


def test_what_can_be_seen_is_told_of_what_was_calibrated_on_this_machine(ab):
    calibrated(MACHINE, 0.01, case(0).id)
    status, _, errors = ab(Sides([case(0), case(1)], [case(0), case(1)]))
    assert status == 0 and f"perfq: {range_seen([0.01], 2)}\n" in errors


@pytest.mark.parametrize("given", ["another machine", "another case", "a coarser promise", "no promise"])
def test_what_was_not_calibrated_so_is_held_as_it_was_promised(ab, given):
    elsewhere = replace(MACHINE, identity={**MACHINE.identity, "cpu_model": "Other CPU"})
    calibrated(elsewhere if given == "another machine" else MACHINE, 0.05, case(given == "another case").id)
    limits = [Limit("max_slowdown", 0.5 if given == "a coarser promise" else 0.02, None, "budget 1")]
    status, _, errors = ab(Sides([case(0)], [case(0)], limits=[] if given == "no promise" else limits))
    assert status == 0 and ("are caught with" in errors) == (given in ("a coarser promise", "no promise"))


def test_the_age_of_a_commit_is_that_of_its_committing(project, monkeypatch):
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2001-09-09T01:46:40Z")  # 1e9 seconds of unix time
    monkeypatch.setenv("GIT_AUTHOR_DATE", "2020-01-01T00:00:00Z")
    commit = project.commit("one")
    monkeypatch.setattr(revisions.time, "time", lambda: 1e9 + 3 * DAY)
    assert revisions.age_s(commit, project.path) == 3 * DAY
    monkeypatch.setattr(revisions.time, "time", lambda: 1e9 - 5.0)
    assert revisions.age_s(commit, project.path) == 0.0  # a clock that is behind
