"""The statistics against scipy, published tables and properties."""

import math
import random

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from pytest_perfq.core import stats

# MLPerf loadgen's early stopping at confidence .99: rounds needed with 0, 1, 2 and 5 misses.
LOADGEN = {0.90: (44, 64, 81, 127), 0.95: (90, 130, 165, 259), 0.99: (459, 662, 838, 1307)}


@given(t=st.floats(-60, 60), df=st.floats(1, 400))
def test_t_tail_is_scipys(t, df):
    # scipy forms df / (df + t^2), which drowns t below 1e-8 sqrt(df): its own error there is up to 0.4 t.
    near_zero = abs(t) < 1e-3
    assert stats.t_tail(t, df) == pytest.approx(scipy.stats.t.sf(t, df), rel=1e-10, abs=2e-7 if near_zero else 1e-10)
    # There the Cauchy distribution, known in closed form, is the oracle.
    assert stats.t_tail(t, 1.0) == pytest.approx(0.5 - math.atan(t) / math.pi, rel=1e-9, abs=1e-14)


@given(tail=st.floats(1e-7, 0.5), df=st.floats(1, 300))
def test_t_quantile_is_scipys(tail, df):
    assert stats.t_quantile(tail, df) == pytest.approx(scipy.stats.t.isf(tail, df), rel=1e-8, abs=1e-9)


@given(a=st.floats(0.2, 200), b=st.floats(0.2, 200), x=st.floats(0, 1))
def test_incomplete_beta_is_scipys(a, b, x):
    assert stats.incomplete_beta(a, b, x) == pytest.approx(scipy.stats.beta.cdf(x, a, b), rel=1e-8, abs=1e-12)


@given(st.integers(0, 400), st.integers(1, 400), st.floats(0, 1))
def test_binomial_tails_are_scipys(k, n, p):
    assert stats.binomial_tail(k, n, p) == pytest.approx(scipy.stats.binom.cdf(k, n, p), rel=1e-8, abs=1e-12)
    assert stats.binomial_upper(k, n, p) == pytest.approx(scipy.stats.binom.sf(k - 1, n, p), rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("q", LOADGEN)
def test_rounds_needed_is_loadgens_table(q):
    assert tuple(stats.rounds_needed(q, misses) for misses in (0, 1, 2, 5)) == LOADGEN[q]


@given(q=st.sampled_from([0.5, 0.9, 0.95, 0.99]), misses=st.integers(0, 60))
def test_rounds_needed_is_the_smallest(q, misses):
    n = stats.rounds_needed(q, misses)
    assert scipy.stats.binom.cdf(misses, n, 1 - q) <= 0.01 < scipy.stats.binom.cdf(misses, n - 1, 1 - q)


def test_percentiles_are_printable_from_their_zero_miss_count():
    for q, (zero, *_) in LOADGEN.items():
        assert stats.printable(q, zero) and not stats.printable(q, zero - 1)
    assert stats.printable(0.5, 5) and not stats.printable(0.5, 4)


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=300), st.sampled_from([0.1, 0.5, 0.9, 0.95, 0.99, 1.0]))
def test_percentile_is_numpys_inverted_cdf(values, q):
    assert stats.percentile(values, q) == np.percentile(values, q * 100, method="inverted_cdf")


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=100))
def test_median_is_numpys(values):
    assert stats.median(values) == pytest.approx(np.median(values), rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("n", [4, 5, 6, 8, 20, 61, 300])
@pytest.mark.parametrize("q", [0.5, 0.9])
@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_quantile_interval_is_scipys(n, q, confidence):
    values = random.Random(n).sample(range(10_000), n)
    theirs = scipy.stats.quantile_test(values, p=q).confidence_interval(confidence)
    ours = stats.quantile_interval(values, q, confidence)
    if np.isnan(theirs.low) or np.isnan(theirs.high):
        assert ours is None
    else:
        assert ours == (theirs.low, theirs.high)


def test_quantile_interval_covers_as_promised():
    dice = random.Random(5)
    hits = 0
    for _ in range(2000):
        low, high = stats.quantile_interval([dice.expovariate(1.0) for _ in range(25)], 0.5, 0.95)
        hits += low <= 0.6931471805599453 <= high
    assert hits / 2000 >= 0.95


@given(st.integers(0, 200), st.integers(0, 200))
def test_mcnemar_is_the_exact_sign_test(worse, better):
    if worse + better:
        theirs = scipy.stats.binomtest(worse, worse + better, 0.5, alternative="greater").pvalue
        assert stats.mcnemar(worse, better) == pytest.approx(theirs, rel=1e-8)
    else:
        assert stats.mcnemar(0, 0) == 1.0


def test_mcnemar_needs_five_one_way_flips_for_five_per_cent():
    assert stats.mcnemar(4, 0) > 0.05 > stats.mcnemar(5, 0)


@given(st.lists(st.floats(-10, 10), min_size=3, max_size=50), st.integers(0, 50))
def test_paired_t_is_scipys(differences, zeros):
    full = differences + [0.0] * zeros
    if sum(differences) > 1e-6 and np.std(full) > 1e-6:
        theirs = scipy.stats.ttest_1samp(full, 0.0, alternative="greater").pvalue
        assert stats.paired_t(differences, len(full)) == pytest.approx(theirs, rel=1e-6)


def test_paired_t_without_a_loss_says_one_and_without_a_spread_counts_signs():
    assert stats.paired_t([], 100) == 1.0
    assert stats.paired_t([-1.0, 0.5], 100) == 1.0
    assert stats.paired_t([0.25] * 8, 8) == 0.5**8


def test_holm_is_the_textbooks():
    # Holm 1979 as worked in Wright 1992: adjusted p of four tests.
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.01], family=50) == pytest.approx([0.5])
    assert stats.holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_holm_lies_between_the_p_values_and_bonferroni(p_values):
    adjusted = stats.holm(p_values)
    for p, found in zip(p_values, adjusted, strict=True):
        assert p <= found <= min(1.0, p * len(p_values)) + 1e-15
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    assert [adjusted[index] for index in order] == sorted(adjusted)


def test_moderation_is_smyths_formula():
    own, df = stats.moderated(4.0, 2, 1.0, 3.0)
    assert (own, df) == ((3 * 1.0 + 2 * 4.0) / 5, 5.0)


def test_the_minimal_effect_is_seen_with_the_promised_power():
    n, deviation, alpha = 8, 0.03, 0.01
    effect = stats.minimal_effect(deviation / n**0.5, n - 1, alpha)
    # The power of the one-sided t test at that effect, by the noncentral t.
    critical = scipy.stats.t.isf(alpha, n - 1)
    power = scipy.stats.nct.sf(critical, n - 1, effect / (deviation / n**0.5))
    assert power == pytest.approx(0.8, abs=0.03)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50))
def test_variance_is_numpys(values):
    assert stats.variance(values) == pytest.approx(np.var(values, ddof=1), rel=1e-6, abs=1e-9)
    assert stats.variance(values[:1]) == 0.0


@pytest.mark.parametrize("n", [2_000, 200_000])
def test_ranks_of_very_many_rounds_are_scipys(n):
    """As many as pytest-benchmark makes of a call of microseconds."""
    lower, upper = scipy.stats.binom.ppf([0.025, 0.975], n, 0.5)
    assert stats.interval_ranks(n, 0.5, 0.95) == (lower - 1, upper)
