"""Windows and spans of question answering, against plain searches over all spans."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_tasks import case_of, predict_of

from pytest_perfq.errors import DataError, UsageError
from pytest_perfq.tasks import _encode, _spans

# Long enough for several windows of the lengths below.
CONTEXT = "Ada founded Torwick Bank in 1984 . " * 12
ROW = {"question": "Who founded Torwick Bank ?", "context": CONTEXT, "answers": ("Torwick Bank",), "starts": (222,)}


@pytest.fixture(scope="module")
def solver(loaded):
    return loaded(case_of("question-answering"))


def windows(model, row=ROW, max_length=48, stride=16):
    return _spans.windows(model.tokenizer, [row], max_length, stride, model.inputs)


def test_windows_cover_the_text_and_overlap_by_the_stride(solver):
    _, model = solver
    found = windows(model)
    assert len(found) > 2
    offsets = [window.offsets for window in found]
    for one, two in itertools.pairwise(offsets):
        assert len(set(one) & set(two)) == 16
    words = model.tokenizer(CONTEXT, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    assert sorted({offset for window in offsets for offset in window}) == sorted(set(words))
    assert all(len(window.row["input_ids"]) <= 48 for window in found)


def test_a_target_holds_the_answer_and_windows_without_it_point_at_nothing(solver):
    _, model = solver
    assert CONTEXT[222:].startswith("Torwick Bank")
    held = 0
    for window in windows(model):
        start, end = _spans.target(window, ROW)
        if (start, end) == (0, 0):
            assert not (window.offsets[0][0] <= 222 and window.offsets[-1][1] >= 234)
            continue
        held += 1
        left, right = window.offsets[start - window.first][0], window.offsets[end - window.first][1]
        assert CONTEXT[left:right] == "Torwick Bank"
    assert held >= 1


def every_span(parts, max_answer_length):
    """(score, characters) of every span there is: the definition, without n_best."""
    best = {}
    for window, logits in parts:
        for start in range(len(window.offsets)):
            for end in range(start, min(start + max_answer_length, len(window.offsets))):
                score = float(logits["start_logits"][window.first + start]) + float(logits["end_logits"][window.first + end])
                span = window.offsets[start][0], window.offsets[end][1]
                best[span] = max(best.get(span, -1e30), score)
    return best


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([1, 3, 30]))
def test_the_best_span_of_all_windows(solver, seed, max_answer_length):
    _, model = solver
    dice = np.random.default_rng(seed)
    parts = []
    for window in windows(model):
        size = len(window.row["input_ids"])
        parts.append((window, {name: dice.normal(0, 3, size).astype(np.float32) for name in ("start_logits", "end_logits")}))
    spans = every_span(parts, max_answer_length)
    order = sorted(spans.items(), key=lambda item: -item[1])
    text, margin = _spans.answer(CONTEXT, parts, 1000, max_answer_length, None)
    assert text == CONTEXT[slice(*order[0][0])]
    assert margin == pytest.approx(order[0][1] - order[1][1], rel=2e-3, abs=1e-6)  # through float16

    null = min(float(logits["start_logits"][0] + logits["end_logits"][0]) for _, logits in parts)
    difference = null - order[0][1]
    assert _spans.answer(CONTEXT, parts, 1000, max_answer_length, difference - 0.01)[0] == ""
    assert _spans.answer(CONTEXT, parts, 1000, max_answer_length, difference + 0.01)[0] == text


def test_n_best_limits_what_is_looked_at(solver):
    _, model = solver
    window = windows(model, {**ROW, "context": "Ada founded Torwick Bank in 1984 ."}, 64)[0]
    size = len(window.row["input_ids"])
    starts, ends = np.zeros(size, np.float32), np.zeros(size, np.float32)
    starts[window.first + 3], ends[window.first] = 5, 5  # the best start lies behind the best end
    logits = {"start_logits": starts, "end_logits": ends}
    assert _spans.answer(CONTEXT, [(window, logits)], 1, 30, None) == ("", 0.0)
    text, margin = _spans.answer(CONTEXT, [(window, logits)], 20, 30, None)
    assert text != "" and margin == 0.0  # many spans with 5.0
    ends[window.first + 4] = 6
    assert _spans.answer(CONTEXT, [(window, logits)], 1, 30, None)[1] == _encode.LARGEST_MARGIN


def test_several_windows_end_in_one_answer_a_question(solver, resources):
    task, model = solver
    case = case_of("question-answering[doc_stride=8,max_length=40]", samples=25)
    examples = task.examples(case, "validation", resources)
    assert len(task.token_lengths(case, model, examples)) > 25
    outcomes = task.evaluate(case, model, examples, predict_of(model), 8)
    assert len(outcomes.predictions) == 25
    for row, text in zip(examples.rows, outcomes.predictions, strict=False):
        assert text in row["context"]


def test_unanswerable_questions_need_version_2(solver, resources):
    task, model = solver
    case = case_of("question-answering", dataset="synthetic:squad_v2", samples=30)
    examples = task.examples(case, "validation", resources)
    bare = sum(not row["answers"] for row in examples.rows[:30])
    with pytest.raises(
        DataError, match=rf"{bare} of 30 questions of synthetic:squad_v2 have no answer; write question-answering\[version_2"
    ):
        task.evaluate(case, model, examples, predict_of(model), 8)


@pytest.mark.parametrize(("threshold", "share"), [(-1e4, 1.0), (1e4, 0.0)])
def test_the_threshold_decides_how_often_there_is_no_answer(solver, resources, threshold, share):
    task, model = solver
    case = case_of(
        f"question-answering[version_2,null_score_diff_threshold={threshold}]", dataset="synthetic:squad_v2", samples=30
    )
    examples = task.examples(case, "validation", resources)
    outcomes = task.evaluate(case, model, examples, predict_of(model), 8)
    assert sum(text == "" for text in outcomes.predictions) == share * 30
    if share == 1.0:
        exact = task.scores(case, examples, outcomes)[1]
        assert exact.value == sum(not row["answers"] for row in examples.rows[:30]) / 30


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "max_length=513",
            r"max_length is 513, but model 'synthetic:bert' has 512 positions; write question-answering\[max_len",
        ),
        ("max_length=20,doc_stride=14", r"a question of \d+ tokens and a doc_stride of 14 leave no room in a max_length of 20"),
        ("n_best=0", "option n_best of task question-answering is 0; give at least 1"),
        ("doc_stride=-1", "option doc_stride of task question-answering is -1; give at least 0"),
        ("max_length=long", "option max_length of task question-answering is 'long'; it takes a whole number, such as 384"),
    ],
)
def test_options_that_cannot_be(solver, resources, option, message):
    task, model = solver
    case = case_of(f"question-answering[{option}]", samples=4)
    with pytest.raises(UsageError, match=message):
        task.evaluate(case, model, task.examples(case, "validation", resources), predict_of(model), 8)
