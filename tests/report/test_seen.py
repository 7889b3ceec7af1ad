"""What a comparison can see, in words: the numbers are the procedure's own, and none is promised under its floor."""

import re

import pytest

from pytest_perfq.core.rules import RULES
from pytest_perfq.core.visible import expected_suspects, power, visible
from pytest_perfq.report.seen import caught, range_seen, too_fine, too_noisy


@pytest.mark.parametrize("sd", [0.012, 0.023, 0.04])
def test_what_is_caught_is_what_the_stages_catch(sd):
    seen, half, chance = re.fullmatch(
        r"a \+(.*)% slow-down of this case is caught with 90%, \+(.*)% with (.*)%", caught(sd, 5)
    ).groups()
    assert power(float(seen) / 100, sd, 5) == pytest.approx(0.9, abs=0.03)
    assert float(half) == pytest.approx(float(seen) / 2, abs=0.1)
    assert power(float(half) / 100, sd, 5) * 100 == pytest.approx(float(chance), abs=3)


def test_nothing_under_the_floor_is_said_to_be_caught():
    """Half of what a quiet machine sees lies under what is ever called slower."""
    assert visible(0.002) / 2 < RULES.floor
    assert caught(0.002) == f"a +{visible(0.002):.1%} slow-down of this case is caught with 90%, none up to +1.0%"


def test_a_machine_too_noisy_to_see_anything_says_so():
    assert caught(3.0) == "visits differ by 300.0%, so that no slow-down of this case is caught with 90%"


@pytest.mark.parametrize("sd", [0.002, 0.01, 0.04])
def test_a_promise_is_too_fine_under_what_is_seen_and_not_from_there_on(sd):
    seen = visible(sd, 0.9)
    assert too_fine(seen, sd) is None and too_fine(seen + 0.1, sd) is None
    assert too_fine(seen - 1e-3, sd) == (
        f"max_slowdown is {seen - 1e-3:.1%}, under what this machine can see: {caught(sd)}; promise more, or calibrate a "
        "quieter machine with `perfq calibrate`"
    )


def test_the_range_of_a_run_is_that_of_its_quietest_and_its_noisiest_case():
    least, most = (visible(one, 0.9, expected_suspects(3)) for one in (0.005, 0.03))
    assert range_seen([0.03, 0.005, 0.01], 3) == (
        f"side by side, slow-downs of +{least:.1%} to +{most:.1%} are caught with 90% here (all cases calibrated)"
    )
    assert range_seen([0.03, 3.0], 9).endswith(" to none are caught with 90% here (2 of 9 timed cases calibrated)")


def test_a_machine_is_too_noisy_where_what_it_sees_is_more_than_what_matters():
    """Over the effect that makes a slow-down matter, 5 %, with four in five."""
    assert too_noisy(0.07) is None and visible(0.07, RULES.power) < RULES.effect
    least = visible(0.08, RULES.power)
    assert least > RULES.effect and too_noisy(0.08) == (
        f"this machine is noisy: visits differ by 8.0%, so that slow-downs under {least:.0%} will mostly stay undecided; free "
        "it of other work, or use another"
    )
    assert "so that slow-downs of any size will mostly stay undecided" in too_noisy(3.0)
