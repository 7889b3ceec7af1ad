"""The pass scheduler on sides that say what they are told, on a clock of their own: order, stages, time, and every way to end."""

import contextlib
import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import Script, blamed, entries, lost, refused

from pytest_perfq.core.budget import Limit
from pytest_perfq.core.conditions import Conditions
from pytest_perfq.core.rules import RULES
from pytest_perfq.errors import TrialError
from pytest_perfq.trials import conclusions, passes
from pytest_perfq.trials.opened import Blamed
from pytest_perfq.trials.passes import LATE, STOPPED, Passes


@pytest.fixture(autouse=True, scope="module")
def alone():
    """Nothing is timed here: no other run need wait."""

    class Lock:
        write_lock = staticmethod(contextlib.nullcontext)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "device_lock", lambda device: Lock)
        yield


def run(script, found, **given):
    """(scheduler, standings, sentences)."""
    said = []
    scheduler = Passes(found, script.opened, clock=script.clock, say=said.append, **given)
    return scheduler, scheduler.run(), said


def statuses(standings):
    return [one.status for one in standings.values()]


# ---- passes


def test_an_unchanged_suite_is_over_after_the_first_look():
    found, script = entries(12), Script(sd=0.003)
    scheduler, standings, said = run(script, found)
    assert statuses(standings) == ["ok"] * 12 and scheduler.ended is None and said == []
    assert [len(one.screen) for one in found] == [RULES.screen_visits[0]] * 12
    # A pass is every case once, in workers of its own.
    names = [one.name for one in found]
    assert [name for _, name, _ in script.log] == names * 3 and [pair for pair, _, _ in script.log] == [1] * 12 + [2] * 12 + [
        3
    ] * 12


def test_a_suspect_gets_fresh_visits_and_they_alone_decide():
    found = entries(10)
    script = Script({found[3].name: 0.10}, sd=0.004)
    scheduler, standings, _ = run(script, found)
    assert scheduler.suspects == [found[3].name] and standings[found[3].name].status == "regressed"
    assert statuses(standings).count("ok") == 9
    assert [visit.stage for visit in found[3].visits] == ["screen"] * 3 + ["confirm"] * 8
    assert [visit.number for visit in found[3].confirm] == list(range(8))
    # Nothing of the screen is in what decided, and nobody else was visited again.
    fresh = [ratio for _, name, ratio in script.log if name == found[3].name][3:]
    assert standings[found[3].name].mean == pytest.approx(sum(fresh) / 8, abs=2e-3) and standings[found[3].name].visits == 8
    assert all(one.confirm == [] for one in found if one is not found[3])


def test_a_lucky_screen_is_taken_back_by_fresh_visits():
    found = entries(8)

    class Twofaced(Script):
        def act(self, what, name, side):
            number = sum(one == found[2].name for _, one, _ in self.log)
            self.slower = {found[2].name: 0.08 if number < 3 else 0.0}

    scheduler, standings, _ = run(Twofaced(sd=0.004), found)
    assert scheduler.suspects == [found[2].name] and standings[found[2].name].status == "ok"
    assert len(found[2].confirm) == RULES.looks[0]


def test_who_begins_alternates_from_visit_to_visit_and_from_case_to_case():
    found = entries(5)
    run(Script({found[0].name: 0.2, found[1].name: 0.2}), found)
    for place, one in enumerate(found):
        for visits in (one.screen, one.confirm):
            assert [visit.first for visit in visits] == ["ab"[(place + number) % 2] for number in range(len(visits))]
    assert len(found[0].confirm) >= 8


def test_the_models_of_a_suite_have_workers_of_their_own_in_every_pass():
    found, script = entries(6, models=("first", "second")), Script(sd=0.003)
    _scheduler, standings, _ = run(script, found)
    assert statuses(standings) == ["ok"] * 6
    by_pair = {}
    for pair, name, _ in script.log:
        by_pair.setdefault(pair, []).append(name)
    first, second = ([one.name for one in found if one.candidate.model == model] for model in ("first", "second"))
    assert list(by_pair.values()) == [first, second] * 3


def test_a_promise_decides_what_is_slow():
    found = entries(6, limits=[Limit("max_slowdown", 0.3, None, "budget 1")])
    _scheduler, standings, _ = run(Script({one.name: 0.15 for one in found}, sd=0.004), found)
    assert statuses(standings) == ["ok"] * 6


def test_suspects_already_are_confirmed_at_once():
    found = entries(1)
    _scheduler, standings, _ = run(Script({found[0].name: 0.1}), found, screened=False)
    assert found[0].screen == [] and len(found[0].confirm) == 8 and statuses(standings) == ["regressed"]


def test_the_device_is_held_while_it_is_timed_and_only_then(monkeypatch):
    held, seen = [False], set()

    class Lock:
        @staticmethod
        @contextlib.contextmanager
        def write_lock():
            held[0] = True
            yield
            held[0] = False

    class Watched(Script):
        def act(self, what, name, side):
            seen.add((what, held[0]))

    monkeypatch.setattr(passes, "device_lock", lambda device: Lock)
    run(Watched(), entries(2))
    assert seen == {("start", False), ("prepare", False), ("time", True), ("audit", False)}


# ---- time


def test_progress_names_pass_stage_suspects_and_what_is_left():
    found, moments = entries(4), []
    script = Script({found[1].name: 0.2}, visit_s=2.0, start_s=10.0)
    run(script, found, watch=moments.append)
    first = moments[0]
    assert (first.stage, first.number, first.done, first.total, first.suspects, first.left_s) == ("screen", 1, 0, 4, 0, None)
    assert [one.case for one in moments[:4]] == [one.name for one in found]
    # Two more passes of 12 s for the visit that starts the workers and 2 s for each of the three others.
    assert [one.left_s for one in moments[4:12]] == [36, 24, 22, 20, 18, 6, 4, 2]
    second = moments[4]
    assert (second.stage, second.number, second.done) == ("screen", 2, 0)
    last = [one for one in moments if one.stage == "confirm"]
    assert {one.suspects for one in last} == {1} and {one.total for one in last} == {1} and len(last) == 8


def test_the_time_given_is_kept_and_what_is_open_says_so():
    found, script = entries(10), Script(visit_s=1.0, start_s=0.0)
    scheduler, standings, _ = run(script, found, time_s=14.5)
    assert scheduler.ended == LATE and script.now == 15.0 and len(script.log) == 15
    assert [len(one.screen) for one in found] == [2] * 5 + [1] * 5 and set(statuses(standings)) == {"open"}
    verdict = conclusions.verdict(found[0], standings[found[0].name], RULES, scheduler.ended)
    assert verdict.status == "inconclusive"
    assert "side by side, 2 visits to screen it; the time given was used up, while it was screened" in verdict.findings[0].note


def test_a_budget_that_suffices_is_not_late():
    scheduler, standings, _ = run(Script(sd=0.003, start_s=0.0), entries(4), time_s=12.5)
    assert scheduler.ended is None and statuses(standings) == ["ok"] * 4


def test_a_case_that_was_never_visited_says_so():
    found = entries(3)
    scheduler, standings, _ = run(Script(start_s=0.0), found, time_s=1.5)
    assert list(standings) == [found[0].name, found[1].name]
    verdict = conclusions.verdict(found[2], standings.get(found[2].name), RULES, scheduler.ended)
    assert (verdict.status, verdict.findings[0].note) == ("inconclusive", "not measured: the time given was used up")


def test_undecided_cases_wait_while_suspects_are_heard():
    """Half of the time is over at the first look: a suspect is confirmed with the rest, and an undecided case left so."""
    found = entries(2)

    class Restless(Script):
        def act(self, what, name, side):
            number = sum(one == found[1].name for _, one, _ in self.log)
            self.slower = {found[0].name: 0.3, found[1].name: (0.0, -0.2, 0.2)[number % 3]}

    script = Restless(sd=0.001, start_s=0.0)
    scheduler, standings, said = run(script, found, time_s=12.0)
    assert any("half of the time is used: 1 undecided" in one for one in said)
    assert len(found[1].screen) == 3 and standings[found[1].name].status == "open"
    assert len(found[0].confirm) > 0 and scheduler.suspects == [found[0].name]
    note = conclusions.verdict(found[1], standings[found[1].name], RULES, None).findings[0].note
    assert "the confirmation of suspects came first, while it was screened" in note


# ---- stopped


@pytest.mark.parametrize(
    "visit, stage, told",
    [
        (3, "screen", "Ctrl-C stopped the run, while it was screened"),
        (13, "confirm", "Ctrl-C stopped the run, while it was confirmed"),
        (12, "confirm", "Ctrl-C stopped the run, while it was to be confirmed"),
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
    # What was decided before stays decided.
    if stage == "confirm":
        assert statuses(standings)[1:] == ["ok"] * 3


# ---- what goes wrong


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


# ---- noise


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


# ---- whatever happens

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
