"""A machine of another day, told from cases that changed."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_perfq.core.rules import RULES
from pytest_perfq.core.shift import MIN_CASES, MIN_SHARE, machine_shift


def day(shift, cases=60, sd=0.01, seed=0):
    return {str(case): value for case, value in enumerate(np.random.default_rng(seed).normal(shift, sd, cases))}


@pytest.mark.parametrize("shift", [0.08, -0.08, 0.03])
def test_a_shift_of_the_whole_suite_is_found_once_and_taken_out(shift):
    found = machine_shift(day(shift))
    assert found.size == pytest.approx(shift, abs=0.005) and found.share > 0.8
    assert np.median(list(found.rest.values())) == pytest.approx(0.0, abs=1e-12)


def test_a_quiet_day_and_a_few_slow_cases_are_no_shift():
    assert machine_shift(day(0.0)) is None
    assert machine_shift({**day(0.0), **{str(case): 0.2 for case in range(15)}}) is None
    assert machine_shift(day(0.005, sd=0.001)) is None  # under the floor


def test_a_slow_case_stands_out_of_a_slow_day():
    values = day(0.08)
    values["7"] += 0.3
    found = machine_shift(values)
    assert found.rest["7"] == pytest.approx(0.3, abs=0.04) and max(found.rest, key=found.rest.get) == "7"


def test_a_suite_that_moved_in_parts_has_no_common_shift():
    parts = {**day(0.0, cases=31, seed=1), **{f"moved{case}": value for case, value in day(0.2, cases=31, seed=2).items()}}
    assert machine_shift(parts) is None
    # Two in five that moved do not take the others with them.
    assert machine_shift({name: value for index, (name, value) in enumerate(parts.items()) if index < 50}) is None


@pytest.mark.parametrize("seed", range(10))
def test_a_shift_smaller_than_the_noise_is_found_by_the_sides(seed):
    found = machine_shift(day(-0.04, cases=200, sd=0.05, seed=seed))
    assert found.size == pytest.approx(-0.04, abs=0.015) and found.share == pytest.approx(0.79, abs=0.1)


def test_too_few_cases_cannot_have_moved_alike():
    # Seven on one side happen by chance once in 64: eight are the first to say so at .01.
    assert machine_shift({}) is None and machine_shift(dict.fromkeys("abcdefg", 0.1)) is None
    assert machine_shift(dict.fromkeys("abcdefgh", 0.1)).size == pytest.approx(0.1) and MIN_CASES == 8


def test_noise_about_zero_is_hardly_ever_a_shift():
    assert sum(machine_shift(day(0.0, cases=20, sd=0.2, seed=seed)) is not None for seed in range(500)) <= 10


@given(st.lists(st.floats(-0.5, 0.5), min_size=8, max_size=40), st.floats(-0.2, 0.2))
def test_what_is_taken_out_is_the_same_for_all(values, more):
    named = {str(case): value + more for case, value in enumerate(values)}
    found = machine_shift(named)
    if found is not None:
        assert abs(found.size) > math.log1p(RULES.floor) and MIN_SHARE <= found.share <= 1.0
        assert {name: value - found.size for name, value in named.items()} == pytest.approx(found.rest)
