"""The sign-swap permutation against scipy's, and the jackknife against the formula of a mean."""

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import f1_score, matthews_corrcoef

from pytest_perfq.core import permutation, scores

F1 = "f1:tp/predicted/true"
MATTHEWS = "matthews:tp/tn/fp/fn"


def columns(truth, predicted):
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    return {
        "tp": (truth & predicted).astype(float), "tn": ((1 - truth) & (1 - predicted)).astype(float),
        "fp": ((1 - truth) & predicted).astype(float), "fn": (truth & (1 - predicted)).astype(float),
        "predicted": predicted.astype(float), "true": truth.astype(float), "right": (truth == predicted).astype(float),
    }  # fmt: skip


def pair(seed, n=200, flips=10, harm=0.8):
    """Truth, and two predictions that differ on `flips` examples, most of them for the worse."""
    dice = np.random.default_rng(seed)
    truth = dice.integers(0, 2, n)
    before = np.where(dice.random(n) < 0.9, truth, 1 - truth)
    after = before.copy()
    where = dice.choice(n, flips, replace=False)
    after[where] = np.where(dice.random(flips) < harm, 1 - truth[where], truth[where])
    return truth, before, after


@pytest.mark.parametrize("formula, oracle, flips", [(F1, f1_score, 8), (MATTHEWS, matthews_corrcoef, 40)])
def test_p_is_scipys_permutation_of_the_same_statistic(formula, oracle, flips):
    truth, before, after = pair(flips, flips=flips)

    def drop(one, other):
        return oracle(truth, one.astype(int)) - oracle(truth, other.astype(int))

    theirs = scipy.stats.permutation_test(
        (before, after), drop, permutation_type="samples", alternative="greater", n_resamples=250,
        rng=np.random.default_rng(1),
    )  # fmt: skip
    p, deviation = permutation.swap_test(formula, columns(truth, before), columns(truth, after))
    assert p == pytest.approx(theirs.pvalue, abs=4 * (theirs.pvalue / 250) ** 0.5 + 2e-3)
    assert deviation == pytest.approx(np.std(theirs.null_distribution), rel=0.2)


def test_a_mean_of_ones_and_zeros_gives_mcnemars_p():
    before, after = np.ones(50), np.ones(50)
    after[:7] = 0
    before[10] = 0
    p, _ = permutation.swap_test("mean:right", {"right": before}, {"right": after})
    assert p == pytest.approx(scipy.stats.binomtest(7, 8, 0.5, alternative="greater").pvalue, rel=1e-12)


def test_the_same_outcomes_have_no_drop():
    table = columns(*pair(3)[:2])
    assert permutation.swap_test(F1, table, table) == (1.0, 0.0)


def test_the_same_seed_gives_the_same_p():
    truth, before, after = pair(1, flips=60)
    tables = columns(truth, before), columns(truth, after)
    assert permutation.swap_test(F1, *tables) == permutation.swap_test(F1, *tables)


def test_small_p_values_are_resolved_by_more_sampling():
    truth, before, after = pair(2, n=1000, flips=60, harm=1.0)
    p, _ = permutation.swap_test(F1, columns(truth, before), columns(truth, after))
    assert p < 2e-5


def test_unchanged_models_are_rejected_as_often_as_promised():
    """Half of the differences either way: the p values are at most uniform."""
    found = []
    for seed in range(100):
        truth, before, after = pair(seed, n=120, flips=30, harm=0.5)
        swap = np.random.default_rng(seed + 10_000).integers(0, 2, len(before)).astype(bool)
        one, other = np.where(swap, after, before), np.where(swap, before, after)
        found.append(permutation.swap_test(F1, columns(truth, one), columns(truth, other))[0])
    assert np.mean(np.asarray(found) <= 0.1) <= 0.19


def test_the_jackknife_of_a_mean_is_the_paired_standard_error():
    _, before, after = pair(4, flips=40)
    differences = before.astype(float) - after
    low, high = permutation.drop_interval("mean:right", {"right": before}, {"right": after})
    error = scipy.stats.sem(differences)
    assert (low, high) == pytest.approx((differences.mean() - 1.959964 * error, differences.mean() + 1.959964 * error))


def test_the_jackknife_of_f1_agrees_with_the_bootstrap():
    truth, before, after = pair(6, n=400, flips=60)
    tables = columns(truth, before), columns(truth, after)
    low, high = permutation.drop_interval(F1, *tables)
    dice = np.random.default_rng(0)
    drops = []
    for _ in range(2000):
        rows = dice.integers(0, 400, 400)
        drops.append(
            scores.score(F1, {name: value[rows] for name, value in tables[0].items()})
            - scores.score(F1, {name: value[rows] for name, value in tables[1].items()})
        )
    assert high - low == pytest.approx(2 * 1.96 * np.std(drops), rel=0.1)
