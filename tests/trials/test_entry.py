"""Which cases of two sides belong together, and what a case is held against in another configuration."""

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
from scripted import case

from pytest_perfq.core.budget import Limit
from pytest_perfq.core.quantization import Dynamic
from pytest_perfq.core.spec import Spec
from pytest_perfq.errors import UsageError
from pytest_perfq.trials.entry import Collected, Entry, matched, tell_refused, varied
from pytest_perfq.trials.opened import Refused
from pytest_perfq.trials.sides import Workers

LIMIT, OTHER = (Limit("max_slowdown", value, None, "budget") for value in (0.1, 0.2))


def collected(*cases):
    return [Collected(f"test.py::{one.id}", one, (LIMIT,)) for one in cases]


def test_cases_of_both_sides_are_matched_by_id_and_the_others_named():
    entries, gone, new = matched(collected(case(0), case(1)), collected(case(1), case(2)))
    assert [one.name for one in entries] == [case(1).id] and gone == [case(0).id] and new == [case(2).id]


def test_a_case_of_several_items_is_one_entry_with_all_their_promises():
    twice = [*collected(case(0)), Collected("other.py::x", case(0), (OTHER, LIMIT))]
    entries, _, _ = matched(twice, twice)
    assert [(one.nodeid, one.limits) for one in entries] == [(f"test.py::{case(0).id}", (LIMIT, OTHER))]
    assert entries[0].effect == 0.1  # the stricter one


def test_a_collected_case_survives_json():
    one = collected(case(3))[0]
    assert Collected.from_json(one.to_json()) == one


def test_every_case_is_held_against_itself_with_one_axis_changed():
    eager = Spec("eager")
    entries = varied(collected(case(0), case(1, backend=eager)), "backend=eager")
    assert [(one.base.backend, one.candidate.backend) for one in entries] == [(eager, Spec("plume"))]
    assert entries[0].base.batch_size == entries[0].candidate.batch_size == 1
    quantized = case(0, quantization=Dynamic("MatMul"))
    assert varied(collected(quantized), "quantization=none")[0].base == case(0)
    assert varied(collected(quantized), "original")[0].base == quantized.original()
    assert varied(collected(quantized, case(0)), f"quantization={quantized.quantization.id}")[0].candidate == case(0)


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("batch_size=2", "unknown axis to vary 'batch_size'; did you mean"),
        ("eager", "'eager' names no configuration; give AXIS=VALUE, such as backend=eager, or original"),
        ("precision=fp32", "every case is precision=fp32 already; give another value to hold it against"),
        ("quantization=int9", "unknown quantization among the cases 'int9'"),
    ],
)
def test_a_configuration_that_is_none_is_one_sentence(text, sentence):
    with pytest.raises(UsageError) as told:
        varied(collected(case(0)), text)
    assert str(told.value).startswith(sentence.split("; did")[0]), told.value


class Refusing(Workers):
    """The base's backend takes nothing."""

    def _both(self, do, fields):
        return {"a": ["eager cannot"], "b": []}


def test_a_backend_that_takes_no_quantized_case_is_answered_with_the_original():
    worker = SimpleNamespace(environment=SimpleNamespace(label="here"))
    workers, quantized = Refusing(worker, worker), case(0, quantization=Dynamic("MatMul"))
    for changed, instead in (
        ({"backend": Spec("eager")}, "; hold quantized cases against their fp32 original: --vs original"),
        ({"precision": "fp16"}, ""),
        ({}, ""),
    ):
        base = replace(quantized, **changed)
        with pytest.raises(Refused) as told:
            workers.check(base, quantized)
        assert str(told.value) == f"here refuses {base.id}: eager cannot{instead}"
    with pytest.raises(Refused, match=r": eager cannot$"):
        workers.check(case(0, backend=Spec("eager")), case(0))


def test_the_second_worker_lost_on_a_case_ends_it():
    one = Entry("n", case(0), case(0))
    one.lose("gone", True)
    assert not one.over
    one.lose("gone", True)
    assert one.over and one.broken and one.trouble == "gone (twice)"


def test_what_a_side_refuses_is_told_once_and_nothing_left_is_an_error():
    said = []
    held, *refused = [Entry(f"n{number}", case(number), case(number)) for number in range(4)]
    tell_refused([held], said.append)
    assert said == []
    for one in refused:
        one.refused = f"main refuses {one.base.id}: it is too long"
    first, second, third = (one.base.id for one in refused)
    tell_refused([held, refused[0]], said.append)
    assert said == [f"1 case is not compared: main refuses {first}: it is too long"]
    refused[2].refused = f"main refuses {third}: it is too new"
    said.clear()
    tell_refused([held, *refused], said.append)
    tell_refused(refused, said.append, one_left=False)
    several = f"2 cases are not compared: main refuses {first}, {second}: it is too long"
    assert said == [several, f"1 case is not compared: main refuses {third}: it is too new"] * 2
    alike = f"nothing is left to compare: main refuses {first}, {second}: it is too long ..."
    with pytest.raises(UsageError, match=f"^{re.escape(alike)}$"):
        tell_refused(refused, said.append)


def test_cases_that_are_refused_are_counted_where_nobody_would_read_their_names():
    said = []
    many = [Entry(f"n{number}", case(0, seq_len=number + 1), case(0)) for number in range(23)]
    for one in many:
        one.refused = f"this run refuses {one.base.id}: no"
    tell_refused(many, said.append, one_left=False)
    (told,) = said
    assert told.startswith("23 cases are not compared: this run refuses ") and told.endswith(" and 3 more: no")
    # Two configurations of one case beside the same base name it once, and each is counted.
    said.clear()
    tell_refused([many[0], many[0]], said.append, one_left=False)
    assert said == [f"2 cases are not compared: this run refuses {many[0].base.id}: no"]
    # A test of pytest-benchmark has a sentence of its own, which names it already.
    said.clear()
    for number, one in enumerate(many):
        one.refused = f"t.py::test_{number} gives its benchmark fixture nothing to time"
    tell_refused(many, said.append, one_left=False)
    assert said[0] == "1 case is not compared: t.py::test_0 gives its benchmark fixture nothing to time"
    assert len(said) == 9 and said[-1] == "15 cases are not compared, for 15 more reasons"
