"""Cases whose visits are spoilt lag behind the others, pass by pass, and change what those lean on: decisions stay none the less."""

import random

import pytest
from scripted import Script, blamed, entries

from pytest_perfq.core import stages
from pytest_perfq.core.conditions import Conditions
from pytest_perfq.core.rules import Rules
from pytest_perfq.trials import passes
from pytest_perfq.trials.passes import Passes

pytestmark = pytest.mark.usefixtures("alone")
# A confirmation that ends soon.
BRIEF = Rules(looks=(4, 6), noisy_looks=(4, 6), spending=(0.0, 1.0))
# Of the first forty the 24th is the one in which a status would change.
SEEDS = range(22, 26)


def taken_back(monkeypatch, seed, remembering):
    """Decisions that a run whose last case is often disturbed took back: (before, after). remembering: False where it forgets
    them."""
    dice, seen = random.Random(seed), {}
    quiet, stepped = Conditions(duration_s=1.0, readings=9), Conditions(duration_s=1.0, readings=9, clock_step_s=-3.0)
    found = entries(4)
    script = Script({found[0].name: 0.03}, sd=0.023, seed=seed)

    def disturbed(attempt, watcher, **given):
        late = script.log[-1][1] == found[-1].name and len(found[-1].spoilt) < 2 and dice.random() < 0.6
        return attempt(), stepped if late else quiet

    def watching(stage, name):
        def look(*given):
            now = stage(*given) if remembering else stage(*given[:-1])
            for case, standing in now.items():
                before = seen.setdefault((name, case), standing)
                changed.extend([(before.status, standing.status)] * (before.decided and before != standing))
                seen[name, case] = before if before.decided else standing
            return now

        return look

    changed = []
    monkeypatch.setattr(passes, "watched", disturbed)
    with monkeypatch.context() as patch:
        for name in ("screen", "confirm"):
            patch.setattr(passes.stages, name, watching(getattr(stages, name), name))
        Passes(found, script.opened, BRIEF, clock=script.clock, watcher=object()).run()
    return changed


def test_what_was_decided_stays_when_a_disturbed_case_catches_up(monkeypatch):
    assert [taken_back(monkeypatch, seed, remembering=True) for seed in SEEDS] == [[]] * len(SEEDS)


def test_a_run_that_forgot_its_decisions_would_take_some_back(monkeypatch):
    found = [one for seed in SEEDS for one in taken_back(monkeypatch, seed, remembering=False)]
    assert any(before != after for before, after in found)


def told_at(cases, sd, models=("m",), time_s=None):
    """When a run says that the machine is too noisy, s, and how it went: (sentences with their times, entries, moments)."""
    found, said, moments = entries(cases, models), [], []
    script = Script(sd=sd, seed=3, visit_s=1.5, start_s=5.0)
    scheduler = Passes(found, script.opened, time_s=time_s, clock=script.clock, watch=moments.append)
    scheduler.say = lambda line: said.append((script.now, line))
    scheduler.run()
    return said, found, moments, script


def test_a_machine_too_noisy_says_so_in_the_first_minute_of_two_hundred_cases():
    # Past the second pass, of which nothing more is said.
    said, _, moments, script = told_at(200, sd=0.3, time_s=750.0)
    at_s, sentence = said[0]
    assert at_s < 60.0 and sentence.startswith("this machine is noisy: visits differ by ")
    assert moments[-1].number == 3 and sum("is noisy" in line for _, line in said) == 1
    # The pooled SD of two visits of each of eight cases, by hand.
    first = {}
    for _, name, ratio in script.log[:16]:
        first.setdefault(name, []).append(ratio)
    deviation = (sum((one - other) ** 2 / 2 for one, other in first.values()) / 8) ** 0.5
    assert len(first) == 8 and f"visits differ by {deviation:.1%}" in sentence


@pytest.mark.parametrize("models", [("m",), ("m", "n", "o")])
def test_those_visited_twice_at_first_are_visited_no_more_often_than_others_and_in_other_workers(models):
    said, found, moments, script = told_at(24 * len(models), sd=0.003, models=models)
    assert said == [] and {len(one.screen) for one in found} == {3}
    scouts = {name for _, name, _ in script.log[:8]}
    assert {name for _, name, _ in script.log[8:16]} == scouts
    assert {pair for pair, _, _ in script.log[:8]}.isdisjoint({pair for pair, _, _ in script.log[8:16]})
    first = [one for one in moments if one.number == 1]
    assert [one.done for one in first] == list(range(24 * len(models) + 8)) and {one.total for one in first} == {len(first)}
    # One visit more than the others have: a pass spares them.
    assert sum(one.number == 3 for one in moments) == 24 * len(models) - 8


def test_one_that_cannot_be_measured_is_not_visited_again_at_once():
    found, script = entries(30), Script(sd=0.003)
    script.does["prepare", found[2].name] = [blamed()]
    Passes(found, script.opened, clock=script.clock).run()
    assert found[2].over and not any(name == found[2].name for _, name, _ in script.log)
    assert {len(one.screen) for one in found if not one.over} == {3}


def test_a_model_of_few_cases_is_scouted_by_what_it_has():
    cases = entries(2, ["a"]) + [one for one in entries(30, ["b"]) if one.candidate.batch_size > 2]
    script = Script(sd=0.003)
    Passes(cases, script.opened, clock=script.clock).run()
    assert {len(one.screen) for one in cases} == {3}
