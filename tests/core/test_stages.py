"""The two stages against scipy, by simulation, and by what must hold of any data."""

import math
import random

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_perfq.core.rules import RULES, Rules
from pytest_perfq.core.stages import confirm, pooled_sd, screen, tempered

FLOOR = math.log1p(RULES.floor)
ratios = st.floats(-0.3, 0.3)
DECIDED = ("ok", "suspect", "regressed", "improved", "inconclusive")


def suite_of(cases, sd, visits, seed=0, slower=(), by=0.0):
    """ln ratios of `visits` visits of each case; those in `slower` by a fraction."""
    dice = np.random.default_rng(seed)
    return {
        f"case{index}": (dice.normal(math.log1p(by) if index in slower else 0.0, sd, visits)).tolist() for index in range(cases)
    }


# ---- the statistic


@given(st.lists(ratios, min_size=2, max_size=6).filter(lambda values: np.std(values) > 2e-3))
def test_a_case_alone_is_scipys_one_sample_t_test(values):
    one = screen({"a": values}, Rules(screen_visits=(7, 8), outlier=math.inf))["a"]
    theirs = scipy.stats.ttest_1samp(values, 0.0, alternative="greater")
    assert one.p == pytest.approx(theirs.pvalue, abs=1e-9)
    low, high = scipy.stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert one.interval == pytest.approx((low, high), abs=1e-9)
    confirmed = confirm({"a": values}, 1, Rules(looks=(7, 8), noisy_looks=(7, 9), spending=(0.5, 0.5), outlier=math.inf))["a"]
    assert confirmed.p == pytest.approx(scipy.stats.ttest_1samp(values, FLOOR, alternative="greater").pvalue, abs=1e-9)


def test_a_case_in_a_suite_leans_on_the_others_variance():
    values = suite_of(30, 0.02, 3, seed=3)
    one = screen(values)["case7"]
    own, others = np.var(values["case7"], ddof=1), np.mean([np.var(values[name], ddof=1) for name in values if name != "case7"])
    deviation = math.sqrt((3 * others + 2 * own) / 5 / 3)
    assert one.p == pytest.approx(scipy.stats.t.sf(np.mean(values["case7"]) / deviation, 5), rel=1e-9)
    assert one.interval[1] - one.mean == pytest.approx(scipy.stats.t.isf(0.025, 5) * deviation, rel=1e-9)
    bar = scipy.stats.t.isf(RULES.screen_p, 5) + scipy.stats.t.isf(0.2, 5)
    assert one.mde == pytest.approx(FLOOR + bar * deviation, rel=1e-9)


@given(st.lists(st.lists(ratios, min_size=1, max_size=9), min_size=1, max_size=12))
def test_the_pooled_sd_is_that_of_the_residuals(columns):
    values = {str(index): column for index, column in enumerate(columns)}
    residuals = np.concatenate([np.asarray(column) - np.mean(column) for column in columns])
    df = sum(len(column) - 1 for column in columns)
    expected = math.sqrt(np.sum(residuals**2) / df) if df else None
    assert pooled_sd(values) == (None if expected is None else pytest.approx(expected, abs=1e-9))


def test_the_minimal_effect_is_seen_with_four_in_five():
    """The share of cases, slower by their own MDE, that the last look alone would call regressed."""
    rules = Rules(looks=(16, 32), noisy_looks=(16, 33), spending=(0.0, 1.0))
    sd, dice = 0.015, np.random.default_rng(1)
    first = confirm({str(case): dice.normal(0.1, sd, 32).tolist() for case in range(50)}, 50, rules)
    mde = np.mean([one.mde for one in first.values()])
    values = {str(case): dice.normal(mde, sd, 32).tolist() for case in range(100)}
    found = [one.status == "regressed" for one in confirm(values, 400, Rules(**{**plain(rules), "alpha": 0.01 * 8})).values()]
    assert np.mean(found) == pytest.approx(0.8, abs=0.06)


def plain(rules):
    return {name: getattr(rules, name) for name in rules.__slots__}


def test_one_visit_in_a_burst_of_other_work_counts_as_four_deviations():
    values = suite_of(20, 0.01, 8, seed=5)
    loud = {**values, "case3": [*values["case3"][:-1], 0.5]}
    found, spreads = tempered(loud), [scipy.stats.median_abs_deviation(own, scale="normal") for own in values.values()]
    assert all(found[name] == own for name, own in values.items() if name != "case3")
    own = scipy.stats.median_abs_deviation(loud["case3"], scale="normal")
    limit = 4 * max(own, np.median([own if name == "case3" else spread for name, spread in zip(values, spreads, strict=True)]))
    assert found["case3"][-1] == pytest.approx(np.median(loud["case3"]) + limit, rel=1e-4)
    assert found["case3"][:-1] == values["case3"][:-1]
    assert confirm({"case3": loud["case3"]}, 1)["case3"].status in ("ok", "open")


@given(st.integers(0, 2**32))
def test_a_case_that_is_noisy_throughout_is_not_tempered_to_the_suites_quiet(seed):
    dice = np.random.default_rng(seed)
    values = {**suite_of(20, 0.002, 16, seed=1), "noisy": (dice.uniform(-0.1, 0.1, 16)).tolist()}
    own, spread = np.array(values["noisy"]), scipy.stats.median_abs_deviation(values["noisy"], scale="normal")
    limit = RULES.outlier * spread
    assert tempered(values)["noisy"] == pytest.approx(np.clip(own, np.median(own) - limit, np.median(own) + limit), abs=1e-5)


# ---- what is decided, and when


def test_a_clean_quiet_suite_is_ok_at_the_first_look():
    found = screen(suite_of(50, 0.002, 3))
    assert {one.status for one in found.values()} == {"ok"} and {one.visits for one in found.values()} == {3}


def test_a_clear_slow_down_is_a_suspect_and_then_regressed():
    values = suite_of(50, 0.01, 3, slower={4}, by=0.08)
    assert [name for name, one in screen(values).items() if one.status == "suspect"].count("case4") == 1
    found = confirm({"case4": suite_of(50, 0.01, 8, seed=1, slower={4}, by=0.08)["case4"]}, 5)["case4"]
    assert found.status == "regressed" and found.visits == 8 and found.needed == 0
    assert found.interval[0] < math.log1p(0.08) < found.interval[1] and found.p < 0.2 * 0.01 / 5


def test_before_a_look_a_case_is_open_and_says_how_many_visits_it_needs():
    assert screen({"a": []})["a"].needed == 3 and screen({"a": [0.01, 0.02]})["a"].needed == 1
    wide = {"a": [0.2, -0.2, 0.0]}
    assert screen(wide)["a"].status == "open" and screen(wide)["a"].needed == 1
    assert screen({"a": [0.2, -0.2, 0.0, -0.2, 0.1, 0.1]})["a"].status == "inconclusive"
    assert confirm({"a": []}, 1)["a"].needed == 4 and confirm({"a": [0.05] * 3}, 1)["a"].needed == 1
    assert confirm({"a": [0.03, 0.05] * 2}, 1)["a"].needed == 4


def test_a_case_without_any_visit_claims_nothing():
    one = screen({"a": [], "b": [0.01]})
    assert one["a"].interval == one["b"].interval == (-math.inf, math.inf) and one["a"].mde == math.inf
    assert one["a"].p == one["b"].p == 1.0


def test_a_small_slow_down_is_not_let_go_before_the_last_look():
    """3 % slower: its upper bound lies under 5 % long before there are visits enough to call it."""
    values = [0.0295 + 0.012 * (-1) ** visit for visit in range(16)]
    standings = [confirm({"a": values[:count]}, 40)["a"].status for count in (4, 8)]
    assert standings == ["open", "open"] and confirm({"a": values}, 40)["a"].status == "regressed"


def test_a_noisy_suite_looks_later():
    quiet, noisy = ([0.02 + spread * (-1) ** visit for visit in range(10)] for spread in (0.015, 0.05))
    assert confirm({"a": quiet}, 1)["a"].needed == 6  # to 16
    assert confirm({"a": noisy}, 1)["a"].needed == 14  # to 24
    late = [0.06 + 0.25 * (-1) ** visit for visit in range(64)]
    assert confirm({"a": late}, 1)["a"].status == "inconclusive" and confirm({"a": late}, 1)["a"].mde > 0.06


def test_visits_that_agree_to_the_last_digit_are_no_certainty():
    one = screen({"a": [0.1] * 3})["a"]
    assert one.status == "suspect" and one.interval[1] > one.mean
    assert confirm({"a": [0.1] * 8}, 1)["a"].status == "regressed"
    # A tenth of a per cent over the floor is within the resolution of any clock here.
    assert confirm({"a": [FLOOR + 0.0002] * 8}, 1)["a"].status != "regressed"


def test_an_improvement_is_named_and_never_a_suspect():
    values = suite_of(100, 0.01, 3, seed=2)
    values["case0"] = [-0.35, -0.36, -0.34]
    found = screen(values)
    assert found["case0"].status == "improved"
    assert [name for name, one in found.items() if one.status == "improved"] == ["case0"]


@pytest.mark.parametrize("promise, by, status", [(0.10, 0.05, "ok"), (0.10, 0.15, "suspect"), (0.02, 0.04, "suspect")])
def test_a_promise_moves_what_is_slow(promise, by, status):
    values = suite_of(50, 0.004, 3, slower={1}, by=by)
    assert screen(values, effects={"case1": promise})["case1"].status == status
    fresh = {"case1": suite_of(50, 0.004, 8, seed=9, slower={1}, by=by)["case1"]}
    expected = "ok" if by < promise else "regressed"
    assert confirm(fresh, 1, effects={"case1": promise})["case1"].status == expected


# ---- error rates, seeded


def test_a_case_slower_by_exactly_the_floor_alarms_no_more_than_promised():
    """The edge of the null hypothesis, one suspect, nobody to lean on: all of alpha is spent on it."""
    dice, alarms, runs = np.random.default_rng(7), 0, 3000
    for _ in range(runs):
        alarms += confirm({"a": dice.normal(FLOOR, 0.012, 32).tolist()}, 1)["a"].status == "regressed"
    assert alarms <= scipy.stats.binom.isf(1e-3, runs, RULES.alpha)


def test_suspects_of_unlike_noise_alarm_no_more_than_promised():
    """Forty suspects at the floor, one in ten four times as noisy as the others it leans on."""
    dice, alarms, runs = np.random.default_rng(8), 0, 60
    for _ in range(runs):
        values = {str(case): dice.normal(FLOOR, 0.04 if case % 10 == 0 else 0.01, 64).tolist() for case in range(40)}
        alarms += any(one.status == "regressed" for one in confirm(values, 40).values())
    assert alarms <= scipy.stats.binom.isf(1e-3, runs, RULES.alpha)


# ---- what must hold of any data

suites = st.dictionaries(st.text(max_size=3), st.lists(ratios, max_size=10), min_size=1, max_size=8)


@given(suites, st.randoms(use_true_random=False))
def test_the_order_of_cases_does_not_matter(values, dice):
    names = list(values)
    dice.shuffle(names)
    shuffled = {name: values[name] for name in names}
    for stage in (screen, lambda suite: confirm(suite, 9)):
        mine, theirs = stage(values), stage(shuffled)
        assert list(theirs) == names
        for name, one in mine.items():
            other = theirs[name]
            assert (one.status, one.visits, one.needed) == (other.status, other.visits, other.needed)
            assert (one.mean, one.p) == pytest.approx((other.mean, other.p), rel=1e-9, abs=1e-12)


@settings(max_examples=60)
@given(st.lists(st.lists(ratios, min_size=64, max_size=64), min_size=1, max_size=4))
def test_a_look_is_never_taken_back(columns):
    """Pass by pass, the way a run sees them: what is decided stays, word for word, whatever comes later."""
    values = {str(index): column for index, column in enumerate(columns)}
    for stage, last in ((screen, 6), (lambda suite: confirm(suite, 5), 64)):
        seen, decided = {name: [] for name in values}, {}
        for visit in range(last):
            for name, column in values.items():
                if name not in decided:
                    seen[name] = [*seen[name], column[visit]]
            found = stage(seen)
            for name, before in decided.items():
                assert found[name].status == before.status and found[name].visits == before.visits
            decided = {name: one for name, one in found.items() if one.decided}
        assert set(decided) == set(values)
        # All at once gives the same: later visits change nothing.
        assert {name: one.status for name, one in stage(seen).items()} == {name: one.status for name, one in decided.items()}


@settings(max_examples=30)
@given(
    columns=st.lists(st.lists(ratios, min_size=64, max_size=64), min_size=2, max_size=4),
    lags=st.lists(st.integers(0, 3), min_size=4, max_size=4),
)
def test_what_was_decided_stays_when_a_case_that_lags_changes_what_the_others_lean_on(columns, lags):
    """A visit that was spoilt is made in a later pass: its case has fewer than the others at every look."""
    for stage, last in ((screen, 6), (lambda suite, decided: confirm(suite, 5, decided=decided), 64)):
        standings = {}
        for visit in range(1, last + 4):
            seen = {str(number): column[: max(0, visit - lags[number])] for number, column in enumerate(columns)}
            decided = {name: one for name, one in standings.items() if one.decided}
            seen |= {name: seen[name][: one.visits] for name, one in decided.items()}
            standings = stage(seen, decided=decided)
            assert {name: standings[name] for name in decided} == decided
        assert all(one.decided for one in standings.values())


def test_a_lagging_case_would_otherwise_take_a_decision_back():
    """Why decisions are given back: the same visits of a case, decided otherwise once another case has one more."""
    dice, moved, kept = np.random.default_rng(2), 0, 0
    for _ in range(100):
        own, lagging = dice.normal([[0.03], [0.0], [0.0]], 0.023, (3, 3)), dice.normal(0.0, 0.023, 3)
        values = {str(number): column.tolist() for number, column in enumerate(own)}
        before = screen({**values, "z": lagging[:2].tolist()})
        decided = {name: one for name, one in before.items() if one.decided}
        later = {**values, "z": lagging.tolist()}
        after, held = screen(later), screen(later, decided=before)
        moved += any(after[name].status != one.status for name, one in decided.items())
        kept += all(held[name] == one for name, one in decided.items())
    assert moved > 0 and kept == 100


def test_what_was_decided_of_cases_that_are_gone_and_what_was_open_counts_for_nothing():
    values = suite_of(5, 0.002, 3)
    other = screen(suite_of(5, 0.05, 2))
    assert not any(one.decided for one in other.values())
    assert screen(values, decided={**other, "gone": screen(values)["case0"]}) == screen(values)


@given(st.lists(ratios, min_size=4, max_size=70), st.floats(0.0, 0.5))
def test_a_slow_down_moves_the_mean_by_its_logarithm(values, share):
    moved = [value + math.log1p(share) for value in values]
    before, after = (screen({"a": column}, Rules(screen_visits=(100, 101)))["a"] for column in (values, moved))
    assert after.mean - before.mean == pytest.approx(math.log1p(share), abs=1e-9)
    assert after.interval[1] - after.interval[0] == pytest.approx(before.interval[1] - before.interval[0], abs=1e-9)
    assert after.p <= before.p + 1e-12


def alarms(seed, more, by):
    """Of three cases slower by this (ln), alone and beside as many that are not slower and no quieter than they: (alone, together,
    those of the added)."""
    rules, dice = Rules(noisy_sd=math.inf), random.Random(seed)
    values = {str(case): [dice.gauss(by, 0.02) for _ in range(32)] for case in range(3)}
    loudest = max(pooled_sd({name: own[:look]}) for name, own in values.items() for look in rules.looks)
    added = {f"new{case}": [loudest * (1 if visit % 2 else -1) for visit in range(32)] for case in range(more)}
    alone, together = confirm(values, 3, rules), confirm({**values, **added}, 3 + more, rules)
    found = [{name for name, one in of.items() if one.status == "regressed"} for of in (alone, together)]
    return len(found[0]), len(found[1]), len(found[1] & added.keys())


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 30), st.floats(0.0, 0.08))
def test_unchanged_cases_beside_slower_ones_are_never_accused(seed, more, by):
    assert alarms(seed, more, by)[2] == 0


@pytest.mark.parametrize("by", [0.0, 0.02, 0.03, 0.05])
@pytest.mark.parametrize("more", [1, 5, 20])
def test_unchanged_cases_create_no_alarms(more, by):
    """In all: one slower case in two hundred is found by a hair that was not, since more cases make the spread better known.
    (Quieter ones may: they show that a machine on which the others jump can be trusted.)"""
    alone, together, _ = map(sum, zip(*(alarms(seed, more, by) for seed in range(60)), strict=True))
    assert together <= alone
    assert alone == 0 if by == 0.0 else alone > 0


# ---- what is refused


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_ratio_that_is_no_number_is_one_sentence(wrong):
    for stage in (screen, lambda values: confirm(values, 1)):
        with pytest.raises(ValueError, match=rf"bert/b1: a visit's ln ratio is {wrong}; leave out visits"):
            stage({"bert/b1": [0.0, wrong]})


def test_more_cases_than_suspects_is_one_sentence():
    with pytest.raises(ValueError, match="2 cases are to be confirmed and 1 are suspects; count every suspect"):
        confirm({"a": [], "b": []}, 1)


@pytest.mark.parametrize(
    "given, sentence",
    [
        ({"floor": 0.06}, r"the floor 0\.06 must lie between zero and the effect 0\.05; lower it"),
        ({"spending": (0.5, 0.5)}, r"4 looks, 4 noisy looks and 2 shares of alpha: give one share for each look"),
        ({"noisy_looks": (5, 8, 24, 64)}, r"the first look is at 4 visits and at 5 where it is noisy.*give both the same"),
        ({"screen_visits": (3, 3)}, r"screen_visits is \(3, 3\): give growing numbers of visits, the first at least 2"),
        ({"spending": (0.4, 0.4, 0.4, 0.4)}, r"the looks spend .* of alpha: give shares of at least 0 with a sum of at most 1"),
        ({"spending": (0.5, 0.0, 0.5, 0.0)}, r"the last over 0"),
    ],
)
def test_rules_that_contradict_each_other_are_one_sentence(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        Rules(**given)
