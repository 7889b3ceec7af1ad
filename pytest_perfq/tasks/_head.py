"""What the built-in tasks share: a transformers head, its examples, its scores. Knows no single task's meaning.

`case.samples` means the first so many examples of the evaluated split, in the data set's order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

from pytest_perfq import metrics
from pytest_perfq.contracts import Batch, Examples, Model, Predict, Resources
from pytest_perfq.core.case import Case
from pytest_perfq.core.measurement import Outcomes, Score
from pytest_perfq.errors import DataError
from pytest_perfq.tasks import _data, _declared, _encode, _evaluate, _models
from pytest_perfq.tasks._table import Rows, Table, content_key


def dataset_of(case: Case, default: str) -> str:
    """The case's data set; plain `synthetic` is the task's own part of the embedded corpus."""
    return f"synthetic:{default}" if case.dataset == "synthetic" else case.dataset


def taken(case: Case, examples: Examples) -> Rows:
    """The rows that the case evaluates. Raises UsageError for more samples than there are."""
    if case.samples is None or examples.split != case.split:
        return examples.rows
    _declared.check_samples(case.samples, len(examples.rows), examples.split, examples.name)
    return examples.rows[: case.samples]


class HeadTask(ABC):
    """A task solved by one transformers head. A subclass says what examples mean."""

    name: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]
    outputs: ClassVar[tuple[str, ...]]
    synthetic: ClassVar[str]  # which embedded data set plain `synthetic` is
    per_token: ClassVar[bool]

    # -- what a subclass says

    def options(self, case: Case) -> dict[str, Any]:
        """The options of `case.task` over their defaults. Raises UnknownName and UsageError."""
        return dict(_declared.options(case.task))

    @abstractmethod
    def read(self, table: Table) -> tuple[Rows, tuple[str, ...]]:
        """The rows in the task's columns, and class names. Raises DataError."""

    @abstractmethod
    def encode(self, case: Case, model: Model, rows: Rows) -> list[Any]:
        """Features with a mapping `row` of token ids each, in the order of the rows; at least one a row."""

    @abstractmethod
    def lessons(self, case: Case, tokenizer: Any, examples: Examples, max_length: int) -> list[dict[str, list[int] | int]]:
        """Encoded rows with the labels that the head's own loss takes, for training."""

    @abstractmethod
    def outcomes(
        self, case: Case, model: Model, examples: Examples, rows: Rows, features: list[Any], logits: list[Any]
    ) -> Outcomes:
        """From the logits of every feature to what was predicted and how it compares."""

    @abstractmethod
    def shape(self, model: Model, batch: int, seq: int) -> tuple[int, ...]:
        """The promised shape of every output."""

    @abstractmethod
    def references(self, examples: Examples, rows: Rows, outcomes: Outcomes, metric: str) -> tuple[list[Any], list[Any]]:
        """Predictions and references as `evaluate` takes them."""

    def fits(self, model: Model, examples: Examples) -> None:
        """Raises UsageError for a model whose labels are not the data set's."""
        return  # a head without labels of its own fits any

    # -- the contract

    def load_model(self, case: Case, resources: Resources) -> Model:
        """The model with this task's head, from any source. See contracts.Task."""
        path = self._folder(case, resources)
        return _models.load(case.model, path, self.name, self.outputs, resources.pickle)

    def _folder(self, case: Case, resources: Resources) -> Any:
        kind, _, rest = case.model.partition(":")
        if kind == "synthetic":
            from pytest_perfq.tasks import _synthetic_models

            return _synthetic_models.folder(rest, self, case, resources)
        if kind == "finetuned":
            from pytest_perfq.tasks import _finetuned

            return _finetuned.folder(rest, self, case, resources)
        return _models.folder(case.model, resources.pickle)

    def examples(self, case: Case, split: str, resources: Resources) -> Examples:
        """All examples of a split. Raises UsageError for more `case.samples` than there are. See contracts.Task."""
        name = dataset_of(case, self.synthetic)
        table = _data.load(name, split, resources)
        rows, labels = self.read(table)
        if not rows:
            raise DataError(f"split {split!r} of {name!r} is empty; choose another split")
        found = Examples(name, split, rows, content_key(rows), labels, table.revision)
        taken(case, found)  # before a model is loaded for nothing
        return found

    def batches(self, case: Case, model: Model, examples: Examples, batch_size: int) -> Iterator[Batch]:
        """Encoded batches of all the examples, in order. See contracts.Task."""
        features = self.encode(case, model, examples.rows)
        return _encode.batches([feature.row for feature in features], model, batch_size)

    def evaluate(self, case: Case, model: Model, examples: Examples, predict: Predict, batch_size: int) -> Outcomes:
        """Outcomes of the first `case.samples` examples. See contracts.Task."""
        self.fits(model, examples)
        rows = taken(case, examples)
        features = self.encode(case, model, rows)
        logits = _encode.logits(
            predict, model, [feature.row for feature in features], batch_size,
            lambda batch, seq: self.shape(model, batch, seq), self.per_token,
        )  # fmt: skip
        return self.outcomes(case, model, examples, rows, features, logits)

    def scores(self, case: Case, examples: Examples, outcomes: Outcomes) -> tuple[Score, ...]:
        """The case's metrics, the first primary. See contracts.Task."""
        rows = taken(case, examples)
        found = []
        for at, metric in enumerate(_declared.metrics(case)):
            formula = metrics.formula(self.name, metric)
            if formula is not None:
                found.append(metrics.score(metric, formula, outcomes, primary=at == 0))
            else:
                value = _evaluate.value(metric, self.name, *self.references(examples, rows, outcomes, metric))
                found.append(Score(metric, value, len(rows), None, at == 0))
        return tuple(found)

    def token_lengths(self, case: Case, model: Model, examples: Examples) -> tuple[int, ...]:
        """Real tokens of each feature of the evaluated examples. See contracts.Task."""
        features = self.encode(case, model, taken(case, examples))
        return tuple(len(feature.row["input_ids"]) for feature in features)
