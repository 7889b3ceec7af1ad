"""What every task promises, whichever it is."""

import dataclasses
import math

import numpy as np
import pytest
from tiny_tasks import case_of, predict_of

from pytest_perfq import registry
from pytest_perfq.core import scores
from pytest_perfq.errors import DataError, ProgramError, UnknownName, UsageError

TASKS = sorted(registry.names("task"))
SAMPLES = 40


@pytest.fixture(scope="module", params=TASKS)
def evaluated(request, loaded, resources):
    """(task, case, model, examples, outcomes) on a tiny model."""
    case = case_of(request.param, samples=SAMPLES)
    task, model = loaded(case)
    examples = task.examples(case, "validation", resources)
    return task, case, model, examples, task.evaluate(case, model, examples, predict_of(model), 8)


def test_one_id_prediction_margin_and_entry_of_each_column_an_example(evaluated):
    *_, outcomes = evaluated
    assert len(set(outcomes.ids)) == len(outcomes.predictions) == len(outcomes.margins) == SAMPLES
    assert {len(column) for column in outcomes.columns.values()} == {SAMPLES}
    assert set(outcomes.right) <= {0.0, 1.0}
    assert all(margin >= 0 and math.isfinite(margin) and margin == float(np.float16(margin)) for margin in outcomes.margins)


def test_scores_follow_from_their_formulas(evaluated):
    task, case, _, examples, outcomes = evaluated
    found = task.scores(case, examples, outcomes)
    assert [score.primary for score in found] == [True] + [False] * (len(found) - 1)
    assert tuple(score.metric for score in found) == registry.declared("task", task.name, "metrics")(case)
    for score in found:
        assert score.n == SAMPLES
        assert score.value == scores.score(score.formula, outcomes.columns)


def test_every_built_in_metric_can_be_asked_for(evaluated):
    task, case, _, examples, outcomes = evaluated
    found = task.scores(dataclasses.replace(case, metrics=task.metrics), examples, outcomes)
    assert tuple(score.metric for score in found) == task.metrics
    assert found[0].primary


def test_the_same_predictions_again_and_for_any_batch_size(evaluated):
    task, case, model, examples, outcomes = evaluated
    assert task.evaluate(case, model, examples, predict_of(model), 8) == outcomes
    other = task.evaluate(case, model, examples, predict_of(model), 3)
    assert other.ids == outcomes.ids
    assert np.allclose(other.margins, outcomes.margins, atol=5e-3)


def test_batches_hold_every_example_in_order(evaluated):
    task, case, model, examples, _ = evaluated
    some = dataclasses.replace(examples, rows=examples.rows[:10])
    batches = list(task.batches(case, model, some, 4))
    assert [batch.shape[0] for batch in batches] == [4, 4, 2]
    lengths = [length for batch in batches for length in batch.lengths]
    assert tuple(lengths) == task.token_lengths(dataclasses.replace(case, samples=None), model, some)
    for batch in batches:
        assert tuple(batch.arrays) == model.inputs
        assert tuple(batch.arrays["attention_mask"].sum(axis=1)) == batch.lengths


def test_the_first_samples_are_the_ones_taken(evaluated):
    task, case, model, examples, outcomes = evaluated
    fewer = dataclasses.replace(case, samples=7)
    assert task.evaluate(fewer, model, examples, predict_of(model), 8).ids == outcomes.ids[:7]
    assert task.scores(fewer, examples, task.evaluate(fewer, model, examples, predict_of(model), 8))[0].n == 7


def test_more_samples_than_there_are(evaluated):
    task, case, model, examples, _ = evaluated
    with pytest.raises(UsageError, match=r"samples is 1001, but split 'validation' of synthetic:.* has 1000 examples"):
        task.evaluate(dataclasses.replace(case, samples=1001), model, examples, predict_of(model), 8)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_logits_that_are_not_finite(evaluated, poison):
    task, case, model, examples, _ = evaluated
    predict = predict_of(model)

    def poisoned(batch):
        arrays = {name: array.copy() for name, array in predict(batch).items()}
        arrays[model.outputs[0]].reshape(batch.shape[0], -1)[0, 0] = poison
        return arrays

    with pytest.raises(ProgramError, match=r"^1 of \d+ logits are not finite in the batch of rows \d+ to \d+; try another"):
        task.evaluate(case, model, examples, poisoned, 8)


def test_what_stands_in_padded_places_does_not_matter(evaluated):
    task, case, model, examples, outcomes = evaluated
    if not task.per_token:
        pytest.skip(f"{task.name} has no logits for padded places")
    predict = predict_of(model)

    def poisoned(batch):
        arrays = {name: array.copy() for name, array in predict(batch).items()}
        for array in arrays.values():
            array[batch.arrays["attention_mask"] == 0] = np.nan
        return arrays

    assert task.evaluate(case, model, examples, poisoned, 8) == outcomes


def test_logits_of_another_shape(evaluated):
    task, case, model, examples, _ = evaluated

    def short(batch):
        return {name: array[:, :-1] for name, array in predict_of(model)(batch).items()}

    with pytest.raises(ProgramError, match=r"logits has shape \(8, .*\) where \(8, .*\) is promised"):
        task.evaluate(case, model, examples, short, 8)
    with pytest.raises(ProgramError, match=f"the program gave other, but the task reads {model.outputs[0]}"):
        task.evaluate(case, model, examples, lambda batch: {"other": np.zeros(1)}, 8)


def test_an_unknown_option_is_named(evaluated):
    task, _, model, examples, _ = evaluated
    case = case_of(f"{task.name}[doc_strde=3]")
    with pytest.raises(UnknownName, match=f"unknown option of task {task.name} 'doc_strde'"):
        task.evaluate(case, model, examples, predict_of(model), 8)


def test_a_split_that_is_not_there(evaluated, resources):
    task, case, *_ = evaluated
    with pytest.raises(DataError, match=r"has no split 'tset'; it has train, validation"):
        task.examples(case, "tset", resources)


def test_examples_have_a_key_of_their_content(evaluated, resources):
    task, case, _, examples, _ = evaluated
    assert task.examples(case, "validation", resources).key == examples.key
    assert task.examples(case, "train", resources).key != examples.key
