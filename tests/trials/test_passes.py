"""The pass scheduler on sides that say what they are told, on a clock of their own: order, stages, progress, time."""

import contextlib

import pytest
from scripted import Script, entries, run, statuses

from pytest_perfq.core.budget import Limit
from pytest_perfq.core.rules import RULES
from pytest_perfq.trials import conclusions, passes
from pytest_perfq.trials.passes import LATE

pytestmark = pytest.mark.usefixtures("alone")


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


def test_suspects_of_the_screen_are_shown_as_soon_as_they_are_known():
    """One is known at the first look, and the others are visited on."""
    found, moments = entries(2), []

    class Restless(Script):
        def act(self, what, name, side):
            number = sum(one == found[1].name for _, one, _ in self.log)
            self.slower = {found[0].name: 0.3, found[1].name: (0.0, -0.2, 0.2)[number % 3]}

    run(Restless(sd=0.001, start_s=0.0), found, watch=moments.append)
    seen = [(one.number, one.suspects) for one in moments if one.stage == "screen"]
    assert seen == [(1, 0), (1, 0), (2, 0), (2, 0), (3, 0), (3, 0), (4, 1), (5, 1), (6, 1)]
