"""Per-example statistics, and which formula over their sums each built-in metric is.

Every function here takes what was predicted and what is true for one example and knows neither models nor data sets. All
values are fractions of 1, never per cent. Sources: the SQuAD evaluation scripts v1.1 and v2.0; the CoNLL chunk rule as
seqeval 1.2 applies it by default; Matthews 1975.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from pytest_perfq import registry
from pytest_perfq.core import scores
from pytest_perfq.core.measurement import Outcomes, Score
from pytest_perfq.errors import Unavailable, UnknownName, UsageError

Entity = tuple[str, int, int]
References = Callable[[str], tuple[list[Any], list[Any]]]

# task -> metric -> formula over the columns that the task's evaluation leaves.
FORMULAS: dict[str, dict[str, str]] = {
    "question-answering": {"f1": "mean:f1", "exact_match": "mean:right"},
    "token-classification": {
        "f1": "f1:entities_right/entities_predicted/entities_labelled",
        "precision": "ratio:entities_right/entities_predicted",
        "recall": "ratio:entities_right/entities_labelled",
        "accuracy": "ratio:tokens_right/tokens",
    },
    "text-classification": {
        "accuracy": "mean:right",
        "f1": "f1:tp/predicted/labelled",
        "precision": "ratio:tp/predicted",
        "recall": "ratio:tp/labelled",
        "matthews_correlation": "matthews:tp/tn/fp/fn",
    },
}
_ARTICLES = re.compile(r"\b(a|an|the)\b", re.UNICODE)
_PUNCTUATION = frozenset(string.punctuation)


# -- questions and answers


def normalize(answer: str) -> str:
    """Lower case without punctuation, articles and extra spaces, as the SQuAD scripts compare answers."""
    bare = "".join(char for char in answer.lower() if char not in _PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def exact_match(predicted: str, golds: Sequence[str]) -> float:
    """1.0 when the prediction equals a gold answer; no golds means that the right answer is none: an empty prediction."""
    return max(float(normalize(predicted) == normalize(gold)) for gold in answers(golds))


def answer_f1(predicted: str, golds: Sequence[str]) -> float:
    """Overlap of words with the best gold answer, 0 to 1; where either side is no answer, 1.0 only if both are."""
    return max(_word_f1(normalize(predicted).split(), normalize(gold).split()) for gold in answers(golds))


def answers(golds: Sequence[str]) -> list[str]:
    """The golds that count: those with a word left after normalisation, or no answer where there are none (SQuAD v2.0)."""
    return [gold for gold in golds if normalize(gold)] or [""]


def _word_f1(predicted: list[str], gold: list[str]) -> float:
    if not predicted or not gold:
        return float(predicted == gold)
    shared = sum((Counter(predicted) & Counter(gold)).values())
    if shared == 0:
        return 0.0
    precision, recall = shared / len(predicted), shared / len(gold)
    return 2 * precision * recall / (precision + recall)


# -- tagged words


def entities(tags: Sequence[str]) -> set[Entity]:
    """Chunks (type, first word, last word) of one sentence of tags such as B-PER, I-PER, O.

    The lenient CoNLL rule, seqeval's default: I- begins a chunk where no chunk of its type is open.
    """
    found, open_type, first = set(), "", 0
    for at, tag in enumerate([*tags, "O"]):
        prefix, _, kind = tag.partition("-")
        kind = kind or "_"
        if open_type and (prefix in "OB" or kind != open_type):
            found.add((open_type, first, at - 1))
            open_type = ""
        if prefix != "O" and not open_type:
            open_type, first = kind, at
    return found


def tagging(predicted: Sequence[str], labelled: Sequence[str]) -> dict[str, float]:
    """Columns of one sentence: right (every word's tag), entities_right / _predicted / _labelled, tokens_right, tokens."""
    mine, true = entities(predicted), entities(labelled)
    agree = sum(one == other for one, other in zip(predicted, labelled, strict=True))
    return {
        "right": float(agree == len(labelled)),
        "entities_right": float(len(mine & true)), "entities_predicted": float(len(mine)),
        "entities_labelled": float(len(true)), "tokens_right": float(agree), "tokens": float(len(labelled)),
    }  # fmt: skip


# -- classes


def classification(predicted: int, label: int, classes: int) -> dict[str, float]:
    """Columns of one example: right; for two classes also tp, tn, fp, fn, predicted, labelled, with class 1 the positive."""
    columns = {"right": float(predicted == label)}
    if classes == 2:
        columns |= {
            "tp": float(predicted == 1 and label == 1), "tn": float(predicted == 0 and label == 0),
            "fp": float(predicted == 1 and label == 0), "fn": float(predicted == 0 and label == 1),
            "predicted": float(predicted == 1), "labelled": float(label == 1),
        }  # fmt: skip
    return columns


# -- scores


def score(task: str, metric: str, outcomes: Outcomes, references: References, *, primary: bool) -> Score:
    """One metric of the outcomes. references: gives (predictions, references) in `evaluate`'s form for a metric that is not
    built in. Raises UsageError, UnknownName and Unavailable."""
    formula = FORMULAS.get(task, {}).get(metric)
    n = len(outcomes.ids)
    if formula is None:
        return Score(metric, _foreign(task, metric, references), n, None, primary)
    absent = [name for name in scores.columns(formula) if name not in outcomes.columns]
    if absent:
        raise UsageError(f"{metric} of {task} is for two classes, and the data set has another number; ask for accuracy")
    return Score(metric, scores.score(formula, outcomes.columns), n, formula, primary)


def _foreign(task: str, metric: str, references: References) -> float:
    """A metric of another package (entry point `perfq.metrics`: a function of predictions and references), or `evaluate`'s."""
    if metric in registry.names("metric"):
        return float(registry.load("metric", metric)(*references(metric)))
    from pytest_perfq.errors import near_names

    known = FORMULAS.get(task, {})
    if near_names(metric, known):
        raise UnknownName(f"metric of {task}", metric, known, "any other name is looked up by evaluate")
    predictions, truths = references(metric)
    return evaluated(metric, predictions, truths)


def evaluated(metric: str, predictions: list[Any], truths: list[Any]) -> float:
    """`evaluate`'s value of NAME, or of one key of its answer by NAME:KEY. Raises Unavailable where it must be fetched and
    cannot be, UsageError where the answer has no one number."""
    raise NotImplementedError
