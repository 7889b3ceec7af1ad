"""Items of cases that were timed, or should have been, before them: what they make of it without timing anything themselves."""

from types import SimpleNamespace

import pytest
from making import MACHINE, latency

from pytest_perfq.contracts import Lack
from pytest_perfq.core.benchmarks import case_of
from pytest_perfq.core.finding import Finding
from pytest_perfq.core.measurement import Measurement
from pytest_perfq.item import Gate
from pytest_perfq.target import Target
from pytest_perfq.trials.ahead import Ahead
from pytest_perfq.trials.trouble import Trouble

WHOLE = latency()
CASE = WHOLE.case
TEST = "test_it.py::test_work"


class Bench:
    """A workbench that measures nothing."""

    def __init__(self, refusals=()):
        self.refusals = list(refusals)

    def refuses(self, case):
        return self.refusals

    def unmeasured(self, case, reason):
        return Measurement(case=case, fingerprint=MACHINE, unmeasured=reason)


@pytest.fixture
def judged(tmp_path):
    """The outcome of the case's item after this was found ahead of it."""

    def judged(found, bench=None, nodeid=None, strict=False, save=None, budgets=()):
        found.write(tmp_path / "ahead.json")
        settings = SimpleNamespace(
            strict=strict, resume=False, against=None, store=str(tmp_path / "results.db"), save=save, threads=1, passes=3
        )
        gate = Gate(settings, Target("cpu", "cpu", "cpu"), lambda step: None, tmp_path / "ahead.json")
        gate._workbench = bench or Bench()
        if nodeid is None:
            return gate.judge(CASE, None, dict(budgets), "t.py::x")
        return gate.judge_timed(lambda: pytest.fail("it was timed again"), {}, nodeid)

    return judged


def test_what_was_measured_is_taken_as_it_is(judged):
    outcome = judged(Ahead({CASE.id: WHOLE}))
    assert outcome.measurement == WHOLE and not outcome.failed and not outcome.skipped


def test_the_first_baseline_cannot_break_what_later_runs_are_held_to(judged):
    promise = {"max_slowdown": 0.1}
    alone = judged(Ahead({CASE.id: WHOLE}), strict=True, budgets=promise)
    assert alone.failed and "no baseline to hold it against" in alone.message
    first = judged(Ahead({CASE.id: WHOLE}), strict=True, budgets=promise, save="baselines/v1")
    assert not first.failed and first.verdict.status == "pass"
    # What was promised is saved with it; what was never timed is not fine for that.
    assert [limit.rule for limit in first.verdict.limits] == ["max_slowdown"]
    slower = Ahead({CASE.id: WHOLE}, decided={CASE.id: (Finding(rule="max_slowdown", status="regressed", observed=0.4),)})
    assert judged(slower, strict=True, budgets=promise, save="baselines/v1").verdict.status == "regressed"


@pytest.mark.parametrize(
    ("kind", "failed", "status", "message"),
    [
        ("lost", True, "fail", "it broke"),
        ("program", True, "fail", "it broke"),
        ("usage", True, "invalid", "usage error: it broke"),
        ("data", True, "invalid", "usage error: it broke"),
        ("unavailable", False, None, "unavailable: it broke"),
        ("refused", False, None, "refused: it broke"),
    ],
)
def test_what_went_wrong_ahead_ends_the_item_as_its_own_measurement_would(judged, kind, failed, status, message):
    # Whatever was measured in other visits.
    outcome = judged(Ahead({CASE.id: WHOLE}, troubles={CASE.id: Trouble(kind, "it broke")}))
    assert (outcome.failed, outcome.skipped, outcome.message) == (failed, not failed, message)
    assert (outcome.record["verdict"]["status"] if outcome.record else None) == status
    assert outcome.record is None or outcome.record["measurement"]["visits"] == []


def test_what_cannot_be_fetched_is_unmeasured_where_nothing_may_be_skipped(judged):
    outcome = judged(Ahead(troubles={CASE.id: Trouble("unavailable", "no network")}), strict=True)
    assert outcome.failed and outcome.verdict.status == "unmeasured" and "unavailable: no network" in outcome.message


def test_what_workers_refused_is_unmeasured_where_nothing_may_be_skipped(judged):
    found = Ahead(troubles={CASE.id: Trouble("refused", "its GPU is another's")})
    outcome = judged(found, strict=True)
    assert outcome.failed and outcome.verdict.status == "unmeasured" and "its GPU is another's" in outcome.message
    # What the item's process refuses itself it says in its own words.
    assert judged(found, Bench([Lack("no driver")])).message == "refused: no driver"


def test_a_case_without_a_visit_is_undecided_and_not_timed(judged):
    note = "no time was left: give --perf-time more than 4s"
    beside = Finding(rule="slowdown", status="pass", observed=0.01, note="against backend=eager, side by side, 3 visits")
    for found in (Ahead(unvisited={CASE.id: note}), Ahead(unvisited={CASE.id: note}, decided={CASE.id: (beside,)})):
        outcome = judged(found, strict=True)
        assert not outcome.failed and not outcome.skipped and outcome.verdict.status == "inconclusive"
        assert outcome.verdict.findings[0].note == note == outcome.record["measurement"]["unmeasured"]
        assert outcome.record["measurement"]["visits"] == [] and outcome.verdict.findings[1:] == found.decided.get(CASE.id, ())
    slower = Finding(rule="slowdown", status="regressed", observed=0.5, note="against backend=eager, side by side")
    assert judged(Ahead(unvisited={CASE.id: note}, decided={CASE.id: (slower,)})).failed


def test_what_is_to_be_known_of_its_measuring_stands_beside_its_verdict(judged):
    noted = Finding(rule="measured", status="inconclusive", note="a worker was lost")
    outcome = judged(Ahead({CASE.id: WHOLE}, noted={CASE.id: (noted,)}))
    assert outcome.verdict.status == "inconclusive" and outcome.verdict.findings[-1] == noted and outcome.measurement == WHOLE


@pytest.mark.parametrize("kind", ["lost", "program"])
def test_a_test_of_pytest_benchmark_that_went_wrong_ahead_fails(judged, kind):
    outcome = judged(Ahead(troubles={case_of(TEST).id: Trouble(kind, "it broke")}), nodeid=TEST)
    assert outcome.failed and outcome.message == "it broke" and outcome.record["verdict"]["status"] == "fail"
    assert outcome.measurement.fingerprint.identity["threads"] == 1


def test_a_test_of_pytest_benchmark_without_a_visit_is_not_timed_again(judged):
    outcome = judged(Ahead(unvisited={case_of(TEST).id: "no time was left"}), nodeid=TEST)
    assert not outcome.failed and outcome.verdict.status == "inconclusive"
