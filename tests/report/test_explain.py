"""What is advised where two sides were held against each other, and how often a status is said."""

from dataclasses import replace

import pytest
from making import accuracy, latency

from pytest_perfq.core.benchmarks import ONCE
from pytest_perfq.core.finding import Finding, Verdict
from pytest_perfq.core.verdict import Pair, judge, judge_suite
from pytest_perfq.report.explain import explain
from pytest_perfq.trials.conclusions import beside


@pytest.mark.parametrize("rule", ["slowdown", "max_slowdown"])
def test_a_slow_down_side_by_side_is_not_sent_to_an_option_that_perfq_ab_does_not_have(rule):
    stored = Finding(rule=rule, status="regressed", observed=0.4, note="3 visits here, 3 in the baseline")
    sides = Finding(rule=rule, status="regressed", observed=0.4, note="side by side, 3 visits to screen it")
    allowed = {"slowdown": "allow it with max_slowdown in review", "max_slowdown": "raise the promise in review"}[rule]
    assert explain(Verdict("a", (stored,))).endswith("-> profile the change, or accept it with --perf-save")
    assert explain(Verdict("a", (sides,))).endswith(f"-> profile the change, or {allowed}")
    # Nor is it from a baseline, which need not exist.
    assert "slow-down from the baseline +40.0%" in explain(Verdict("a", (stored,)))
    assert "slow-down from the base +40.0%" in explain(Verdict("a", (sides,)))


@pytest.mark.parametrize("day_s", [60.0, 86400.0])
def test_a_call_that_is_never_repeated_is_not_sent_to_be_held_side_by_side(day_s):
    was = latency(original_ms=None, anchor_ms=None, visits=1, rounds=1)
    (visit,) = was.visits
    later = replace(visit, case=replace(visit.case, started_s=visit.case.started_s + day_s))
    now = replace(was, visits=(later,), facts={"rounds": ONCE})
    text = explain(judge(now, (), was))
    assert text.endswith(f"; {ONCE} -> give it more rounds")
    assert "perfq ab" not in text and "--perf-confirm" not in text and "anchor" not in text
    # One that may be repeated by now can be held beside what it was.
    assert explain(judge(was, (), now)).endswith("-> hold it side by side: --perf-confirm=REV, or `perfq ab`")


def test_accuracy_lost_between_two_sides_is_for_the_review_to_accept():
    was, now = accuracy([1] * 100), accuracy([0] * 12 + [1] * 88)
    verdict = judge_suite({now.case.id: Pair(now, (), was)}, against=True)[now.case.id]
    assert "accept the change with --perf-save" in explain(verdict)
    text = explain(beside(verdict))
    assert "--perf-save" not in text and "; side by side, 12 examples went wrong and 0 right of 100" in text
    assert "look at the examples listed, or accept the change in review" in text
    assert "exact_match drop from the base 0.1200" in text and "baseline" not in text
    assert beside(verdict).status == verdict.status == "regressed"
    bare = Finding(rule="flips", status="regressed", observed=1.0)
    assert [one.note for one in beside(Verdict("a", (bare, Finding(rule="max_bytes", status="pass")))).findings] == [
        "side by side",
        "",
    ]


def test_a_status_is_said_once_and_another_status_with_its_line():
    slower = Finding(rule="slowdown", status="regressed", observed=0.4, note="side by side, 8 visits")
    better = Finding(rule="accuracy", status="improved", observed=-0.01, metric="f1")
    assert explain(Verdict("t.py::test_sort", (better, slower))).splitlines() == [
        "t.py::test_sort: regressed",
        "  slow-down from the base +40.0%; side by side, 8 visits -> profile the change, or allow it with max_slowdown in review",
        "  improved: f1 drop from the baseline -0.0100",
    ]
