"""Changes of level against ruptures, scipy's distances and t test, and by what Matteson and James prove of the divergence."""

import math

import numpy as np
import pytest
import ruptures
import ruptures.metrics
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist, pdist

from pytest_perfq.core.changes import EFFECT, MIN_RUNS, changes, divergence


def history(levels, sd=0.01, seed=0, start_ms=3.0):
    """Milliseconds of runs; levels: (runs, ln above the first)."""
    dice = np.random.default_rng(seed)
    return np.concatenate([start_ms * np.exp(dice.normal(level, sd, runs)) for runs, level in levels]).tolist()


@settings(max_examples=40)
@given(st.lists(st.floats(-5, 5), min_size=10, max_size=30), st.data())
def test_the_divergence_is_the_papers_formula(values, data):
    values = np.array(values)
    found = divergence(values)
    split = data.draw(st.integers(MIN_RUNS, len(values) - MIN_RUNS))
    end = data.draw(st.integers(split + MIN_RUNS, len(values)))
    left, right = values[:split, None], values[split:end, None]
    energy = 2 * cdist(left, right).mean() - pdist(left).mean() - pdist(right).mean()
    weight = len(left) * len(right) / (len(left) + len(right))
    assert found[split, end] == pytest.approx(weight * energy, rel=1e-9, abs=1e-9)
    assert found[split, split + MIN_RUNS - 1] == found[MIN_RUNS - 1, end] == -math.inf


@pytest.mark.parametrize("seed", range(20))
def test_known_shifts_are_found_within_one_run(seed):
    found = changes(history([(20, 0.0), (18, math.log1p(0.06)), (22, -0.05)], seed=seed))
    assert len(found) == 2 and abs(found[0].index - 20) <= 1 and abs(found[1].index - 38) <= 1
    assert found[0].effect == pytest.approx(0.06, abs=0.01) and found[1].effect < -0.08
    assert found[0].before == pytest.approx(3.0, rel=0.01) and found[0].after == pytest.approx(3.18, rel=0.01)


@pytest.mark.parametrize(
    "levels", [[(30, 0.0), (25, 0.08)], [(15, 0.0), (15, 0.1), (15, 0.02)], [(12, 0.1), (9, 0.0), (30, 0.06), (10, 0.2)]]
)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_same_places_as_ruptures_by_dynamic_programming(levels, seed):
    values = history(levels, seed=seed)
    found = [one.index for one in changes(values)] + [len(values)]
    model = ruptures.Dynp(model="l2", min_size=MIN_RUNS, jump=1).fit(np.log(values)[:, None])
    theirs = model.predict(n_bkps=len(levels) - 1)
    assert len(found) == len(theirs) and ruptures.metrics.hausdorff(found, theirs) <= 1


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_same_places_as_ruptures_by_pelt_on_an_up_and_back(seed):
    """The whole history shows nearly no step: only a window of the divergence finds the first."""
    values = history([(25, 0.0), (15, 0.05), (20, 0.0)], seed=seed)
    theirs = ruptures.Pelt(model="l2", min_size=MIN_RUNS, jump=1).fit(np.log(values)[:, None] * 100).predict(pen=12)
    found = [one.index for one in changes(values)] + [len(values)]
    assert len(found) == 3 == len(theirs) and ruptures.metrics.hausdorff(found, theirs) <= 1


def test_p_is_scipys_t_test_times_the_places():
    values = history([(12, 0.0), (9, 0.05)], seed=4)
    (found,) = changes(values)
    left, right = np.log(values[: found.index]), np.log(values[found.index :])
    assert found.p == pytest.approx(scipy.stats.ttest_ind(left, right).pvalue * (21 - 2 * MIN_RUNS + 1), rel=1e-6)


@pytest.mark.parametrize("kind", ["normal", "heavy"])
def test_a_history_without_a_change_has_none(kind):
    """400 histories of 60 runs, steps of any size counted: at most one in a hundred."""
    dice = np.random.default_rng(11)
    draw = {"normal": lambda: dice.normal(0, 0.05, 60), "heavy": lambda: dice.standard_t(3, 60) * 0.03}[kind]
    assert sum(bool(changes(np.exp(draw()).tolist(), effect=0.0)) for _ in range(400)) <= 4


def test_a_step_under_two_per_cent_is_nobodys():
    values = history([(40, 0.0), (40, 0.015)], sd=0.002)
    assert changes(values) == [] and changes(values, effect=0.01)[0].index == 40 and EFFECT == 0.02


def test_a_new_level_needs_five_runs():
    assert changes(history([(20, 0.0), (4, 0.2)])) == changes(history([(3, 0.0), (20, 0.2)])) == []
    assert [one.index for one in changes(history([(20, 0.0), (5, 0.2)]))] == [20]
    assert [one.index for one in changes(history([(5, 0.0), (5, 0.2)]))] == [5]
    assert changes([1.0] * 9) == [] and changes([]) == []


def test_one_bad_day_is_no_change():
    values = history([(40, 0.0)])
    values[20] *= 3
    assert changes(values) == []


def test_levels_without_any_spread_are_judged_by_order():
    """As from a clock that repeats itself: ten and ten of 184,756 orders."""
    (found,) = changes([3.0] * 10 + [3.3] * 10)
    assert found.index == 10 and found.p == pytest.approx(2 * 11 / math.comb(20, 10)) and found.effect == pytest.approx(0.1)
    assert changes([3.0] * 30) == []


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.floats(1e-3, 1e3))
def test_the_unit_does_not_matter(seed, unit):
    values = history([(15, 0.0), (15, 0.06)], seed=seed, sd=0.02)
    mine, theirs = changes(values), changes([value * unit for value in values])
    assert [one.index for one in mine] == [one.index for one in theirs]
    assert [one.effect for one in mine] == pytest.approx([one.effect for one in theirs], rel=1e-6)


@settings(max_examples=25)
@given(st.integers(0, 2**32))
def test_backwards_in_time_the_changes_are_the_same(seed):
    values = history([(16, 0.0), (14, 0.1)], seed=seed)
    (mine,), (theirs,) = changes(values), changes(values[::-1])
    assert mine.index == len(values) - theirs.index and mine.p == pytest.approx(theirs.p)


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf])
def test_a_value_that_is_no_time_is_one_sentence(wrong):
    with pytest.raises(
        ValueError, match=rf"run 3 has the value {wrong}; a history needs finite values over zero: leave that run out"
    ):
        changes([1.0, 1.0, 1.0, wrong])
