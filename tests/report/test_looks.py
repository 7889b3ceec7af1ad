"""How tables and sentences look: folded at their joints, fitted to the width, in the order of the walk, said once."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import accuracy, case, latency

from pytest_perfq.core.finding import Finding, Verdict
from pytest_perfq.core.quantization import Static
from pytest_perfq.core.spec import Spec
from pytest_perfq.core.verdict import Pair, judge, judge_suite
from pytest_perfq.report.comparison import BARE, CORRECTED, MIXED, table
from pytest_perfq.report.folding import INDENT, fold, wrap
from pytest_perfq.report.grid import Column, fitting, render
from pytest_perfq.report.order import in_walk, natural, stem
from pytest_perfq.report.terminal import summary
from pytest_perfq.report.undecided import undecided

LONG = Static("MatMul", exclude=["layernorm", "gelu", "residual", "gather", "softmax"])
NAMES = st.text(alphabet="ab8/[],-_. @", min_size=1, max_size=120).map(str.strip)


# -- folding


@given(NAMES, st.integers(8, 80))
def test_a_folded_name_loses_nothing_but_blanks_and_fits(name, room):
    lines = fold(name, room)
    assert "".join("".join(lines).split()) == "".join(name.split())
    assert all(len(line) <= room for line in lines)
    assert all(line.startswith(INDENT) for line in lines[1:])


def test_a_name_is_folded_at_slashes_where_that_is_enough():
    name = "synthetic-question-answering/synthetic-bert/ort@cpu/int8-dynamic[Attention,MatMul]/b8/s128"
    assert fold(name, 33) == [
        "synthetic-question-answering/",
        "  synthetic-bert/ort@cpu/",
        "  int8-dynamic[Attention,MatMul]/",
        "  b8/s128",
    ]
    assert fold(name, len(name)) == [name]


def test_a_part_longer_than_a_line_is_folded_at_its_commas_and_brackets():
    assert fold(f"ort@cpu {LONG.id}", 33) == [
        "ort@cpu int8-static[MatMul]",
        "  -x[gather,gelu,layernorm,",
        "  residual,softmax]",
    ]


def test_a_sentence_is_broken_at_blanks_alone():
    name = case(0, quantization=LONG).id
    lines = wrap(f"{name}: inconclusive: it could not be seen -> measure with more visits", 50)
    assert lines[0] == f"{name}:" and all(len(line) <= 50 for line in lines[1:])
    assert wrap("  fail: a b c", 10) == ["  fail: a", "    b c"]


# -- tables


def test_a_long_name_flows_beside_its_rows_and_pushes_none_down():
    columns = (Column("program", right=False, folds=True, spans=True), Column("shape", right=False), Column("p50 ms"))
    rows = [
        [f"ort@cpu {LONG.id}", "b1 s32", "1.00"],
        ["", "b1 s128", "12.5"],
        ["", "b8 s32", "3.00"],
        ["eager@cpu", "b1 s32", "2.00"],
    ]
    assert render(columns, rows, 52).splitlines() == [
        "program                       shape     p50 ms",
        "──────────────────────────────────────────────",
        "ort@cpu int8-static[MatMul]   b1 s32      1.00",
        "  -x[gather,gelu,layernorm,   b1 s128     12.5",
        "  residual,softmax]           b8 s32      3.00",
        "eager@cpu                     b1 s32      2.00",
    ]
    # What its own rows have no room for stands on lines of its own, before the next program.
    lines = render(columns, [rows[0], rows[3]], 52).splitlines()
    assert lines[3:] == ["  -x[gather,gelu,layernorm,", "  residual,softmax]", "eager@cpu                     b1 s32     2.00"]


def test_a_column_that_matters_leaves_only_when_a_name_has_folded_as_far_as_it_may():
    columns = (Column("name", folds=True), Column("least", spare=2), Column("dear", spare=1, beside=20))
    rows = [["x" * 60, "y" * 10, "z" * 10]]
    # 40 characters and two columns; 39 and one; 20 and one; 19 and none.
    assert [fitting(columns, rows, width) for width in (66, 65, 33, 32)] == [[0, 1, 2], [0, 2], [0, 2], [0]]


def test_a_title_longer_than_its_table_is_folded_to_the_width_not_to_the_table():
    title = "latency of synthetic-question-answering/synthetic-bert"
    assert render((Column("a"),), [["1"]], 80, title).splitlines()[0] == title
    assert render((Column("a"),), [["1"]], 40, title).splitlines()[:2] == [
        "latency of synthetic-question-answering/",
        "  synthetic-bert",
    ]


def swept():
    """Two programs with names that do not fit, of two models, as their ids sort."""
    found = []
    for model in ("bert", "electra"):
        for quantization in (None, LONG):
            fields = {"model_name": model, "quantization": quantization, "dataset": "a-data-set-with-a-long-name"}
            found += [latency(number, rounds=60, **fields) for number in (0, 7)]
    return found


@pytest.mark.parametrize("width", [80, 100, 160])
def test_a_comparison_breaks_no_word_and_says_what_ids_share_once(width):
    pairs = {one.case.id: Pair(one, (), one) for one in swept()}
    text = table(pairs, judge_suite(pairs, against=True), width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert [line for line in lines if line.startswith("cases of")] == [
        "cases of a-data-set-with-a-long-name/bert/ort@cpu/",
        "cases of a-data-set-with-a-long-name/electra/ort@cpu/",
    ]
    assert text.count("a-data-set-with-a-long-name") == 2
    rows = [line for line in lines if " ms " in line]
    assert len(rows) == 8 and all(re.search(r" 5\.\d\d ms +5\.\d\d ms +[+-]0\.0% ", row) for row in rows)
    folded = [line.strip() for line in lines if line.startswith(INDENT) and "/b" in line and " ms" not in line]
    assert len(folded) == (0 if width == 160 else 4)
    whole = f"{LONG.id}/b1/s32 {LONG.id}/b8/s32"
    assert all(whole.partition(rest)[0][-1] in "/,]" for rest in folded)
    assert [one.split()[0] for one in rows if one.startswith("fp32")] == ["fp32/b1/s32", "fp32/b8/s32"] * 2


def test_one_example_is_not_examples():
    right = [1] * 99 + [0]
    name = accuracy(right).case.id
    gone = Finding(rule="flips", status="regressed", observed=1.0, limit=0.0)
    text = table({name: Pair(accuracy(right), (), accuracy(right))}, {name: Verdict(name, (gone,))}, 100)
    assert " -1 example " in text


def test_a_change_of_the_score_is_shown_in_its_own_unit_and_examples_once():
    was, now = accuracy([1] * 100), accuracy([0] * 12 + [1] * 88)
    name = was.case.id
    lost = tuple(f"q{number:05d}" for number in range(12))
    findings = [
        Finding(rule=rule, status="regressed", observed=observed, metric="f1", examples=lost)
        for rule, observed in (("flips", 12.0), ("accuracy", 0.12))
    ]
    text = table({name: Pair(now, (), was)}, {name: Verdict(name, tuple(findings))}, 140)
    assert " 1.0000   0.8800   -0.1200   regressed" in text
    assert text.count("q00003") == 1


def test_the_rest_of_a_long_comparison_is_counted():
    pairs = {one.case.id: Pair(one, (), one) for one in (latency(number, visits=1, rounds=8) for number in range(41))}
    text = table(pairs, judge_suite(pairs, against=True), 100)
    assert "1 case is not shown, none of them worse: see them with --all" in text


# -- order


def test_numbers_in_names_sort_by_value():
    assert sorted(["b1/s128", "b16/s8", "b1/s32", "b2/s8"], key=natural) == ["b1/s32", "b1/s128", "b2/s8", "b16/s8"]


def test_rows_follow_the_walk_whatever_order_they_finished_in():
    cases = {f"t.py::test[{number}]": case(number, backend=backend) for number, backend in enumerate(["ort", "eager", "ort"])}
    walk = list(cases)
    shuffled = dict(random.Random(3).sample(list(cases.items()), 3))
    assert list(shuffled) != walk and in_walk(shuffled, walk) == walk
    # Nobody knows the walk: the original's cases first, then as ids sort.
    assert in_walk(shuffled) == [walk[1], walk[0], walk[2]]
    # Known in part: what is known comes first.
    assert in_walk(shuffled, walk[2:]) == [walk[2], walk[1], walk[0]]


def test_the_stem_ends_before_batch_and_length_and_knows_names_of_nodes():
    nodes = case(0, quantization=Static("MatMul", exclude=["/encoder/layer.0/*"]))
    assert stem([nodes.id]) == "squad/bert/ort@cpu/int8-static[MatMul]-x[/encoder/layer.0/*]/"
    assert stem([case(0).id, case(0, backend="eager").id]) == "squad/bert/"
    assert stem([case(0).id, case(0, dataset="glue/sst2", task=Spec("text-classification")).id]) == ""


def test_the_summary_keeps_programs_together_in_the_order_given():
    found = [latency(number, rounds=60, quantization=quantization) for quantization in (None, LONG) for number in (0, 7)]
    rows = [line for line in summary([(one, judge(one, ())) for one in found], 80).splitlines() if " s32 " in line]
    assert [row.split()[:2] for row in rows[::2]] == [["ort@cpu", "fp32"], ["ort@cpu", "int8-static[MatMul]-x[gather,gelu,"]]
    assert [row.split()[0] for row in rows[1::2]] == ["b8", "layernorm,residual,softmax]"]


# -- reasons


def open_verdict(number, effect, limit=0.05, entry=None):
    note = f"3 visits here, 3 in the baseline; a slowdown under {effect}% cannot be seen with 3 visits"
    finding = Finding(
        rule="slowdown",
        status="inconclusive",
        observed=0.01 * number,
        interval=(-0.1, 0.1 * number),
        limit=limit,
        entry=entry,
        note=note,
    )
    return Verdict(case(number).id, (finding,))


def test_reasons_that_differ_in_numbers_alone_are_one_line_with_their_ranges():
    found = undecided([open_verdict(1, 24), open_verdict(2, 107), open_verdict(3, 65)])
    assert found == [
        "3 cases: inconclusive: slow-down from the baseline, at most +5.0%; 3 visits here, 3 in the baseline; a slowdown under "
        "24 to 107% cannot be seen with 3 visits -> hold it side by side: --perf-confirm=REV, or `perfq ab`"
    ]
    # Alone, a case has its own numbers.
    (line,) = undecided([open_verdict(1, 24)])
    assert line.startswith(f"{case(1).id}: inconclusive: slow-down from the baseline +1.0% [-10.0%, +10.0%], at most +5.0%;")


def test_what_was_measured_is_shown_beside_a_promise_although_it_is_invalid():
    """A limit alone reads as if nothing had been measured."""

    def disturbed(rule, *seen):
        note = "visit 1 of 3 was disturbed: other processes took 40% of the time"
        finding = {"rule": rule, "status": "invalid", "limit": 0.01, "entry": "budget 3", "note": note}
        return [Verdict(case(number).id, (Finding(observed=one, **finding),)) for number, one in enumerate(seen)]

    (text,) = undecided(disturbed("p50_ms", 51.24, 43.61, 120.0))
    assert text.startswith("3 cases: invalid: p50 43.6 to 120 ms, at most 0.01 ms promised by budget 3; visit 1 of 3 was")
    (text,) = undecided(disturbed("p50_ms", 43.61, 43.61))
    assert text.startswith("2 cases: invalid: p50 43.6 ms, at most 0.01 ms promised by budget 3; visit 1 of 3 was")
    (text,) = undecided(disturbed("min_speedup", 1.5, 0.98))
    assert text.startswith("2 cases: invalid: speed-up over the original 0.98 to 1.50x, at least 0.01x promised by budget 3;")
    # Too few rounds for a percentile: no number, and no other's.
    assert [one.partition(" promised")[0] for one in undecided(disturbed("p95_ms", None, None, 7.0, 8.0))] == [
        "2 cases: invalid: p95, at most 0.01 ms", "2 cases: invalid: p95 7 to 8 ms, at most 0.01 ms",
    ]  # fmt: skip


def test_visits_that_are_not_the_same_in_all_cases_are_no_range():
    def spoilt(visit, of):
        note = f"visit {visit} of {of} was disturbed: steal took 19 % of the visit"
        return Verdict(f"{visit} {of}", (Finding(rule="measured", status="invalid", note=note),))

    assert undecided([spoilt(1, 3), spoilt(2, 3)]) == [
        "2 cases: invalid: one visit of 3 was disturbed: steal took 19 % of the visit"
    ]
    assert undecided([spoilt(1, 3), spoilt(2, 6)])[0].startswith("2 cases: invalid: one visit of 3 to 6 was disturbed: ")
    assert undecided([spoilt(2, 3), spoilt(2, 3)])[0].startswith("2 cases: invalid: visit 2 of 3 was disturbed: ")


def test_numbers_of_two_promises_or_versions_are_no_range():
    assert len(undecided([open_verdict(1, 24), open_verdict(2, 24, limit=0.1)])) == 2
    notes = ["torch is '2.13.0' here and '2.12.0' in the baseline", "torch is '2.13.0' here and '2.11.0' in the baseline"]
    verdicts = [
        Verdict(case(number).id, (Finding(rule="slowdown", status="invalid", note=note),)) for number, note in enumerate(notes)
    ]
    assert [line.partition(": ")[2] for line in undecided(verdicts)] == [
        f"invalid: slow-down from the baseline: {one}" for one in notes
    ]


def test_reasons_beyond_eight_are_counted_with_where_to_read_them():
    verdicts = [
        Verdict(case(number).id, (Finding(rule="measured", status="unmeasured", note="reason " + "abcdefghijk"[number]),))
        for number in range(9)
    ]
    found = undecided(verdicts, "see them with --format json")
    assert len(found) == 9 and found[-1] == "and 1 more reason; see them with --format json"


def test_all_that_is_open_of_a_case_is_told_and_one_reason_once():
    few = Finding(rule="p99_ms", status="inconclusive", limit=8.0, entry="budget 1", note="60 rounds, it takes 299")
    beside = Finding(rule="slowdown", status="inconclusive", observed=0.02, limit=0.05, note="against eager, side by side")
    fine = Finding(rule="max_drop", status="pass", limit=0.1)
    lines = undecided([Verdict("case", (few, fine, beside))])
    assert [line.partition(";")[0].partition(":")[2] for line in lines] == [
        " inconclusive: p99, at most 8 ms promised by budget 1", " inconclusive: slow-down from the base +2.0%, at most +5.0%",
    ]  # fmt: skip
    alike = [Finding(rule=rule, status="invalid", note="visit 1 of 3 was disturbed") for rule in ("p50_ms", "p95_ms")]
    assert len(undecided([Verdict("case", (*alike, beside))])) == 1


def test_a_case_on_one_side_only_names_the_option():
    pairs = {case(0).id: Pair(None, (), latency(0))}
    (line,) = undecided(list(judge_suite(pairs, against=True).values()))
    assert line.startswith(f"{case(0).id}: invalid: baseline: ") and "--subset" in line


def test_what_visits_side_by_side_left_open_is_not_sent_to_be_held_side_by_side():
    note = "side by side, 6 visits to screen it"
    (text,) = undecided([Verdict("case", (Finding(rule="slowdown", status="inconclusive", limit=0.05, note=note),))])
    assert text.endswith(f"{note} -> free the machine of other work, or give it more time")


@pytest.mark.parametrize(
    ("anchors", "told"), [((3.0, 3.0), CORRECTED), ((3.0, None), MIXED), ((None, None), BARE)], ids=["all", "some", "none"]
)
def test_a_change_over_the_reference_layer_is_told_where_there_is_one(anchors, told):
    """What pytest-benchmark wrote has none, and its change is the quotient of what stands beside it."""
    pairs = {}
    for number, anchor_ms in enumerate(anchors):
        was, now = (latency(number, ms=ms, anchor_ms=anchor_ms, noise=0.0) for ms in (5.0, 6.0))
        pairs[now.case.id] = Pair(now, (), was)
    text = " ".join(table(pairs, judge_suite(pairs), 100).split())
    assert f" {told} 2 cases" in text and text.count("+20.0%") >= 2
