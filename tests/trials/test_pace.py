"""How long a visit may time: as long as starting its workers took, within bounds."""

import pytest

from pytest_perfq import stopwatch
from pytest_perfq.trials.pace import LONGEST, SIDE_S, VISIT_S, Pace, visit_plan


def test_a_visit_grows_with_its_share_of_a_start():
    usual, alone, among, forever = (visit_plan(start_s=start) for start in (0.0, 1.5, 1.5 / 17, 60.0))
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
