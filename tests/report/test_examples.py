"""Which examples are shown with their texts, and under which finding."""

from dataclasses import replace

from making import accuracy

from pytest_perfq.core.finding import Finding, Verdict
from pytest_perfq.core.verdict import Pair, judge_suite
from pytest_perfq.report import examples
from pytest_perfq.report.comparison import table
from pytest_perfq.report.explain import reasons

NOW, WAS = (accuracy(right).outcomes for right in ([0] * 7 + [1] * 3, [1] * 10))
WRONG = NOW.ids[:7]
TEXTS = {one: f"words of {one}" for one in NOW.ids}


def finding(status, ids=WRONG, rule="accuracy"):
    return Finding(rule=rule, status=status, observed=0.7, metric="exact_match", examples=ids)


def test_the_first_five_are_read_and_stand_under_the_worst_finding_about_them():
    verdict = Verdict(
        "a", (finding("regressed", WRONG[:1], rule="flips"), finding("fail", rule="max_drop"), finding("pass", ()))
    )
    assert examples.to_read(verdict) == WRONG[:5]
    read = examples.read(verdict, TEXTS, NOW, WAS)
    assert [len(one.details) for one in read.findings] == [0, 5, 0]
    now, was = NOW.predictions, WAS.predictions
    assert read.findings[1].details[2] == f"{WRONG[2]} 'words of {WRONG[2]}' -> {now[2]!r}, was {was[2]!r}"
    assert reasons(read)[1] == f"  {read.findings[1].details[0]}"
    # Read or not, it is the same verdict.
    assert tuple(replace(one, details=()) for one in read.findings) == verdict.findings and read.status == "fail"


def test_nothing_is_read_of_a_case_that_does_not_fail_for_examples():
    for one in (finding("inconclusive"), finding("pass"), Finding(rule="p50_ms", status="fail", observed=9.0)):
        verdict = Verdict("a", (one,))
        assert examples.to_read(verdict) == () and examples.read(verdict, TEXTS, NOW, WAS) is verdict


def test_examples_that_others_made_up_for_are_told():
    """Twenty lost and twenty gained leave the score as it was, and are another program all the same."""
    was, now = accuracy([1] * 20 + [0] * 20 + [1] * 60), accuracy([0] * 20 + [1] * 20 + [1] * 60)
    verdicts = judge_suite({now.case.id: Pair(now, (), was)}, against=True)
    (verdict,) = verdicts.values()
    assert verdict.status == "pass"
    ids = ", ".join(now.outcomes.ids[:10])
    told = f"{now.case.id}: 20 examples went wrong and 20 right of 100, so the score did not fall; wrong now: {ids} and 10 more"
    assert examples.made_up_for([verdict]) == [told]
    assert " ".join(told.split()) in " ".join(table({now.case.id: Pair(now, (), was)}, verdicts, 400).split())
    same = judge_suite({now.case.id: Pair(was, (), was)}, against=True)
    assert examples.made_up_for(list(same.values())) == []
    many = [replace(verdict, case_id=f"c{number}") for number in range(10)]
    assert examples.made_up_for(many)[-1] == "and 2 more cases, whose examples `perfq export` has"


def test_an_example_without_a_text_or_without_a_past_says_what_there_is():
    verdict = Verdict("a", (finding("fail", WRONG[:2]),))
    told = examples.read(verdict, {WRONG[1]: "w" * 200}, NOW, None).findings[0].details
    assert told == (f"{WRONG[1]} '{'w' * 79}…' -> {NOW.predictions[1]!r}",)
