"""Words, sub-tokens and tags."""

import numpy as np
import pytest
from tiny_tasks import case_of

from pytest_perfq.tasks import token_classification

seqeval = pytest.importorskip("seqeval.metrics")


@pytest.fixture(scope="module")
def solver(loaded):
    return loaded(case_of("token-classification"))


def test_the_first_sub_token_of_a_word_decides(solver):
    task, model = solver
    words = ("Strangelywick", "met", "Ada", ".")
    rows = [{"id": "0", "tokens": words, "ner_tags": ("O",) * 4}]
    feature = task.encode(case_of("token-classification"), model, rows)[0]
    tokens = model.tokenizer.convert_ids_to_tokens(feature.row["input_ids"])
    assert len(tokens) > 6
    assert [tokens[position] for position in feature.firsts.values()] == [model.tokenizer.tokenize(word)[0] for word in words]
    assert not any(tokens[position].startswith("##") for position in feature.firsts.values())


def test_scores_are_seqevals_on_real_and_predicted_tags(solver, resources):
    """The model's logits are replaced by noisy ones over the labels, so that entities of every kind are predicted."""
    task, model = solver
    case = case_of("token-classification", samples=200)
    examples = task.examples(case, "validation", resources)
    dice = np.random.default_rng(0)
    outcomes = task.evaluate(
        case, model, examples,
        lambda batch: {"logits": dice.normal(size=(*batch.shape, model.config.num_labels)).astype(np.float32)}, 16,
    )  # fmt: skip
    predicted = [text.split() for text in outcomes.predictions]
    labelled = [list(row["ner_tags"]) for row in examples.rows[:200]]
    found = {score.metric: score.value for score in task.scores(case, examples, outcomes)}
    assert found["f1"] == pytest.approx(seqeval.f1_score(labelled, predicted), abs=1e-9) and found["f1"] > 0
    assert found["precision"] == pytest.approx(seqeval.precision_score(labelled, predicted), abs=1e-9)
    assert found["recall"] == pytest.approx(seqeval.recall_score(labelled, predicted), abs=1e-9)
    assert found["accuracy"] == pytest.approx(seqeval.accuracy_score(labelled, predicted), abs=1e-9)


def test_a_word_that_the_tokenizer_drops_shifts_no_tag(solver):
    task, model = solver
    rows = [{"id": "0", "tokens": ("met", "\u200b", "."), "ner_tags": ("O",) * 3}]
    feature = task.encode(case_of("token-classification"), model, rows)[0]
    tokens = model.tokenizer.convert_ids_to_tokens(feature.row["input_ids"])
    assert {word: tokens[position] for word, position in feature.firsts.items()} == {
        0: model.tokenizer.tokenize("met")[0],
        2: ".",
    }


def test_words_beyond_the_positions_are_predicted_outside(solver):
    task, model = solver
    tokens = (".",) * 600
    rows = ({"id": "0", "tokens": tokens, "ner_tags": ("B-PER",) * 600},)
    from pytest_perfq.contracts import Examples

    examples = Examples("long", "validation", rows, "key", token_classification.CONLL_TAGS)

    def person(batch):
        logits = np.zeros((*batch.shape, 9), np.float32)
        logits[..., 1] = 1
        return {"logits": logits}

    case = case_of("token-classification")
    outcomes = task.evaluate(case, model, examples, person, 1)
    assert outcomes.predictions[0].split() == ["B-PER"] * 510 + ["O"] * 90
    assert outcomes.margins == (1.0,)
    assert {score.metric: score.value for score in task.scores(case, examples, outcomes)}["recall"] == pytest.approx(510 / 600)
