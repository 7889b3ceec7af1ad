"""What can be seen, by formula, held against seeded simulations of the stages themselves."""

import math

import numpy as np
import pytest
import scipy.stats

from pytest_perfq.core.rules import RULES, Rules
from pytest_perfq.core.stages import confirm, screen
from pytest_perfq.core.visible import expected_suspects, power, visible

CASES, SLOWER = 200, 40


def caught(by, sd, seed):
    """Share of the slower cases that end as regressed, in a suite of 200; and how many suspects there were."""
    dice = np.random.default_rng(seed)
    shift = np.zeros(CASES)
    shift[:SLOWER] = math.log1p(by)
    visits = dice.normal(shift[:, None], sd, (CASES, 6))
    suspects, last = [], 3
    values = {str(case): visits[case, :3].tolist() for case in range(CASES)}
    while undecided := [name for name, one in screen(values).items() if not one.decided]:
        last += 1
        values.update({name: visits[int(name), :last].tolist() for name in undecided})
    suspects = [name for name, one in screen(values).items() if one.status == "suspect"]
    fresh = {name: dice.normal(shift[int(name)], sd, 64).tolist() for name in suspects}
    found = confirm(fresh, len(suspects))
    return sum(found[name].status == "regressed" for name in suspects if int(name) < SLOWER) / SLOWER, len(suspects)


@pytest.mark.parametrize("sd", [0.007, 0.0195, 0.023, 0.03, 0.05])
def test_the_formula_is_what_the_stages_do(sd):
    for by in (0.02, 0.03, 0.05, 0.08):
        runs = [caught(by, sd, seed) for seed in range(6)]
        simulated, suspects = np.mean([one for one, _ in runs]), round(np.mean([count for _, count in runs]))
        assert power(by, sd, suspects) == pytest.approx(simulated, abs=0.1), by


@pytest.mark.parametrize("sd", [0.005, 0.01, 0.023, 0.05])
@pytest.mark.parametrize("chance", [0.35, 0.9])
def test_visible_is_the_inverse_of_power(sd, chance):
    found = visible(sd, chance, 40)
    assert power(found, sd, 40) == pytest.approx(chance, abs=1e-6)
    assert power(found - 0.002, sd, 40) < chance < power(found + 0.002, sd, 40)


def test_power_grows_with_the_slow_down_and_shrinks_with_a_promise():
    powers = [power(by, 0.02, 40) for by in np.linspace(0.011, 0.2, 30)]
    assert powers == sorted(powers) and powers[-1] == pytest.approx(1.0, abs=1e-6)
    assert power(0.06, 0.02, 40, promise=0.05) < 0.35 < 0.9 < power(0.06, 0.02, 40)
    # Where nothing is slower, the chance is that of a false alarm.
    assert power(RULES.floor, 0.02, 40) < RULES.alpha / 40


def test_a_promise_is_seen_at_some_distance_over_it():
    assert 0.02 < visible(0.01, promise=0.02) < 0.04 and 0.10 < visible(0.01, promise=0.10) < 0.12


def test_too_much_noise_sees_nothing():
    assert visible(3.0) == math.inf
    assert visible(0.0) == visible(RULES.smallest_sd)


def test_the_last_look_alone_is_scipys_noncentral_t():
    rules = Rules(looks=(8, 9), noisy_looks=(8, 9), spending=(0.0, 1.0), screen_p=0.999)
    by, sd, df = 0.05, 0.02, 3 + 9 - 1
    shift = (math.log1p(by) - rules.bar()) / (sd / 3)
    exact = scipy.stats.nct.sf(scipy.stats.t.isf(0.01 / 5, df), df, shift)
    # What the screen and the first look lose at this distance is under a hundredth.
    assert power(by, sd, 5, rules=rules) == pytest.approx(exact, abs=0.02)


def test_one_unchanged_case_in_five_may_be_nominated():
    assert expected_suspects(200) == 40 and expected_suspects(1) == 1
