"""What a repeated prediction says about flips, and metrics that only one side has."""

from dataclasses import replace

import pytest
from making import accuracy, outcomes

from pytest_perfq.core.measurement import Score
from pytest_perfq.core.paired import moves
from pytest_perfq.core.verdict import judge

N = 1000


def flips_of(verdict):
    return [one for one in verdict.findings if one.rule == "flips"]


def test_a_changed_prediction_moved_down_to_the_border_and_up_again():
    was = outcomes([1, 1, 0], margins=[0.3, 2.0, 1.0])
    now = outcomes([0, 1, 0], margins=[0.3, 1.5, 1.0])
    assert moves(now, was).tolist() == pytest.approx([0.6, 0.5, 0.0])


@pytest.mark.parametrize("lost", [1, 3])
def test_flips_of_a_repeated_prediction_whose_way_is_not_known_leave_no_flip_certain(lost):
    """As baselines of earlier versions have them: they compared margins and not what was predicted."""
    was, now = [1] * N, [0] * lost + [1] * (N - lost)
    churn = {"n": N, "flips": 7, "margin_noise": 0.0}
    for candidate, baseline in ((accuracy(now), accuracy(was, churn=churn)), (accuracy(now, churn=churn), accuracy(was))):
        verdict = judge(candidate, (), baseline)
        assert verdict.status == "inconclusive" and not flips_of(verdict)
    still = {"n": N, "flips": 0, "margin_noise": 0.0}
    assert judge(accuracy(now), (), accuracy(was, churn=still)).status == "regressed"


def test_a_flip_counts_once_it_goes_further_than_those_of_a_repeated_prediction():
    was, now = [1] * N, [0] + [1] * (N - 1)
    churn = {"n": N, "flips": 1, "margin_noise": 0.6}
    for margin, status, lost in ((0.3, "inconclusive", ()), (2.3, "inconclusive", ()), (2.5, "regressed", ("q00000",))):
        margins = [margin] + [9.0] * (N - 1)
        verdict = judge(accuracy(now, margins=margins), (), accuracy(was, margins=margins, churn=churn))
        assert verdict.status == status and tuple(one.examples for one in flips_of(verdict)) == ((lost,) if lost else ())


def test_the_candidates_own_repeated_prediction_is_enough():
    was, now = [1] * N, [0] + [1] * (N - 1)
    still = {"n": N, "flips": 0, "margin_noise": 0.0}
    verdict = judge(accuracy(now, churn=still), (), accuracy(was))
    assert verdict.status == "regressed" and flips_of(verdict)[0].examples == ("q00000",)


@pytest.mark.parametrize("lost", [0, 1, 500])
def test_metrics_that_share_no_name_with_the_baselines_never_pass(lost):
    was, now = [1] * N, [0] * lost + [1] * (N - lost)
    verdict = judge(accuracy(now, metric="f1"), (), accuracy(was))
    assert verdict.status == "invalid"
    (finding,) = [one for one in verdict.findings if one.status == "invalid"]
    assert (finding.rule, finding.metric) == ("accuracy", "exact_match")
    assert finding.note == (
        "the baseline has exact_match, and here is measured f1; measure the same metrics, or save a new baseline"
    )


def test_a_metric_that_is_gone_is_told_beside_those_that_are_there():
    right = [1] * N
    both = accuracy(right)
    both = replace(both, scores=(*both.scores, Score("f1", 1.0, N, "mean:right"), Score("recall", 1.0, N, "mean:right")))
    verdict = judge(accuracy(right), (), both)
    assert [(one.metric, one.status) for one in verdict.findings] == [(None, "invalid"), ("exact_match", "pass")]
    assert verdict.findings[0].note.startswith("the baseline has f1, recall, and here is measured exact_match; ")
    # One that is new has nothing to be worse than.
    assert judge(both, (), accuracy(right)).status == "pass"


def test_no_metric_on_either_side_is_no_pass():
    nothing = replace(accuracy([1] * N), scores=())
    verdict = judge(nothing, (), nothing)
    assert verdict.status == "invalid"
    assert verdict.findings[0].note.startswith(
        "the baseline has no metric, and here is measured none; measure the same metrics"
    )
