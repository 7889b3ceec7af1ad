"""What is said of cases that only one side has, and of a baseline that was saved."""

import json

from making import case, latency

from pytest_perfq.core.finding import Finding, Verdict
from pytest_perfq.core.verdict import Pair, judge_suite
from pytest_perfq.report import comparison
from pytest_perfq.report.apart import Apart, few, unheld
from pytest_perfq.report.ending import new, saved

APART = Apart(("gone/1", "gone/2"), ("new/1", "new/2"))


def one_case():
    pairs = {case(0).id: Pair(latency(visits=20), (), latency(visits=20))}
    return pairs, judge_suite(pairs, against=True)


def test_what_was_not_compared_stands_where_the_cases_are_counted():
    counted = "1 case: 1 pass; 2 only in the base, 2 only in the candidate: not compared"
    pairs, verdicts = one_case()
    assert counted in comparison.table(pairs, verdicts, 140, apart=APART).splitlines()
    assert comparison.markdown(pairs, verdicts, apart=APART).startswith(f"**{counted}**\n")
    told = json.loads(comparison.as_json(verdicts, APART))
    assert (told["only_in_base"], told["only_in_candidate"]) == (["gone/1", "gone/2"], ["new/1", "new/2"])


def test_nothing_is_said_where_both_sides_have_all():
    pairs, verdicts = one_case()
    assert "1 case: 1 pass" in comparison.table(pairs, verdicts, 140, apart=Apart()).splitlines()
    assert str(Apart(candidate=("new/1",))) == "1 only in the candidate: not compared"
    assert json.loads(comparison.as_json(verdicts, Apart()))["only_in_base"] == []
    assert "only_in_base" not in json.loads(comparison.as_json(verdicts))


def test_two_names_are_given_and_the_rest_is_counted():
    assert few(["a", "b"]) == "a, b" and few(["a", "b", "c"]) == "a, b and 1 more" and few(["a", "b", "c"], 3) == "a, b, c"
    assert unheld(["a", "b", "c"], "the baseline v1") == (
        "3 measured cases are not in the baseline v1 and were held to their own promises only: a, b and 1 more; changing a "
        "configuration renames its case"
    )


def test_a_run_names_its_new_cases_once_and_what_was_not_measured_never():
    pairs = {case(number).id: Pair(latency(number, visits=1), (), None) for number in (1, 0)}
    found = [(latency(number, visits=1), judge_suite(pairs, against=True)[case(number).id]) for number in (1, 0, 1)]
    (sentence,) = new(found, "baselines/v1", "run-1", saving=False)
    assert sentence.startswith(
        "2 measured cases are not in the baseline baselines/v1 and were held to their own promises only: "
    )
    assert f": {case(1).id}, {case(0).id}; changing" in sentence
    assert sentence.endswith("or this run with: perfq accept run-1 baselines/v1 --overwrite")
    assert new(found, "baselines/v1", "run-1", saving=True) == [sentence.partition("; once")[0]]
    assert new([(one, Verdict(one.case.id)) for one, _ in found], "baselines/v1", "run-1", saving=False) == []


def test_what_was_saved_counts_a_case_once_by_its_last_verdict():
    bad, good = Verdict("a", (Finding(rule="p50_ms", status="fail"),)), Verdict("a")
    spoilt, slow = (
        Verdict("b", (Finding(rule="p50_ms", status="invalid"),)),
        Verdict("c", (Finding(rule="slowdown", status="regressed"),)),
    )
    assert saved([bad, good], "v1") == "saved 1 case as v1; hold a run against it with --perf-against=v1"
    assert saved([good, bad], "v1").startswith("saved 1 case as v1, 1 of which fails or is invalid; hold")
    assert saved([good, spoilt, slow], "v1").startswith("saved 3 cases as v1, 2 of which fail or are invalid; hold")
    late = Verdict("late", (Finding(rule="measured", status="inconclusive", note="no time was left"),), ())
    assert saved([good, late], "v1").startswith("saved 2 cases as v1, 1 of which was not measured; hold")
    assert saved([bad, late], "v1").startswith(
        "saved 2 cases as v1, 1 of which fails or is invalid and 1 of which was not measured;"
    )
