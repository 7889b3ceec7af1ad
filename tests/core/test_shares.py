"""Promises of a share of the original's score, and MLPerf's by name."""

import pytest
from making import accuracy

from pytest_perfq.core.budget import Budget, limits_for
from pytest_perfq.core.verdict import judge
from pytest_perfq.errors import UnknownName, UsageError
from pytest_perfq.report.explain import reasons


def verdict(right, original, **promise):
    measurement = accuracy(right, original)
    return judge(measurement, limits_for([Budget(**promise)], measurement.case, "cpu"))


def answers(right, n=1000):
    return [1] * right + [0] * (n - right)


@pytest.mark.parametrize(
    ("share", "right", "status"),
    [
        ("mlperf-99", 891, "pass"),  # 0.891 of 0.9 is 99 %, to the example
        ("mlperf-99", 890, "fail"),
        ("mlperf-99.9", 900, "pass"),
        ("mlperf-99.9", 899, "fail"),
        (0.5, 450, "pass"),
        (0.5, 449, "fail"),
    ],
)
def test_a_share_is_of_the_originals_score(share, right, status):
    assert verdict(answers(right), answers(900), min_share=share).status == status


def test_the_finding_names_the_target_and_both_scores():
    (line,) = reasons(verdict(answers(880), answers(900), min_share="mlperf-99"))
    assert line.startswith(
        "fail: exact_match share of the original's score 97.78%, at least 99.00% promised by budget 1, mlperf-99 for every case; "
        "exact_match 0.8800 of 0.9000 over 1000 examples"
    )


def test_of_nothing_there_is_no_share():
    found = verdict(answers(10), answers(0), min_share=0.99)
    assert found.status == "invalid"
    assert "a score of 0 'exact_match' to take a share of; promise min_score instead" in found.findings[0].note


def test_an_unknown_target_and_a_percentage_are_told():
    with pytest.raises(UnknownName, match=r"'mlperf-90'; did you mean 'mlperf-99'\? known: mlperf-99, mlperf-99.9"):
        Budget(min_share="mlperf-90")
    with pytest.raises(
        UsageError, match=r"min_share of a budget for every case is 99; it is a share of the original's score: 0.99\?"
    ):
        Budget(min_share=99)


def test_the_original_has_no_share_of_itself():
    measurement = accuracy(answers(5, 10), backend="eager")
    assert judge(measurement, limits_for([Budget(min_share="mlperf-99")], measurement.case, "cpu")).findings == ()
