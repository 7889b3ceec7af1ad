"""Named entities: one tag a word, in the columns of CoNLL-2003 (tokens, ner_tags).

A word's tag is what the model says of its first sub-token. Words without one, such as those beyond the model's longest
sequence, are predicted O. Tags of model and data set are matched by name. Scores are seqeval's (see metrics.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pytest_perfq import metrics
from pytest_perfq.contracts import Examples, Model
from pytest_perfq.core.case import Case
from pytest_perfq.core.measurement import Outcomes
from pytest_perfq.errors import DataError, UsageError
from pytest_perfq.tasks import _encode
from pytest_perfq.tasks._head import HeadTask
from pytest_perfq.tasks._table import Rows, Table, need

# Of data sets whose copies carry integers without names.
CONLL_TAGS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC")
_IGNORED_LABEL = -100


@dataclass(frozen=True, slots=True)
class Sentence:
    """firsts: word -> position of its first sub-token, of the words that fit and that the tokenizer sees at all (it drops
    some characters, such as zero-width spaces)."""

    row: Mapping[str, list[int]]
    firsts: Mapping[int, int]


class TokenClassification(HeadTask):
    """See the module."""

    name: ClassVar[str] = "token-classification"
    metrics: ClassVar[tuple[str, ...]] = ("f1", "precision", "recall", "accuracy")
    outputs: ClassVar[tuple[str, ...]] = ("logits",)
    synthetic: ClassVar[str] = "conll2003"
    per_token: ClassVar[bool] = True

    def read(self, table: Table) -> tuple[Rows, tuple[str, ...]]:
        """Rows with id, tokens and ner_tags as names; the names that occur."""
        need(table, ("tokens", "ner_tags"), self.name)
        names = table.classes.get("ner_tags") or (CONLL_TAGS if "conll2003" in table.name else ())
        rows = []
        for at, row in enumerate(table.rows):
            tags = tuple(_tag(tag, names, table.name, at) for tag in row["ner_tags"])
            if len(tags) != len(row["tokens"]):
                raise DataError(
                    f"example {at} of {table.name!r} has {len(row['tokens'])} tokens and {len(tags)} ner_tags; "
                    "give one tag a token"
                )
            rows.append({"id": str(row.get("id", at)), "tokens": tuple(row["tokens"]), "ner_tags": tags})
        return rows, tuple(names) or tuple(sorted({tag for row in rows for tag in row["ner_tags"]}))

    def _tokenize(self, tokenizer: Any, rows: Rows, max_length: int) -> Any:
        return tokenizer(
            [list(row["tokens"]) for row in rows], is_split_into_words=True, truncation=True, max_length=max_length,
            return_attention_mask=True, return_token_type_ids=True,
        )  # fmt: skip

    def encode(self, case: Case, model: Model, rows: Rows) -> list[Sentence]:
        """One feature a sentence."""
        self.options(case)
        encoded = self._tokenize(model.tokenizer, rows, model.max_positions)
        return [
            Sentence({name: encoded[name][at] for name in model.inputs}, _firsts(encoded.word_ids(at)))
            for at in range(len(rows))
        ]

    def lessons(self, case: Case, tokenizer: Any, examples: Examples, max_length: int) -> list[dict[str, list[int] | int]]:
        """The first sub-token of a word carries its label, the others none."""
        encoded = self._tokenize(tokenizer, examples.rows, max_length)
        index = {label: at for at, label in enumerate(examples.labels)}
        lessons: list[dict[str, list[int] | int]] = []
        for at, row in enumerate(examples.rows):
            lesson: dict[str, list[int] | int] = {name: values[at] for name, values in encoded.items()}
            labels = [_IGNORED_LABEL] * len(encoded["input_ids"][at])
            for word, position in _firsts(encoded.word_ids(at)).items():
                labels[position] = index[row["ner_tags"][word]]
            lessons.append({**lesson, "labels": labels})
        return lessons

    def shape(self, model: Model, batch: int, seq: int) -> tuple[int, ...]:
        """[batch, seq, labels]."""
        return batch, seq, model.config.num_labels

    def fits(self, model: Model, examples: Examples) -> None:
        """Every tag of the data set must be one of the model's labels."""
        known = set(model.config.id2label.values())
        missing = [label for label in examples.labels if label not in known]
        if missing:
            raise UsageError(
                f"model {model.source!r} labels {', '.join(sorted(map(str, known)))}, but {examples.name} has "
                f"{', '.join(missing)}; choose a model trained on these labels"
            )

    def outcomes(
        self, case: Case, model: Model, examples: Examples, rows: Rows, features: list[Any], logits: list[Any]
    ) -> Outcomes:
        """Predicted tags as text, with spaces; the margin of a sentence is that of its least certain word."""
        labels = model.config.id2label
        predictions, margins, columns = [], [], []
        for row, feature, found in zip(rows, features, logits, strict=True):
            values = found["logits"][list(feature.firsts.values())]
            tags = ["O"] * len(row["tokens"])
            for word, best in zip(feature.firsts, np.argmax(values, axis=-1).tolist(), strict=True):
                tags[word] = labels[best]
            gap = float(_encode.gaps(values).min()) if len(values) else _encode.LARGEST_MARGIN
            predictions.append(" ".join(tags))
            margins.append(_encode.margin(gap, 0.0))
            columns.append(metrics.tagging(tags, row["ner_tags"]))
        return _encode.collect([row["id"] for row in rows], predictions, margins, columns)

    def references(self, examples: Examples, rows: Rows, outcomes: Outcomes, metric: str) -> tuple[list[Any], list[Any]]:
        """Lists of tag names, a sentence each."""
        return [text.split() for text in outcomes.predictions], [list(row["ner_tags"]) for row in rows]


def _tag(tag: int | str, names: Sequence[str], dataset: str, at: int) -> str:
    if isinstance(tag, str):
        return tag
    if not 0 <= tag < len(names):
        raise DataError(
            f"example {at} of {dataset!r} has ner_tag {tag}, but {len(names)} tags have names; "
            "keep the data set's features, or store the tags as names"
        )
    return names[tag]


def _firsts(words: Sequence[int | None]) -> dict[int, int]:
    """Word -> position of its first sub-token, of the words that have one."""
    seen: dict[int, int] = {}
    for position, word in enumerate(words):
        if word is not None:
            seen.setdefault(word, position)
    return seen


TASK = TokenClassification()
