"""A visit of two sides: its ratio against numpy, its trip through JSON, and what it refuses."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_perfq.core.measurement import Samples
from pytest_perfq.core.trial import TrialVisit

durations = st.lists(st.integers(1, 10**12), min_size=1, max_size=60)


def visit(a, b, number=0):
    return TrialVisit(number, "confirm", "b", Samples(tuple(a), (5,), 1.5), Samples(tuple(b), (), 2.5))


@given(durations, durations)
def test_the_ratio_is_numpys_median_of_paired_rounds(a, b):
    paired = min(len(a), len(b))
    theirs = np.median(np.log(np.array(b[:paired], dtype=float) / np.array(a[:paired], dtype=float)))
    assert visit(a, b).log_ratio == pytest.approx(theirs, rel=1e-9, abs=1e-12)


@given(durations, st.floats(0.01, 2.0))
def test_a_side_slower_by_a_share_moves_the_ratio_by_its_logarithm(a, share):
    # Long enough that rounding to whole nanoseconds is no part of it.
    base = [one * 10**6 for one in a]
    slower = [round(one * (1.0 + share)) for one in base]
    assert visit(base, slower).log_ratio == pytest.approx(math.log1p(share), abs=1e-5)
    assert visit(slower, base).log_ratio == pytest.approx(-math.log1p(share), abs=1e-5)


def test_a_clock_that_saw_nothing_counts_a_nanosecond():
    assert visit([0, 0, 0], [2, 2, 2]).log_ratio == pytest.approx(math.log(2.0))


def test_a_side_without_rounds_is_one_sentence():
    with pytest.raises(
        ValueError, match=r"confirm visit 7 has 0 rounds of the base and 2 of the candidate.*time both sides again"
    ):
        _ = visit([], [1, 2], number=7).log_ratio


@given(durations, durations, st.integers(0, 64), st.sampled_from(["screen", "confirm"]), st.sampled_from(["a", "b"]))
def test_a_visit_survives_json(a, b, number, stage, first):
    one = TrialVisit(number, stage, first, Samples(tuple(a), (1, 2), 3.5), Samples(tuple(b), (), 4.5))
    assert TrialVisit.from_json(json.loads(json.dumps(one.to_json()))) == one
