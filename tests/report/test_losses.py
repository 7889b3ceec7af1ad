"""What a program loses stands beside what it gains: the drop of its own accuracy case, and the cosine that its backend tells."""

import random
import re
from dataclasses import replace

import pytest
from making import accuracy, latency

from pytest_perfq.cli.show import report
from pytest_perfq.core.measurement import Measurement
from pytest_perfq.core.quantization import Dynamic, Static
from pytest_perfq.core.spec import Spec
from pytest_perfq.core.verdict import judge
from pytest_perfq.report.markdown import model_card
from pytest_perfq.report.terminal import summary
from pytest_perfq.store import Store

BITS = "native[bits=w8a8]"
WHEN = "2026-11-24 10:00"
LONG = Static("MatMul", exclude=["layernorm", "gelu", "residual", "gather", "softmax"])


def timed(number, cosine=None, **fields):
    """Of 200 examples' case; 25 rounds know a median and nothing finer."""
    found = latency(number, rounds=9, samples=200, **fields)
    return found if cosine is None else replace(found, facts={**found.facts, "eager_cosine": cosine})


def scored(wrong, *, samples=200, **fields):
    """Of so many examples, all right in the original."""
    return accuracy([0] * wrong + [1] * (samples - wrong), [1] * samples, samples=samples, **fields)


def swept(padding="full"):
    """Three programs of two shapes each; onnxruntime tells no cosine, and the last was not scored."""
    bits = {"backend": BITS, "quantization": Dynamic("MatMul"), "padding": padding}
    return [
        scored(3),
        *(timed(number, padding=padding) for number in (0, 7)),
        scored(1, backend="native"),
        *(timed(number, 0.999734, backend="native", padding=padding) for number in (0, 7)),
        *(timed(number, 0.99998, **bits) for number in (0, 7)),
    ]


def records(found):
    return [(one, judge(one, ())) for one in found]


def latencies(text):
    """The lines of the first table of times, its titles first."""
    return text.partition("latency of")[2].partition("\n\n")[0].splitlines()[1:]


def cells(text, *columns):
    """What stands in these columns of numbers, row by row: each cell ends under the last letter of its title."""
    titles, _, *rows = latencies(text)
    ends = {match.group(): match.end() for match in re.finditer(r"\S+(?: \S+)*", titles)}
    return [tuple(line[: ends[name]].split("   ")[-1].strip() for name in columns) for line in rows]


def test_a_programs_losses_stand_beside_its_first_speedup():
    text = summary(records(swept()), 140)
    assert cells(text, "drop", "cosine") == [
        ("+0.0150", ""), ("", ""), ("+0.0050", "0.99973"), ("", ""), ("", "0.99998"), ("", ""),
    ]  # fmt: skip
    # The same text as in the table of accuracy, which has no more than before.
    scores = text.partition("latency of")[0]
    assert " +0.0150 " in scores and " +0.0050 " in scores and "cosine" not in scores
    assert re.split(r" {2,}", latencies(text)[0])[3:] == ["speed-up", "drop", "cosine", "seq/s", "size", "status"]


def test_a_drop_of_another_program_task_model_or_of_other_examples_is_not_its_drop():
    mine = timed(0)
    others = [
        scored(10, backend="native"),
        scored(15, backend="ort[level=1]"),
        scored(20, quantization=LONG),
        scored(30, model="synthetic:electra", model_name="electra"),
        scored(40, task=Spec("text-classification")),
        scored(50, precision="bf16"),
        scored(60, samples=100),
    ]
    assert "drop" not in latencies(summary(records([*others, mine]), 140))[0]
    assert cells(summary(records([*others, mine, scored(2)]), 140), "drop") == [("+0.0100",)]


@pytest.mark.parametrize("told", [True, "0.99", float("nan"), float("inf")])
def test_a_fact_that_is_no_number_is_no_cosine(told):
    text = summary(records([timed(0, told)]), 140)
    assert "cosine" not in text and "nan" not in text and "inf" not in text


def test_the_original_has_no_drop_and_a_better_program_a_negative_one():
    eager = accuracy([1] * 200, samples=200, backend="eager")
    worse = accuracy([1] * 190 + [0] * 10, [1] * 180 + [0] * 20, samples=200)
    text = summary(records([eager, timed(0, backend="eager", original_ms=None), worse, timed(0)]), 140)
    assert cells(text, "speed-up", "drop")[0] == ("", "") and cells(text, "drop")[1] == ("-0.0500",)


def test_a_run_of_one_kind_has_no_empty_columns():
    found = [one for one in swept() if one.case.kind == "latency"]
    text = summary(records(found), 140)
    assert "drop" not in text and cells(text, "cosine")[2] == ("0.99973",)
    plain = [replace(one, facts={}) for one in found]
    assert "cosine" not in summary(records(plain), 140) and "cosine" not in model_card(records(plain), WHEN)
    text = summary(records([one for one in swept() if one.case.kind == "accuracy"]), 140)
    assert "latency" not in text and "cosine" not in text and " +0.0150 " in text


def test_each_of_several_tasks_has_its_own_drop():
    tasks = [Spec("question-answering"), Spec("token-classification")]
    found = [
        one
        for task, wrong in zip(tasks, (4, 6), strict=True)
        for one in (timed(0, task=task, dataset="synthetic"), scored(wrong, task=task, dataset="synthetic"))
    ]
    first, second = (f"latency of{text}" for text in summary(records(found), 140).split("latency of")[1:])
    assert (cells(first, "drop"), cells(second, "drop")) == ([("+0.0200",)], [("+0.0300",)])


def test_programs_of_one_name_that_lose_differently_are_named_twice():
    """Two sweeps of one program over other examples: an empty cell would say that it loses as the one above."""
    half = replace(timed(7), case=replace(timed(7).case, samples=100))
    rows = latencies(summary(records([scored(2), scored(2, samples=100), timed(0), half, timed(1)]), 140))[2:]
    assert [row.split()[:2] for row in rows] == [["ort@cpu", "int8-dynamic[Add,MatMul]"]] * 3
    assert cells(summary(records([scored(2), timed(0), half]), 140), "drop") == [("+0.0100",), ("",)]


@pytest.mark.parametrize(
    "padding, width, wanted",
    [
        ("uniform", 140, {"speed-up", "drop", "cosine", "seq/s", "size"}),
        ("uniform", 100, {"speed-up", "drop", "cosine"}),
        ("uniform", 80, {"speed-up", "drop"}),
        ("uniform", 60, {"speed-up"}),
        ("full", 80, {"speed-up", "drop", "cosine"}),
    ],
)
def test_losses_leave_after_all_but_the_timing_itself(padding, width, wanted):
    lines = latencies(summary(records(swept(padding)), width))
    assert set(re.split(r" {2,}", lines[0])) == {"program", "shape", "p50 ms", "status"} | wanted
    assert max(map(len, lines)) <= width
    # Where a program is broken at all, its backend stays whole, except where nothing may leave any more.
    assert width == 60 or any(line.startswith(f"{BITS}@cpu ") for line in lines)


def test_the_card_has_them_beside_every_speedup():
    text = model_card(records(swept()), WHEN)
    assert text.count("| speed-up | drop | cosine | status |") == 2
    rows = [
        line
        for line in text.splitlines()
        if line.startswith("| `native@cpu") and line.endswith("x | +0.0050 | 0.99973 | pass |")
    ]
    assert len(rows) == 2
    assert (
        len([line for line in text.splitlines() if line.startswith("| `ort@cpu") and line.endswith("x | +0.0150 |  | pass |")])
        == 2
    )


@pytest.mark.parametrize("how", ["table", "markdown"])
def test_a_stored_run_shows_the_same_whoever_finished_first(tmp_path, monkeypatch, how):
    """Processes that share a run finish in an order of chance, and a run that was resumed has its cases of two attempts."""
    url = str(tmp_path / "results.db")
    found = swept()
    with Store.open(url) as store:
        run = store.begin_run(["pytest", "suites"], {"items": None})
        for one in [scored(100), *random.Random(5).sample(found, len(found))]:
            store.record(run, f"test_a.py::test[{one.case.id}]", one.to_json(), judge(one, ()).to_json())
        store.finish_run(run)
    text = report(run, how, url, 140)
    if how == "markdown":
        assert text.count(" | +0.0050 | 0.99973 |") == 2 and text.count(" | +0.0150 |  |") == 2
    else:
        assert sorted(cells(text, "drop", "cosine")) == sorted(cells(summary(records(found), 140), "drop", "cosine"))


def test_what_crosses_processes_as_json_loses_nothing():
    """As records ride on the reports of pytest-xdist."""
    again = [Measurement.from_json(one.to_json()) for one in swept()]
    assert summary(records(again), 140) == summary(records(swept()), 140)
