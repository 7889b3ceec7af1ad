"""Cases that go wrong in a pass, by workers that do what they are told: none of them passes on what its other visits gave."""

import pytest
from told import NAMES, Told, measured, visits

from pytest_perfq.contracts import Lack
from pytest_perfq.errors import DataError, ProgramError, TrialError, Unavailable, UsageError
from pytest_perfq.trials.ahead import LATER_S, Ahead
from pytest_perfq.trials.trouble import Trouble
from pytest_perfq.trials.worker import PREPARE_S

KILLED = "the worker of this run was ended by SIGKILL while asked to 'time': it said nothing"


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("error", [ProgramError, DataError, UsageError, Unavailable])
def test_what_goes_wrong_in_any_pass_is_the_end_of_its_case_alone(error, at):
    told = Told()
    told.does[NAMES[0]] = [*[None] * at, error("this run: it broke")]
    found, said, _, kept = measured(told)
    assert visits(found) == dict.fromkeys(NAMES[1:], 3) and found.short == {} and said == []
    with pytest.raises(error, match=r"^it broke$"):
        found.found.measured(NAMES[0])
    # What was seen before is stored as such, and the case is not tried again.
    assert sum(one.case.id == NAMES[0] for one in kept) == at == told.log.count(NAMES[0])


def test_visits_of_a_run_before_do_not_excuse_it_either():
    told = Told()
    told.does[NAMES[0]] = [ProgramError("it broke")]
    found, _, _, _ = measured(told, {NAMES[0]: 2})
    assert NAMES[0] not in found.found.measurements and NAMES[0] in found.found.troubles


def test_a_worker_lost_once_is_told_and_leaves_its_case_undecided():
    told = Told()
    told.does[NAMES[1]] = [None, TrialError(KILLED)]
    found, said, _, _ = measured(told)
    assert visits(found) == dict.fromkeys(NAMES, 3) and found.found.troubles == {} and told.starts == 4
    assert len(said) == 1 and said[0].startswith(f"{NAMES[1]}: {KILLED}; the next process measured it")
    (noted,) = found.found.noted[NAMES[1]]
    assert (noted.status, f"{NAMES[1]}: {noted.note}") == ("inconclusive", said[0])


@pytest.mark.parametrize("visit", [0, 1])
def test_a_worker_lost_twice_fails_its_case_whatever_lies_between(visit):
    told = Told()
    told.does[NAMES[1]] = [TrialError(KILLED), *[None] * visit, TrialError(KILLED)]
    found, _, _, _ = measured(told)
    assert visits(found) == {NAMES[0]: 3, NAMES[2]: 3} and found.found.noted == {}
    assert found.found.troubles == {NAMES[1]: Trouble("lost", f"{KILLED} (twice)")}
    with pytest.raises(TrialError, match="SIGKILL"):
        found.found.measured(NAMES[1])


def test_a_case_lost_last_without_time_to_try_again_has_not_worked():
    told = Told(visit_s=2.0)
    told.does[NAMES[1]] = [None, TrialError(KILLED)]
    found, _, _, _ = measured(told, time_s=9.0)
    assert found.found.troubles[NAMES[1]].text == f"{KILLED}; no time was left to try once more"
    assert visits(found) == {NAMES[0]: 2, NAMES[2]: 1}


def test_a_hang_has_a_limit_that_is_shorter_once_everything_was_built():
    told = Told()
    measured(told)
    assert told.limits == [PREPARE_S] * 3 + [LATER_S] * 6 and LATER_S < PREPARE_S


def test_a_worker_that_cannot_be_started_ends_the_run():
    class Closed(Told):
        def __enter__(self):
            raise TrialError("this run: no such Python")

    with pytest.raises(TrialError, match="no such Python"):
        measured(Closed())


def test_what_workers_refuse_and_the_item_does_not_is_for_this_machine():
    class Refusing(Told):
        def ask(self, do, limit_s, case, **fields):
            if do == "refuses" and len(self.log) >= 3:
                return ["its GPU is another's"]
            return super().ask(do, limit_s, case, **fields)

    found, _, _, _ = measured(Refusing())
    (refused,) = found.found.refusals(NAMES[1])
    assert found.found.measurements == {} and refused == "its GPU is another's" and isinstance(refused, Lack)
    assert Ahead().refusals(NAMES[1]) == []
