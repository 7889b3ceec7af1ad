"""Visits in passes by workers that say what they are told: what a run that was cut off has left to do, and what time there is."""

import pytest
from making import MACHINE
from told import NAMES, WHOLE, Told, measured, visits

from pytest_perfq.core.finding import Finding
from pytest_perfq.core.fingerprint import Fingerprint
from pytest_perfq.trials.ahead import Ahead
from pytest_perfq.trials.trouble import Trouble


def test_without_a_run_before_every_case_is_visited_once_a_pass():
    told = Told()
    found, said, moments, kept = measured(told)
    assert told.log == NAMES * 3 and told.starts == 3 and said == []
    assert visits(found) == dict.fromkeys(NAMES, 3) and found.short == {} and found.found.troubles == {}
    assert [one.stage for one in moments] == ["pass 1 of 3"] * 3 + ["pass 2 of 3"] * 3 + ["pass 3 of 3"] * 3
    assert [len(one.visits) for one in kept] == [1] * 3 + [2] * 3 + [3] * 3


def test_visits_of_before_count_and_only_what_lacks_is_measured():
    told = Told()
    found, said, moments, kept = measured(told, {NAMES[0]: 2, NAMES[1]: 1})
    assert sorted(told.log) == sorted([NAMES[0], *[NAMES[1]] * 2, *[NAMES[2]] * 3]) and said == []
    for name, before in ((NAMES[0], 2), (NAMES[1], 1), (NAMES[2], 0)):
        assert found.found.measurements[name].visits == (*WHOLE[name].visits[:before], *[WHOLE[name].visits[3]] * (3 - before))
    assert [(one.stage, one.total) for one in moments[:3]] == [("pass 1 of 3", 3)] * 3
    assert [(one.stage, one.total) for one in moments[3:]] == [("pass 2 of 3", 2), ("pass 2 of 3", 2), ("pass 3 of 3", 1)]
    # Whoever stores it is told of all visits, so that another kill loses nothing either.
    assert [len(one.visits) for one in kept] == [3, 2, 1, 3, 2, 3]


def test_visits_of_another_machine_are_no_part_of_this_measurement():
    told = Told(Fingerprint({**MACHINE.identity, "cores": 64}, MACHINE.stack, {}))
    found, said, _, _ = measured(told, {NAMES[0]: 2})
    assert told.log.count(NAMES[0]) == 3 and found.found.measurements[NAMES[0]].visits == (WHOLE[NAMES[0]].visits[3],) * 3
    assert said == [f"{NAMES[0]} was cut off where cores was 2, and now it is 64: its earlier visits are not counted"]


def test_other_software_counts_as_another_machine():
    told = Told(Fingerprint(MACHINE.identity, {**MACHINE.stack, "torch": "2.14.0"}, {}))
    found, said, _, _ = measured(told, {NAMES[0]: 2})
    assert visits(found)[NAMES[0]] == 3 and "was cut off where torch was 2.13.0, and now it is 2.14.0" in said[0]


def test_without_time_for_more_there_is_what_there_was():
    told = Told()
    found, _, _, _ = measured(told, {NAMES[0]: 2}, time_s=0.0)
    assert told.log == [] and visits(found) == {NAMES[0]: 2}
    assert found.short == {NAMES[0]: 1, NAMES[1]: 3, NAMES[2]: 3} and found.needed_s is None


def test_progress_tells_what_is_left_and_who_is_suspected():
    """Starts of 10 s and visits of 2 s: a pass of three takes 16 s."""
    suspected = {NAMES[0]: True, NAMES[1]: False}
    _, _, moments, _ = measured(Told(start_s=10.0, visit_s=2.0), open_still=lambda: suspected)
    assert [one.left_s for one in moments] == [None, 96, 34, 32, 20, 18, 16, 4, 2]
    assert [one.suspects for one in moments] == [0] * 3 + [1] * 6


def test_the_time_given_is_kept_to_a_visit_and_what_all_takes_is_told():
    told = Told(start_s=1.0, visit_s=2.0)
    found, _, _, _ = measured(told, time_s=8.5)
    # 1 + 3 x 2 s for the first pass, then a start and one visit more, which was under way.
    assert told.now == 10.0 and visits(found) == dict(zip(NAMES, (2, 1, 1), strict=True))
    assert found.short == dict(zip(NAMES, (1, 2, 2), strict=True))
    # Two starts more and five visits.
    assert found.needed_s == pytest.approx(10.0 + 2 * 1.0 + 5 * 2.0)
    found, _, _, _ = measured(Told(visit_s=2.0), time_s=3.0)
    assert visits(found) == dict.fromkeys(NAMES[:2], 1) and found.short == dict(zip(NAMES, (2, 2, 3), strict=True))


def test_what_is_undecided_comes_first_where_time_is_short():
    told = Told(visit_s=1.0)
    found, _, _, _ = measured(told, passes=4, time_s=7.0, open_still=lambda: {NAMES[2]: False})
    assert told.log == [*NAMES * 2, NAMES[2]] and visits(found)[NAMES[2]] == 3
    # Without a bound everybody has his turn.
    told = Told()
    measured(told, open_still=lambda: {NAMES[2]: False})
    assert told.log == NAMES * 3


def test_what_was_found_crosses_to_other_processes(tmp_path):
    name, whole = next(iter(WHOLE.items()))
    note = (Finding(rule="measured", status="inconclusive", note="it was lost once"),)
    slow = (Finding(rule="slowdown", status="regressed", observed=0.2),)
    found = Ahead({name: whole}, {name: slow}, {"other": Trouble("data", "no such column")}, {"third": "no time"}, {name: note})
    found.write(tmp_path / "ahead.json")
    assert Ahead.read(tmp_path / "ahead.json") == found
