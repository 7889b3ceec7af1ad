"""What is measured before the items, by workers and sides that say what they are told: whose time it is, and who overrules whom."""

from types import SimpleNamespace

import pytest
from making import latency
from told import NAMES, WHOLE, Told

from pytest_perfq import baselines
from pytest_perfq.core.finding import Finding, Verdict
from pytest_perfq.core.verdict import judge
from pytest_perfq.errors import ProgramError, UsageError
from pytest_perfq.trials import ahead, beforehand, revisions
from pytest_perfq.trials.beforehand import Beforehand
from pytest_perfq.trials.entry import Collected
from pytest_perfq.trials.environment import Environment
from pytest_perfq.trials.pace import VISIT_S
from pytest_perfq.trials.passes import LATE

ITEMS = [Collected(f"t.py::{name}", whole.case) for name, whole in WHOLE.items()]
DEFAULTS = {
    "passes": 3, "time": 15.0, "precision": 0.01, "run_time": None, "against": None, "vs": None, "confirm": None,
    "data": None, "allow_pickle": False, "threads": 1, "l2": "warm", "resume": False,
}  # fmt: skip
TOO_LATE = Finding(rule="slowdown", status="inconclusive", note="not measured: the time given was used up")


def measured_beside(status, observed=0.2):
    return Finding(rule="slowdown", status=status, observed=observed, limit=0.05, note="side by side, 4 visits")


class Beside:
    """Trials that take 5 s and say the same of every case. asked: names and time of each."""

    def __init__(self, clock, finding=TOO_LATE, ended=None):
        self.clock, self.finding, self.ended, self.asked, self.interrupted = clock, finding, ended, [], False

    def __call__(self, entries, sides, rules, time_s, **told):
        self.asked.append(([one.name for one in entries], time_s))
        self.verdicts = {one.name: Verdict(one.name, (self.finding,)) for one in entries}
        return self

    def run(self):
        self.clock.now += 5.0


@pytest.fixture
def before(monkeypatch, tmp_path):
    """Everything before the items: (what was found, sentences, what was asked of the sides). told: the workers of the passes."""

    def commit_of(name, root):
        if name != "main":
            raise UsageError(f"there is no revision {name!r}")

    def before(told, beside=None, watch=lambda moment: None, new=None, **given):
        beside = beside or Beside(told)
        monkeypatch.setattr(ahead, "Worker", told)
        monkeypatch.setattr(beforehand, "Trials", beside)
        monkeypatch.setattr(beforehand, "collect", lambda *args: [one for one in ITEMS if one.case.id != new])
        base = Environment(label="main (abc)", folder=tmp_path)
        monkeypatch.setattr(revisions, "environment", lambda *args, **named: base)
        monkeypatch.setattr(revisions, "root_of", lambda folder, otherwise: folder)
        monkeypatch.setattr(revisions, "commit_of", commit_of)
        said = []
        settings = SimpleNamespace(**DEFAULTS | {"cache": tmp_path} | given)
        found = Beforehand(settings, ITEMS, (), tmp_path, watch, said.append, clock=told.clock).run()
        return found, said, beside.asked

    return before


@pytest.fixture
def slower(monkeypatch, tmp_path):
    """A baseline of the same day, by which the first of three cases is slower by the half. Where it is."""
    was = [latency(number, visits=4) for number in range(3)]
    monkeypatch.setitem(WHOLE, NAMES[0], latency(0, visits=4, ms=7.5))
    return str(baselines.save(str(tmp_path / "v1"), was, [judge(one, ()) for one in was]))


def test_passes_have_all_the_time_where_nothing_follows_and_half_where_something_does(before, monkeypatch):
    shares = []
    run = ahead.InPasses.run
    monkeypatch.setattr(ahead.InPasses, "run", lambda self: (shares.append((self.time_s, self.visit["time_s"])), run(self)))
    before(Told(), run_time=90.0)
    # Three passes of three cases: a visit may take a ninth; with more time than all could use, 5 s.
    assert shares.pop() == (90.0, 5.0)
    before(Told(), run_time=18.0)
    assert shares.pop() == (18.0, 2.0)
    before(Told(), run_time=0.5)
    assert shares.pop() == (0.5, VISIT_S)
    told = Told(visit_s=1.0)
    _, _, asked = before(told, run_time=90.0, vs="backend=eager")
    assert shares.pop()[0] == 45.0
    # What the nine visits left is all for those side by side.
    assert asked == [(NAMES, 81.0)]
    _, _, asked = before(Told())
    assert shares.pop() == (None, 5.0) and asked == []


def test_a_confirmation_has_what_the_others_left_it(before, slower):
    told = Told(visit_s=10.0)
    beside = Beside(told, measured_beside("pass"))
    _, _, asked = before(told, beside, run_time=100.0, vs="backend=eager", against=slower, confirm="main")
    # Five visits of ten seconds are half of it; a half of the rest, of which 5 s are used; and the rest.
    assert [time_s for _, time_s in asked] == [25.0, 45.0]


def test_a_case_without_a_visit_learns_so_and_is_told_in_one_sentence(before):
    found, said, _ = before(Told(start_s=1.0, visit_s=2.0), run_time=4.0)
    assert list(found.measurements) == NAMES[:2] and found.troubles == {}
    more = "; all visits of this suite take about 22s"
    assert found.unvisited == {NAMES[2]: f"no time was left: give --perf-time more than 4s{more}"}
    assert said == [f"--perf-time of 4s is used up: 1 case got no visit and 2 cases fewer than 3{more}"]
    # Half of the time was held back: twice as much is needed for all of them.
    found, said, _ = before(Told(start_s=1.0, visit_s=2.0), run_time=8.0, vs="backend=eager")
    assert said == ["--perf-time of 8s is used up: 1 case got no visit and 2 cases fewer than 3" + more.replace("22", "44")]


def test_what_time_did_not_suffice_for_side_by_side_is_told_and_undecided(before):
    told = Told()
    found, said, _ = before(told, Beside(told, ended=LATE), run_time=60.0, vs="backend=eager")
    assert said == ["--perf-time of 60s is used up: 3 cases not decided beside backend=eager; give it more"]
    (finding,) = found.decided[NAMES[0]]
    assert (finding.rule, finding.status) == ("slowdown", "inconclusive")
    assert finding.note == "not measured side by side with backend=eager: the time given was used up"


def test_what_went_wrong_alone_is_not_held_beside_another(before):
    told = Told()
    told.does[NAMES[1]] = [None, ProgramError("it broke")]
    found, _, asked = before(told, vs="backend=eager")
    assert asked == [([NAMES[0], NAMES[2]], None)] and list(found.troubles) == [NAMES[1]]


def test_an_alarm_of_the_gate_is_called_off_by_a_decision_alone(before, slower):
    found, _, asked = before(Told(), against=slower, confirm="main")
    assert asked == [([NAMES[0]], None)]
    (finding,) = found.decided[NAMES[0]]
    assert finding.status == "regressed" and finding.observed == pytest.approx(0.5, abs=0.05)
    assert finding.note.endswith("; not measured side by side with main (abc): the time given was used up")
    for status, kept in (("pass", "pass"), ("regressed", "regressed"), ("improved", "improved"), ("inconclusive", "regressed")):
        told = Told()
        found, _, _ = before(told, Beside(told, measured_beside(status)), against=slower, confirm="main")
        (finding,) = found.decided[NAMES[0]]
        assert finding.status == kept and finding.note.endswith("against main (abc), side by side, 4 visits")
        assert finding.observed == (0.2 if kept == status else pytest.approx(0.5, abs=0.05))


def test_a_candidate_that_breaks_side_by_side_is_no_open_question(before, slower):
    told = Told()
    found, _, _ = before(
        told, Beside(told, Finding(rule="build", status="fail", note="it broke")), against=slower, confirm="main"
    )
    gate, broken = found.decided[NAMES[0]]
    assert gate.status == "regressed" and (broken.rule, broken.status) == ("build", "fail")
    assert broken.note == "not measured side by side with main (abc): it broke"


def test_what_only_nominates_learns_more_from_visits_that_could_not_decide(before, slower, monkeypatch):
    """Of another day nothing alarms."""
    monkeypatch.setattr("pytest_perfq.core.slowdown.SAME_DAY_S", -1.0)
    told = Told()
    found, _, _ = before(told, Beside(told, measured_beside("inconclusive")), against=slower, confirm="main")
    (finding,) = found.decided[NAMES[0]]
    assert (finding.status, finding.observed) == ("inconclusive", 0.2)
    found, _, _ = before(Told(), against=slower, confirm="main")
    (finding,) = found.decided[NAMES[0]]
    assert finding.status == "inconclusive" and finding.observed == pytest.approx(0.5, abs=0.05)


def test_a_case_that_the_revision_lacks_is_named_and_stays_as_it_was(before, slower):
    found, said, asked = before(Told(), against=slower, confirm="main", new=NAMES[0])
    assert said == [f"{NAMES[0]} is not in main (abc) and cannot be confirmed against it"]
    assert asked == [] and found.decided[NAMES[0]][0].status == "regressed"


def test_suspects_are_shown_from_the_second_pass_on(before, slower):
    moments = []
    before(Told(), against=slower, watch=moments.append)
    assert [one.suspects for one in moments] == [0] * 3 + [1] * 6


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"vs": "eager"}, r"^'eager' names no configuration"),
        ({"confirm": "mian", "against": "v1"}, r"^there is no revision 'mian'"),
    ],
)
def test_what_cannot_be_had_is_found_out_before_anything_is_measured(before, given, sentence):
    told = Told()
    with pytest.raises(UsageError, match=sentence):
        before(told, **given)
    assert told.starts == 0
