"""Visits in passes by workers that say what they are told: what a run that was cut off has left to do."""

import dataclasses

import pytest
from making import MACHINE, latency

from pytest_perfq.core.fingerprint import Fingerprint
from pytest_perfq.errors import ProgramError, TrialError
from pytest_perfq.trials import ahead
from pytest_perfq.trials.entry import Collected
from pytest_perfq.trials.environment import Environment

WHOLE = {one.case.id: one for one in (latency(number, visits=4) for number in range(3))}
NAMES = list(WHOLE)


class Told:
    """Worker after worker; every visit that they make is the last one of WHOLE. machine: of all of them. does: case id -> what
    to raise."""

    def __init__(self, machine=MACHINE):
        self.machine, self.does, self.log, self.starts = machine, {}, [], 0

    def __call__(self, environment, given):
        self.starts += 1
        return self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def ask(self, do, limit_s, case, **fields):
        name = next(one for one, whole in WHOLE.items() if whole.case.to_json() == case)
        if do == "refuses":
            return []
        if name in self.does:
            raise self.does[name]
        self.log.append(name)
        whole = WHOLE[name]
        return dataclasses.replace(whole, visits=(whole.visits[3],), fingerprint=self.machine).to_json()


@pytest.fixture
def measured(monkeypatch):
    """Passes of what was begun, case id -> visits of it: (found, sentences, moments, kept)."""

    def measured(told, begun, **given):
        monkeypatch.setattr(ahead, "Worker", told)
        said, moments, kept = [], [], []
        items = [Collected(f"t.py::{name}", whole.case) for name, whole in WHOLE.items()]
        before = {name: dataclasses.replace(WHOLE[name], visits=WHOLE[name].visits[:number]) for name, number in begun.items()}
        found = ahead.InPasses(
            items, Environment(label="this run"), {}, 3, {}, watch=moments.append, say=said.append, kept=kept.append,
            begun=before, **given,
        )  # fmt: skip
        found.run()
        return found.found, said, moments, kept

    return measured


def test_without_a_run_before_every_case_is_visited_once_a_pass(measured):
    told = Told()
    found, said, moments, kept = measured(told, {})
    assert told.log == NAMES * 3 and told.starts == 3 and said == []
    assert {name: len(one.visits) for name, one in found.items()} == dict.fromkeys(NAMES, 3)
    assert [one.stage for one in moments] == ["1 of 3"] * 3 + ["2 of 3"] * 3 + ["3 of 3"] * 3
    assert [len(one.visits) for one in kept] == [1] * 3 + [2] * 3 + [3] * 3


def test_visits_of_before_count_and_only_what_lacks_is_measured(measured):
    told = Told()
    found, said, moments, kept = measured(told, {NAMES[0]: 2, NAMES[1]: 1})
    assert sorted(told.log) == sorted([NAMES[0], *[NAMES[1]] * 2, *[NAMES[2]] * 3]) and said == []
    for name, before in ((NAMES[0], 2), (NAMES[1], 1), (NAMES[2], 0)):
        assert found[name].visits == (*WHOLE[name].visits[:before], *[WHOLE[name].visits[3]] * (3 - before))
    assert [(one.stage, one.total) for one in moments[:3]] == [("1 of 3", 3)] * 3
    assert [(one.stage, one.total) for one in moments[3:]] == [("2 of 3", 2), ("2 of 3", 2), ("3 of 3", 1)]
    # Whoever stores it is told of all visits, so that another kill loses nothing either.
    assert [len(one.visits) for one in kept] == [3, 2, 1, 3, 2, 3]


def test_visits_of_another_machine_are_no_part_of_this_measurement(measured):
    told = Told(Fingerprint({**MACHINE.identity, "cores": 64}, MACHINE.stack, {}))
    found, said, _, _ = measured(told, {NAMES[0]: 2})
    assert told.log.count(NAMES[0]) == 3 and found[NAMES[0]].visits == (WHOLE[NAMES[0]].visits[3],) * 3
    assert said == [f"{NAMES[0]} was cut off where cores was 2, and now it is 64: its earlier visits are not counted"]


def test_other_software_counts_as_another_machine(measured):
    told = Told(Fingerprint(MACHINE.identity, {**MACHINE.stack, "torch": "2.14.0"}, {}))
    found, said, _, _ = measured(told, {NAMES[0]: 2})
    assert len(found[NAMES[0]].visits) == 3 and "was cut off where torch was 2.13.0, and now it is 2.14.0" in said[0]


def test_without_time_for_more_there_is_what_there_was(measured):
    told = Told()
    found, _, _, _ = measured(told, {NAMES[0]: 2}, time_s=0.0, clock=lambda: 0.0)
    assert told.log == [] and {name: len(one.visits) for name, one in found.items()} == {NAMES[0]: 2}


@pytest.mark.parametrize("error", [ProgramError("it broke"), TrialError("the worker died")])
def test_what_cannot_be_measured_any_more_is_left_to_its_item(measured, error):
    told = Told()
    told.does[NAMES[0]] = error
    found, _, _, _ = measured(told, {NAMES[0]: 2})
    assert set(found) == set(NAMES[1:]) and [len(one.visits) for one in found.values()] == [3, 3]
