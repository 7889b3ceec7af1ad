"""Cases that are red on the base already, baselines that nominate only, and suites that moved alike."""

from dataclasses import replace

import pytest
from making import accuracy, latency

from pytest_perfq.core.budget import Limit
from pytest_perfq.core.verdict import Pair, judge_suite

DAY = 86400.0
PROMISE = (Limit("min_score", 0.95, None, "budget 1"),)


def red(age_days, base):
    pair = Pair(accuracy([1] * 90 + [0] * 10), PROMISE, accuracy([1] * base + [0] * (100 - base)), age_days * DAY)
    (verdict,) = judge_suite({"case": pair}, against=True).values()
    return next(one for one in verdict.findings if one.rule == "min_score")


def test_a_case_red_on_the_base_is_marked_and_still_fails():
    found = red(3, base=90)
    assert (found.status, found.note) == ("fail", "over 100 examples; already red in the baseline, 3 days old")


@pytest.mark.parametrize(
    ("days", "told"), [(-0.4, "less than a day"), (0.2, "less than a day"), (1.2, "1 day"), (1.6, "2 days")]
)
def test_the_age_is_told_as_people_say_it(days, told):
    assert red(days, base=90).note.endswith(f"already red in the baseline, {told} old")


def test_the_mark_expires():
    assert red(20, base=90).note == (
        "over 100 examples; already red in the baseline, 20 days old: over 14 days, so mend it or change the promise"
    )


def test_what_this_change_broke_has_no_mark():
    assert red(3, base=99).note == "over 100 examples"


def later(measurement, days):
    def moved(samples):
        return None if samples is None else replace(samples, started_s=samples.started_s + days * DAY)

    visits = tuple(
        replace(one, case=moved(one.case), anchor=moved(one.anchor), original=moved(one.original)) for one in measurement.visits
    )
    return replace(measurement, visits=visits)


def suite(days, shift=0.0, slow=(), anchored=True, cases=30):
    anchor = {} if anchored else {"anchor_ms": None}
    pairs = {}
    for number in range(cases):
        own = shift + (0.5 if number in slow else 0.0)
        now = later(latency(number, process=own, seed=1, **anchor), days)
        pairs[f"case {number}"] = Pair(now, (), latency(number, seed=2, **anchor))
    return judge_suite(pairs, against=True)


@pytest.mark.parametrize("anchored", [True, False])
def test_a_baseline_of_another_day_never_alarms(anchored):
    verdicts = suite(3, slow=(4,), anchored=anchored)
    assert verdicts["case 4"].status == "inconclusive"
    assert (
        "measured on another day, which only nominates; confirm with --perf-confirm=REV" in verdicts["case 4"].findings[0].note
    )
    assert not any(one.failed for one in verdicts.values())


def test_the_same_slow_down_of_the_same_day_is_told():
    verdicts = suite(0, slow=(4,))
    assert [name for name, one in verdicts.items() if one.failed] == ["case 4"]


def test_a_suite_that_moved_alike_on_another_day_is_named_once():
    verdicts = suite(3, shift=0.25, anchored=True)
    assert {one.status for one in verdicts.values()} == {"inconclusive"}
    sentences = {part for one in verdicts.values() for part in one.findings[0].note.split("; ") if "whole suite" in part}
    assert len(sentences) == 1 and "the whole suite moved by +2" in sentences.pop()
