"""Which examples are shown with their texts, and under which finding."""

from dataclasses import replace

from making import accuracy

from pytest_perfq.core.finding import Finding, Verdict
from pytest_perfq.core.verdict import Pair, judge_suite
from pytest_perfq.report import examples
from pytest_perfq.report.comparison import as_json, markdown, table
from pytest_perfq.report.explain import explain, explain_all, reasons

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


def lost(case_id, ids=WRONG[:3], now=NOW, rule="accuracy"):
    """A case that lost these examples, with their texts."""
    return examples.read(Verdict(case_id, (finding("regressed", ids, rule),)), TEXTS, now, WAS)


def test_examples_that_several_cases_lose_are_told_once_and_the_others_name_the_first():
    first, other, twin = (f"squad/bert/ort@cpu/{name}/accuracy" for name in ("int8-dynamic[Add]", "fp32", "int8-static[Add]"))
    verdicts = [lost(first), lost(other, WRONG[:1]), lost(twin), lost("squad/roberta/ort@cpu/fp32/accuracy")]
    one, two, three, four = explain_all(verdicts)
    assert one == explain(verdicts[0]) and two == explain(verdicts[1])
    assert one.count("words of") == 3 and f"; examples: {', '.join(WRONG[:3])} ->" in one
    assert f"; the same 3 examples as {first} ->" in three and three.count("\n") == 1
    for text in (three, four):
        assert "words of" not in text and WRONG[0] not in text and f"as {first} " in text
    assert f"; the same example as {first} ->" in explain_all([lost(first, WRONG[:1]), lost(twin, WRONG[:1])])[1]


def test_another_answer_to_the_same_example_is_told_all_the_same():
    answers = replace(NOW, predictions=("maybe", *NOW.predictions[1:]))
    _, told = explain_all([lost("d/m/a/fp32/accuracy"), lost("d/m/b/fp32/accuracy", now=answers)])
    assert "the same 3 examples as d/m/a/fp32/accuracy" in told
    assert told.splitlines()[2:] == [f"    {WRONG[0]} 'words of {WRONG[0]}' -> 'maybe', was 'yes'"]


def test_other_examples_are_never_taken_for_the_same():
    """Ids are of their data set; what was not listed cannot be referred to; and a case never refers to itself."""
    for one in (lost("mnli/m/a/fp32/accuracy"), Verdict("d/m/z/fp32/accuracy", (finding("improved", WRONG[:3]),))):
        _, told = explain_all([one, lost("d/m/a/fp32/accuracy")])
        assert told == explain(lost("d/m/a/fp32/accuracy"))
    again = [lost("d/m/a/fp32/accuracy")] * 2
    assert explain_all(again) == [explain(again[0])] * 2
    # Within a case the worst finding lists them, and the others say nothing.
    both = Verdict("d/m/b/fp32/accuracy", (finding("fail", WRONG[:3], "max_drop"), finding("regressed", WRONG[:3])))
    _, told = explain_all([again[0], both])
    assert told.count("the same 3 examples") == 1 and "examples:" not in told


def test_tables_tell_them_once_and_what_machines_read_is_complete():
    measured = [accuracy([0] * 20 + [1] * 80, number=number) for number in range(3)]
    was = [accuracy([1] * 100, number=number) for number in range(3)]
    pairs = {now.case.id: Pair(now, (), before) for now, before in zip(measured, was, strict=True)}
    verdicts = {
        name: examples.read(one, TEXTS, pairs[name].candidate.outcomes, pairs[name].baseline.outcomes)
        for name, one in judge_suite(pairs, against=True).items()
    }
    assert {one.status for one in verdicts.values()} == {"regressed"}
    first, *others = pairs
    for text in (table(pairs, verdicts, 400), markdown(pairs, verdicts)):
        assert text.count("'words of q00000'") == 1 and text.count(f"; the same 20 examples as {first} ->") == len(others)
    assert as_json(verdicts).count("'words of q00000'") == 2 * len(verdicts)  # as stored, and as a sentence


def test_examples_that_others_made_up_for_are_named_once_too():
    was, now = accuracy([1] * 20 + [0] * 20 + [1] * 60), accuracy([0] * 20 + [1] * 20 + [1] * 60)
    (verdict,) = judge_suite({now.case.id: Pair(now, (), was)}, against=True).values()
    _, told = examples.made_up_for([verdict, replace(verdict, case_id="squad/m/other")])
    assert told.endswith(f"so the score did not fall; wrong now: the same 20 examples as {now.case.id}")
