"""What moved between two profiles: the parts add up, and are told by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_perfq.core.operators import ROWS, TOLD, explain, sentence, table

US = 1_000
NAMES = ("MatMul", "Softmax", "Add", "Gelu", "FusedAttention", "MemcpyToHost", "aten::copy_", "Cast")
operator = st.tuples(st.integers(1, 24), st.integers(0, 10**8))
profile = st.dictionaries(st.sampled_from(NAMES), operator)


@given(profile, profile, st.integers(-(10**9), 10**9))
def test_the_parts_add_up(base, candidate, difference):
    found = explain(base, candidate, difference)
    total = sum(ns for _, ns in candidate.values()) - sum(ns for _, ns in base.values())
    assert sum(one.ns for one in found.clauses) + found.others_ns == pytest.approx(total)
    assert sum(one.moved_ns for one in found.operators) == pytest.approx(total)
    assert total + found.outside_ns == pytest.approx(difference)
    assert len(found.clauses) <= TOLD
    assert [abs(one.ns) for one in found.clauses] == sorted((abs(one.ns) for one in found.clauses), reverse=True)
    assert {one.name for one in found.operators} == {*base, *candidate}


@given(profile, st.integers(-(10**9), 10**9))
def test_two_equal_profiles_explain_nothing(one, difference):
    found = explain(one, one, difference)
    assert (found.clauses, found.others_ns, found.outside_ns) == ((), 0, difference)
    assert table(found) == []


@given(profile, profile)
def test_the_other_way_round_everything_has_the_other_sign(base, candidate):
    there, back = explain(base, candidate, 0), explain(candidate, base, 0)
    assert {one.name: one.moved_ns for one in there.operators} == {one.name: -one.moved_ns for one in back.operators}


@pytest.mark.parametrize(
    "base, candidate, difference, told",
    [
        (
            {"FusedAttention": (1, 500 * US), "Gelu": (1, 80 * US)},
            {"MatMul": (3, 800 * US), "Memcpy": (2, 120 * US), "Gelu": (1, 80 * US)},
            420 * US,
            "+0.42 ms: FusedAttention became 3 MatMul (+0.3 ms), 2 new Memcpy (+0.12 ms)",
        ),
        (
            {"Attention": (4, 400 * US), "MatMul": (2, 100 * US)},
            {"Attention": (3, 300 * US), "MatMul": (5, 300 * US), "Softmax": (1, 50 * US)},
            150 * US,
            "+0.15 ms: 1 of 4 Attention became 3 MatMul and 1 Softmax (+0.15 ms)",
        ),
        ({"MatMul": (12, 1000 * US)}, {"MatMul": (12, 1300 * US)}, 300 * US, "+0.3 ms: 12 MatMul (+0.3 ms)"),
        ({"MatMul": (1, 1000 * US)}, {"MatMul": (1, 1300 * US)}, 300 * US, "+0.3 ms: MatMul (+0.3 ms)"),
        ({"Add": (1, 10 * US)}, {"Add": (3, 30 * US)}, 20 * US, "+0.02 ms: 2 more Add (+0.02 ms)"),
        ({"Add": (2, 30 * US)}, {}, -30 * US, "-0.03 ms: 2 Add are gone (-0.03 ms)"),
        ({"Cast": (1, 30 * US)}, {"Memcpy": (1, 30 * US)}, 0, "+0 ms: Cast is gone (-0.03 ms), 1 new Memcpy (+0.03 ms)"),
        # A sleep in the model's Python is in none of its operators.
        (
            {"MatMul": (1, 100 * US)},
            {"MatMul": (1, 100 * US)},
            5000 * US,
            "+5 ms: in no operator +5 ms",
        ),
        (
            {"MatMul": (1, 100 * US)},
            {"MatMul": (1, 300 * US)},
            100 * US,
            "+0.1 ms: MatMul (+0.2 ms), the profiler's own and noise -0.1 ms",
        ),
        (
            {"MatMul": (1, 300 * US)},
            {"MatMul": (1, 100 * US)},
            100 * US,
            "+0.1 ms: MatMul (-0.2 ms), the profiler's own and noise +0.3 ms",
        ),
        ({}, {}, 0, "+0 ms: no operator moved"),
        ({"A": (1, 100 * US)}, {"A": (1, 100 * US)}, 2_000_000 * US, "+2000 ms: in no operator +2000 ms"),
    ],
)
def test_it_is_told_in_a_sentence(base, candidate, difference, told):
    assert sentence(explain(base, candidate, difference)) == told


def test_many_names_are_counted():
    base = {f"Fused{number}": (1, 10 * US) for number in range(7)}
    candidate = {f"Plain{number}": (2, 30 * US) for number in range(5)}
    told = sentence(explain(base, candidate, 80 * US))
    assert told == (
        "+0.08 ms: Fused0, Fused1, Fused2, Fused3 and 3 others became 2 Plain0, 2 Plain1, 2 Plain2, 2 Plain3 and 2 Plain4 "
        "(+0.08 ms)"
    )


def test_what_is_not_among_the_largest_is_one_number():
    base = dict.fromkeys("ABCDEF", (1, 100 * US))
    candidate = {name: (1, (100 + moved) * US) for name, moved in zip("ABCDEF", (100, 50, 30, 20, 10, 1), strict=True)}
    told = sentence(explain(base, candidate, 211 * US))
    assert told == "+0.21 ms: A (+0.1 ms), B (+0.05 ms), C (+0.03 ms), other operators +0.031 ms"


def test_the_table_has_both_sides_of_the_operators_that_moved_most():
    base = {"FusedAttention": (1, 500 * US), **{f"Same{number}": (1, US) for number in range(20)}}
    candidate = {"MatMul": (3, 920 * US), **{f"Same{number}": (1, 2 * US) for number in range(20)}}
    lines = table(explain(base, candidate, 420 * US))
    assert len(lines) == 1 + ROWS
    assert lines[:3] == [
        "operator        calls  now     ms    now   moved",
        "MatMul              0    3      0   0.92   +0.92",
        "FusedAttention      1    0    0.5      0    -0.5",
    ]
