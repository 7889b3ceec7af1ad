"""The pass scheduler where it is stopped, loses workers, meets sides that cannot measure, or a machine that is disturbed."""

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import Script, blamed, entries, lost, refused, run, statuses

from pytest_perfq.core.conditions import Conditions
from pytest_perfq.core.rules import RULES
from pytest_perfq.errors import TrialError
from pytest_perfq.trials import conclusions, passes
from pytest_perfq.trials.opened import Blamed
from pytest_perfq.trials.passes import LATE, STOPPED, Passes

pytestmark = pytest.mark.usefixtures("alone")


@pytest.mark.parametrize(
    "visit, stage, told",
    [
        (3, "screen", "Ctrl-C stopped the run, while it was screened"),
        (13, "confirm", "while it was confirmed: it has 1 of the 4 fresh visits that its next look takes"),
        (16, "confirm", "while it was confirmed: it has 4 of the 8 fresh visits that its next look takes"),
        (12, "confirm", "Ctrl-C stopped the run, while it was to be confirmed, by fresh visits alone"),
    ],
)
def test_ctrl_c_keeps_what_was_measured_and_says_how_far_it_came(visit, stage, told):
    found, kept = entries(4), []
    script = Script({found[0].name: 0.2}, sd=0.003)

    class Stopped(Script):
        def act(self, what, name, side):
            if what == "time" and len(self.log) == visit + 1:
                raise KeyboardInterrupt

    script = Stopped({found[0].name: 0.2}, sd=0.003)
    scheduler, standings, _ = run(script, found, kept=lambda entry, pair: kept.append(entry.name))
    assert scheduler.interrupted and scheduler.ended == STOPPED
    assert sum(len(one.visits) for one in found) == visit == len(kept)
    verdict = conclusions.verdict(found[0], standings[found[0].name], RULES, scheduler.ended)
    assert verdict.status == "inconclusive" and told in verdict.findings[0].note
    # Slower by 22 %, and what cannot be seen is far less: it is no reason.
    assert "cannot be seen" not in verdict.findings[0].note
    # What was decided before stays decided.
    if stage == "confirm":
        assert statuses(standings)[1:] == ["ok"] * 3


@pytest.mark.parametrize("candidate, status, rule", [(True, "fail", "build"), (False, "invalid", "measured")])
@pytest.mark.parametrize("what", ["prepare", "time"])
def test_a_side_that_cannot_measure_a_case_is_blamed_and_the_others_go_on(candidate, status, rule, what):
    found = entries(3)
    script = Script(sd=0.003)
    script.does[what, found[1].name] = [None, blamed(candidate)] if what == "prepare" else [blamed(candidate)]
    _scheduler, standings, _ = run(script, found)
    assert [standings[one.name].status for one in (found[0], found[2])] == ["ok", "ok"]
    assert len(found[1].screen) == (1 if what == "prepare" else 0)
    verdict = conclusions.verdict(found[1], standings.get(found[1].name), RULES, None)
    assert (verdict.status, verdict.findings[0].rule, verdict.findings[0].note) == (status, rule, "it cannot be built")


def test_what_the_base_refuses_is_left_out():
    found, script = entries(3), Script(sd=0.003)
    script.does["prepare", found[1].name] = [refused()]
    _scheduler, standings, _ = run(script, found)
    assert list(standings) == [found[0].name, found[2].name] and found[1].refused == "main refuses it: no such thing"
    assert found[1].trouble is None and found[1].over


def test_a_worker_lost_once_costs_nothing_but_a_start():
    found, script = entries(3), Script(sd=0.003)
    script.does["prepare", found[1].name] = [None, lost()]
    _scheduler, standings, _ = run(script, found)
    assert statuses(standings) == ["ok"] * 3 and [len(one.screen) for one in found] == [3] * 3
    assert script.opened_pairs == 4 and found[1].losses == [True]


@pytest.mark.parametrize("sides, status", [([True, True], "fail"), ([False, False], "invalid"), ([True, False], "invalid")])
def test_a_worker_lost_twice_ends_its_case_alone(sides, status):
    found, script = entries(3), Script(sd=0.003)
    script.does["time", found[1].name] = [lost(side) for side in sides]
    _scheduler, standings, _ = run(script, found)
    assert list(standings) == [found[0].name, found[2].name] and statuses(standings) == ["ok"] * 2
    verdict = conclusions.verdict(found[1], None, RULES, None)
    assert verdict.status == status and verdict.findings[0].note == "the worker of x was ended by SIGKILL (twice)"


def test_workers_that_cannot_be_started_at_all_end_the_run():
    script = Script()
    script.does["start", "any"] = [TrialError("main: no such Python")]
    with pytest.raises(TrialError, match="main: no such Python"):
        run(script, entries(2))


def test_workers_that_can_no_longer_be_started_end_it_with_what_there_is():
    found, script = entries(2), Script()
    script.does["start", "any"] = [None, TrialError("main: the disk is full")]
    scheduler, standings, _ = run(script, found)
    assert scheduler.ended == "main: the disk is full" and not scheduler.interrupted
    assert [one.visits for one in standings.values()] == [1, 1] and set(statuses(standings)) == {"open"}


def test_a_machine_too_noisy_says_so_within_two_passes():
    found, moments, said = entries(6), [], []
    script = Script(sd=0.3, seed=4)
    scheduler = Passes(found, script.opened, clock=script.clock, watch=moments.append)
    scheduler.say = lambda line: said.append((len(moments), line))
    scheduler.run()
    at, line = said[0]
    assert at == 12 and line.startswith("this machine is noisy: visits differ by ") and "will mostly stay undecided" in line
    deviation = float(line.split("differ by ")[1].split("%")[0]) / 100
    # The pooled SD of two visits of each of six cases, by hand.
    ratios = [[visit.log_ratio for visit in one.screen[:2]] for one in found]
    assert deviation == pytest.approx(math.sqrt(sum((one - other) ** 2 / 2 for one, other in ratios) / 6), abs=0.0005)


def test_a_quiet_machine_is_told_nothing():
    assert run(Script(sd=0.01), entries(6))[2] == []


def test_what_the_timed_calls_got_wrong_is_put_down_to_the_side():
    script = Script()
    found = entries(2)
    script.does["audit", found[0].name] = [Blamed("it gave other logits in its timed calls", True)]
    Passes(found, script.opened, clock=script.clock).run()
    assert (found[0].trouble, found[0].broken, found[0].visits) == ("it gave other logits in its timed calls", True, [])
    assert found[1].trouble is None and len(found[1].visits) >= 3


def test_a_disturbed_visit_counts_for_nothing_and_too_many_end_the_case(monkeypatch):
    quiet, throttled = Conditions(duration_s=1.0, readings=9), Conditions(duration_s=1.0, readings=9, clock_step_s=-3.0)
    at = iter([throttled])
    monkeypatch.setattr(passes, "watched", lambda attempt, watcher, **given: (attempt(), next(at, quiet)))
    script, (one,) = Script(), entries(1)
    assert Passes([one], script.opened, clock=script.clock, watcher=object()).run()[one.name].status == "ok"
    assert len(one.spoilt) == 1 and all(visit.conditions == quiet for visit in one.visits)

    monkeypatch.setattr(passes, "watched", lambda attempt, watcher, **given: (attempt(), throttled))
    (one,) = entries(1)
    Passes([one], Script().opened, watcher=object()).run()
    assert one.visits == [] and one.trouble.startswith("3 visits were disturbed, the last since the ")


TROUBLES = st.sampled_from(["none", "blamed", "lost", "lost twice", "refused"])


@settings(max_examples=60)
@given(
    sd=st.sampled_from([0.0, 0.002, 0.02, 0.2]),
    seed=st.integers(0, 2**20),
    slower=st.lists(st.floats(-0.3, 0.5), min_size=1, max_size=6),
    troubles=st.dictionaries(st.integers(0, 5), st.tuples(TROUBLES, st.integers(0, 4)), max_size=3),
    models=st.integers(1, 3),
    time_s=st.none() | st.floats(1.0, 60.0),
)
def test_every_entry_ends_with_a_standing_or_a_reason_and_no_visit_is_lost(sd, seed, slower, troubles, models, time_s):
    found, kept = entries(len(slower), models=[f"m{number}" for number in range(models)]), Counter()
    script = Script({one.name: by for one, by in zip(found, slower, strict=True)}, sd, seed)
    for number, (trouble, visit) in troubles.items():
        if number < len(found) and trouble != "none":
            errors = {"blamed": [blamed()], "lost": [lost()], "lost twice": [lost(), lost()], "refused": [refused()]}[trouble]
            script.does["prepare", found[number].name] = [None] * visit + errors

    def keep(entry, pair):
        kept[entry.name] += 1

    scheduler, standings, _ = run(script, found, time_s=time_s, kept=keep)
    for one in found:
        verdict = conclusions.verdict(one, standings.get(one.name), RULES, scheduler.ended)
        assert one.over or one.name in standings or scheduler.ended == LATE
        if scheduler.ended is None and not one.over:
            assert standings[one.name].status in ("ok", "improved", "regressed", "inconclusive")
        assert verdict.findings[0].note and verdict.case_id == one.name
        assert kept[one.name] == len(one.visits) == sum(name == one.name for _, name, _ in script.log)
        assert [visit.number for visit in one.screen] == list(range(len(one.screen)))
        assert [visit.number for visit in one.confirm] == list(range(len(one.confirm)))
        if one.confirm:
            assert one.name in scheduler.suspects
