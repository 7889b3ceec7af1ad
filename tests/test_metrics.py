"""Built-in metrics against the implementations that others published: seqeval, scikit-learn, the SQuAD scripts."""

import collections
import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_perfq import metrics
from pytest_perfq.core.measurement import Outcomes
from pytest_perfq.errors import UnknownName, UsageError

seqeval = pytest.importorskip("seqeval.metrics")
sklearn = pytest.importorskip("sklearn.metrics")

TAGS = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC-X", "I-LOC-X", "B", "I"]
WORDS = ["the", "a", "An", "red", "Red.", "fox", "1984", "(1984)", "in", "--", "don't", "", " ", "Ünder", "the,", "THE"]
texts = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join)
sentences = st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from(TAGS)), min_size=1, max_size=12)


def outcomes(columns):
    """Outcomes that carry only columns, from one mapping an example."""
    names = columns[0]
    size = len(columns)
    table = {name: tuple(one[name] for one in columns) for name in names}
    return Outcomes(tuple(map(str, range(size))), ("",) * size, (0.0,) * size, table)


def value(task, metric, columns):
    return metrics.score(metric, metrics.formula(task, metric), outcomes(columns), primary=True).value


# A transcription of the definitions in the two evaluation scripts, kept apart from the package's own wording.


def squad_normalize(text):
    text = "".join(char for char in text.lower() if char not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def squad_f1(gold, predicted, version_2):
    gold_tokens, predicted_tokens = squad_normalize(gold).split(), squad_normalize(predicted).split()
    same = sum((collections.Counter(gold_tokens) & collections.Counter(predicted_tokens)).values())
    if version_2 and (len(gold_tokens) == 0 or len(predicted_tokens) == 0):
        return float(gold_tokens == predicted_tokens)
    if same == 0:
        return 0.0
    precision, recall = 1.0 * same / len(predicted_tokens), 1.0 * same / len(gold_tokens)
    return 2 * precision * recall / (precision + recall)


def squad_exact(gold, predicted):
    return float(squad_normalize(gold) == squad_normalize(predicted))


@given(st.lists(st.tuples(texts, st.lists(texts, min_size=1, max_size=3)), min_size=1, max_size=8))
def test_squad_v1(questions):
    columns = [metrics.answering(predicted, golds, False) for predicted, golds in questions]
    exact = sum(max(squad_exact(gold, predicted) for gold in golds) for predicted, golds in questions) / len(questions)
    f1 = sum(max(squad_f1(gold, predicted, False) for gold in golds) for predicted, golds in questions) / len(questions)
    assert value("question-answering", "exact_match", columns) == pytest.approx(exact, abs=1e-9)
    assert value("question-answering", "f1", columns) == pytest.approx(f1, abs=1e-9)


@given(st.lists(st.tuples(texts, st.lists(texts, max_size=3)), min_size=1, max_size=8))
def test_squad_v2(questions):
    columns = [metrics.answering(predicted, golds, True) for predicted, golds in questions]
    exact = f1 = 0.0
    for predicted, golds in questions:
        golds = [gold for gold in golds if squad_normalize(gold)] or [""]
        exact += max(squad_exact(gold, predicted) for gold in golds)
        f1 += max(squad_f1(gold, predicted, True) for gold in golds)
    assert value("question-answering", "exact_match", columns) == pytest.approx(exact / len(questions), abs=1e-9)
    assert value("question-answering", "f1", columns) == pytest.approx(f1 / len(questions), abs=1e-9)


@given(sentences)
def test_entities_are_seqevals(sentence):
    from seqeval.metrics.sequence_labeling import get_entities

    tags = [tag for tag, _ in sentence]
    assert metrics.entities(tags) == set(get_entities(tags))


@pytest.mark.filterwarnings("ignore")
@settings(deadline=None)
@given(st.lists(sentences, min_size=1, max_size=6))
def test_entity_scores_are_seqevals(pairs):
    predicted = [[one for one, _ in sentence] for sentence in pairs]
    labelled = [[one for _, one in sentence] for sentence in pairs]
    columns = [metrics.tagging(mine, true) for mine, true in zip(predicted, labelled, strict=True)]
    reference = {
        "f1": seqeval.f1_score(labelled, predicted, zero_division=0),
        "precision": seqeval.precision_score(labelled, predicted, zero_division=0),
        "recall": seqeval.recall_score(labelled, predicted, zero_division=0),
        "accuracy": seqeval.accuracy_score(labelled, predicted),
    }
    for metric, expected in reference.items():
        assert value("token-classification", metric, columns) == pytest.approx(float(expected), abs=1e-9), metric


@pytest.mark.filterwarnings("ignore")
@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=40))
def test_class_scores_are_scikit_learns(pairs):
    predicted, labels = [one for one, _ in pairs], [one for _, one in pairs]
    columns = [metrics.classification(mine, true, 2) for mine, true in pairs]
    reference = {
        "accuracy": sklearn.accuracy_score(labels, predicted),
        "f1": sklearn.f1_score(labels, predicted, zero_division=0),
        "precision": sklearn.precision_score(labels, predicted, zero_division=0),
        "recall": sklearn.recall_score(labels, predicted, zero_division=0),
        "matthews_correlation": sklearn.matthews_corrcoef(labels, predicted),
    }
    for metric, expected in reference.items():
        assert value("text-classification", metric, columns) == pytest.approx(float(expected), abs=1e-9), metric


def test_a_misspelt_metric_names_the_one_meant():
    with pytest.raises(UnknownName, match=r"unknown metric of text-classification 'acuracy'; did you mean 'accuracy'\?"):
        metrics.formula("text-classification", "acuracy")


def test_a_foreign_metric_has_no_formula():
    assert metrics.formula("question-answering", "rouge") is None


def test_f1_of_three_classes_is_refused():
    columns = [metrics.classification(2, 1, 3), metrics.classification(0, 0, 3)]
    assert value("text-classification", "accuracy", columns) == 0.5
    with pytest.raises(UsageError, match="f1 is for two classes and the data set has another number; ask for accuracy"):
        value("text-classification", "f1", columns)
