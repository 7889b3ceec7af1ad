"""One label for a sentence or a pair, in the columns of SST-2, MRPC, CoLA and their like.

Which columns hold text is found by name. Labels of model and data set are matched by name where both have names, and by
index where the model has none of its own (LABEL_0 ...).
"""

from __future__ import annotations

from collections.abc import Mapping
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

TEXTS = (("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"), ("question", "sentence"),
         ("sentence",), ("text",))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Text:
    """One encoded example."""

    row: Mapping[str, list[int]]


class TextClassification(HeadTask):
    """See the module."""

    name: ClassVar[str] = "text-classification"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "f1", "matthews_correlation", "precision", "recall")
    outputs: ClassVar[tuple[str, ...]] = ("logits",)
    synthetic: ClassVar[str] = "sst2"
    per_token: ClassVar[bool] = False

    def read(self, table: Table) -> tuple[Rows, tuple[str, ...]]:
        """Rows with id, texts (one or two) and label (an index); class names."""
        texts = next((names for names in TEXTS if set(names) <= set(table.columns)), None)
        if texts is None:
            shapes = "; ".join(" + ".join(names) for names in TEXTS)
            raise DataError(
                f"data set {table.name!r} has columns {', '.join(table.columns)}; task {self.name} needs label and "
                f"one of: {shapes}; choose another data set or rename its columns"
            )
        need(table, (*texts, "label"), self.name)
        _check_labels(table)
        names = table.classes.get("label") or _names(table)
        rows = []
        for at, row in enumerate(table.rows):
            label = names.index(row["label"]) if isinstance(row["label"], str) else int(row["label"])
            if not 0 <= label < len(names):
                raise DataError(
                    f"example {at} of split {table.split!r} of {table.name!r} has label {label}, but there are "
                    f"{len(names)} classes; choose a split whose labels are published"
                )
            rows.append(
                {"id": str(row.get("idx", row.get("id", at))), "texts": tuple(row[name] for name in texts), "label": label}
            )
        return rows, names

    def _tokenize(self, tokenizer: Any, rows: Rows, max_length: int) -> Any:
        columns = [[row["texts"][at] for row in rows] for at in range(len(rows[0]["texts"]))]
        return tokenizer(
            *columns, truncation=True, max_length=max_length, return_attention_mask=True, return_token_type_ids=True
        )

    def encode(self, case: Case, model: Model, rows: Rows) -> list[Text]:
        """One feature an example, cut to the model's longest sequence."""
        self.options(case)
        encoded = self._tokenize(model.tokenizer, rows, model.max_positions)
        return [Text({name: encoded[name][at] for name in model.inputs}) for at in range(len(rows))]

    def lessons(self, case: Case, tokenizer: Any, examples: Examples, max_length: int) -> list[dict[str, list[int] | int]]:
        """One label an example."""
        encoded = self._tokenize(tokenizer, examples.rows, max_length)
        return [
            {**{name: values[at] for name, values in encoded.items()}, "labels": row["label"]}
            for at, row in enumerate(examples.rows)
        ]

    def shape(self, model: Model, batch: int, seq: int) -> tuple[int, ...]:
        """[batch, labels]."""
        return batch, model.config.num_labels

    def fits(self, model: Model, examples: Examples) -> None:
        """The model must have the data set's classes."""
        _class_of(model, examples)

    def outcomes(
        self, case: Case, model: Model, examples: Examples, rows: Rows, features: list[Any], logits: list[Any]
    ) -> Outcomes:
        """Predicted class names; the margin is the largest logit over the second."""
        classes = _class_of(model, examples)
        predictions, margins, columns = [], [], []
        for row, found in zip(rows, logits, strict=True):
            best = classes[int(np.argmax(found["logits"]))]
            predictions.append(examples.labels[best])
            margins.append(_encode.margin(float(_encode.gaps(found["logits"])), 0.0))
            columns.append(metrics.classification(best, row["label"], len(examples.labels)))
        return _encode.collect([row["id"] for row in rows], predictions, margins, columns)

    def references(self, examples: Examples, rows: Rows, outcomes: Outcomes, metric: str) -> tuple[list[Any], list[Any]]:
        """Class indices."""
        return [examples.labels.index(name) for name in outcomes.predictions], [row["label"] for row in rows]


def _check_labels(table: Table) -> None:
    """Raises DataError for the first label that names no class."""
    texts = any(isinstance(row["label"], str) for row in table.rows)
    for at, row in enumerate(table.rows):
        label = row["label"]
        if isinstance(label, str if texts else int) and not isinstance(label, bool):
            continue
        wanted = "those before or after it are texts" if texts else "labels are texts, or whole numbers from 0 on"
        raise DataError(
            f"example {at} of split {table.split!r} of {table.name!r} has label {label!r}, and {wanted}; mend column 'label'"
        )


def _names(table: Table) -> tuple[str, ...]:
    """Class names of a label column without any: the texts themselves, or the integers as text."""
    values = {row["label"] for row in table.rows}
    if all(isinstance(value, str) for value in values):
        return tuple(sorted(values))
    return tuple(str(value) for value in range(max(int(value) for value in values) + 1))


def _class_of(model: Model, examples: Examples) -> dict[int, int]:
    """The model's output index -> the data set's class index. Raises UsageError where they do not fit."""
    labels = {int(index): str(name) for index, name in model.config.id2label.items()}
    if len(labels) != len(examples.labels):
        raise UsageError(
            f"model {model.source!r} tells {len(labels)} classes apart ({', '.join(labels.values())}), but {examples.name} has "
            f"{len(examples.labels)} ({', '.join(examples.labels)}); choose a model trained on these classes"
        )
    # Nobody named the classes on one side: then both count them alike, as the model was trained on these integers.
    counted = tuple(str(at) for at in range(len(examples.labels)))
    if examples.labels == counted or all(name.startswith("LABEL_") for name in labels.values()):
        return {index: index for index in labels}
    known = {name.lower(): at for at, name in enumerate(examples.labels)}
    strange = [name for name in labels.values() if name.lower() not in known]
    if strange:
        raise UsageError(
            f"model {model.source!r} has the classes {', '.join(labels.values())}, but {examples.name} has "
            f"{', '.join(examples.labels)}; choose a model trained on these classes"
        )
    return {index: known[name.lower()] for index, name in labels.items()}


TASK = TextClassification()
