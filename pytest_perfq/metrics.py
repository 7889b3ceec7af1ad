"""Per-example statistics, and which formula over their sums each built-in metric is.

Every function here takes what was predicted and what is true for one example and knows neither models nor data sets. All
values are fractions of 1, never per cent. Sources: the SQuAD evaluation scripts v1.1 and v2.0; the CoNLL chunk rule as
seqeval 1.2 applies it by default; Matthews 1975.
"""

from __future__ import annotations

import difflib
import re
import string
from collections import Counter
from collections.abc import Sequence

from pytest_perfq.core import scores
from pytest_perfq.core.measurement import Outcomes, Score
from pytest_perfq.errors import UnknownName, UsageError

Entity = tuple[str, int, int]

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


def answering(predicted: str, golds: Sequence[str], version_2: bool) -> dict[str, float]:
    """Columns of one question: right (equals a gold answer) and f1 (overlap of words with the best gold, 0 to 1).

    version_2: by the script of v2.0, where no gold with a word in it means that the right answer is none, an empty
    prediction, worth 1.0; the script of v1.1 takes every gold as it stands (at least one) and gives an empty text no F1.
    """
    if version_2:
        golds = [gold for gold in golds if normalize(gold)] or [""]
    mine = normalize(predicted)
    true = [normalize(gold) for gold in golds]
    return {
        "right": float(mine in true),
        "f1": max(_word_f1(mine.split(), gold.split(), version_2) for gold in true),
    }


def _word_f1(predicted: list[str], gold: list[str], version_2: bool) -> float:
    if version_2 and not (predicted and gold):
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


def formula(task: str, metric: str) -> str | None:
    """The formula of a built-in metric; None for a name that is not built in. Raises UnknownName for one that looks like a
    misspelt built-in."""
    known = FORMULAS.get(task, {})
    if metric in known:
        return known[metric]
    if difflib.get_close_matches(metric, known, n=1, cutoff=0.7):
        raise UnknownName(f"metric of {task}", metric, known, "any other name goes to evaluate")
    return None


def score(metric: str, formula: str, outcomes: Outcomes, *, primary: bool) -> Score:
    """A built-in metric of the outcomes. Raises UsageError where the outcomes lack what the formula reads."""
    if any(name not in outcomes.columns for name in scores.columns(formula)):
        raise UsageError(f"{metric} is for two classes and the data set has another number; ask for accuracy")
    return Score(metric, scores.score(formula, outcomes.columns), len(outcomes.ids), formula, primary)
