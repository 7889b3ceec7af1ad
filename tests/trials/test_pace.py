"""How long a visit may time: as long as starting its workers took, within bounds."""

import pytest

from pytest_perfq import stopwatch
from pytest_perfq.trials.pace import LONGEST, SIDE_S, VISIT_S, Allowance, Pace, visit_plan


def test_a_visit_grows_with_its_share_of_a_start():
    usual, alone, among, forever = (visit_plan(start_s=start) for start in (0.0, 1.5 * VISIT_S, VISIT_S / 11, 60.0))
    assert (usual.budget_s, usual.side_s) == (VISIT_S, SIDE_S) == (among.budget_s, among.side_s)
    assert (alone.budget_s, alone.side_s) == (1.5 * VISIT_S, 1.5 * SIDE_S)
    assert (forever.budget_s, forever.side_s) == (LONGEST * VISIT_S, LONGEST * SIDE_S)


def test_a_promise_of_a_tail_raises_the_rounds():
    assert visit_plan().max_rounds == stopwatch.MAX_ROUNDS
    promised = visit_plan(221)
    assert (promised.min_rounds, promised.max_rounds) == (221, 221)


def test_a_start_is_what_first_visits_take_more():
    pace = Pace(lambda: 0.0)
    assert pace.start_s == 0.0
    pace.took(100.0, True)  # it trained a model
    assert pace.start_s == 0.0
    for seconds, first in ((1.0, False), (13.0, True), (1.5, False), (13.0, True), (1.0, False)):
        pace.took(seconds, first)
    assert pace.start_s == pytest.approx(12.0)


def test_what_is_needed_knows_no_bound_and_what_is_left_does():
    now = [0.0]
    pace = Pace(lambda: now[0], 30.0)
    assert pace.needed_s(3, 1) is None and pace.left_s(3, 1) is None
    pace.took(10.0, True)
    pace.took(2.0, False)
    now[0] = 12.0
    assert pace.needed_s(7, 2) == 30.0 and pace.left_s(7, 2) == 18.0 == 30.0 - pace.spent_s
    assert pace.left_s(2, 0) == 4.0


def test_stages_share_an_allowance_and_what_lies_between_is_not_counted():
    now = [0.0]
    allowance = Allowance(100.0, lambda: now[0])
    assert allowance.share_s(followed=True) == 50.0
    with allowance.spending():
        now[0] += 30.0
    now[0] += 1000.0
    assert allowance.share_s(followed=True) == 35.0
    with pytest.raises(KeyboardInterrupt), allowance.spending():
        now[0] += 80.0
        raise KeyboardInterrupt
    # What was kept for the last is there, however long the last visit before it took; then there is nothing.
    assert allowance.share_s(followed=False) == 35.0 and allowance.share_s(followed=False) == 0.0
    assert Allowance(8.0, lambda: now[0]).share_s(followed=False) == 8.0
    assert Allowance(None, lambda: now[0]).share_s(followed=True) is None
