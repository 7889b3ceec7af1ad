"""Questions answered by a span of a text, in the columns of SQuAD v1.1 and v2.0 (question, context, answers).

A long text is cut into overlapping windows; the answer is the best span of all windows. Options of the task: `doc_stride`
tokens that neighbouring windows share (transformers' stride), `max_length` tokens of a window with its question,
`max_answer_length` tokens, `n_best` starts and ends looked at, `version_2` for data with unanswerable questions, and
`null_score_diff_threshold` by which no answer must win then. Scores are the SQuAD scripts' (see metrics.py).
"""

from __future__ import annotations

from typing import Any, ClassVar

from pytest_perfq import metrics
from pytest_perfq.contracts import Examples, Model
from pytest_perfq.core.case import Case
from pytest_perfq.core.measurement import Outcomes
from pytest_perfq.errors import DataError, UsageError
from pytest_perfq.tasks import _encode, _models, _spans
from pytest_perfq.tasks._head import HeadTask
from pytest_perfq.tasks._table import Rows, Table, need


class QuestionAnswering(HeadTask):
    """See the module."""

    name: ClassVar[str] = "question-answering"
    metrics: ClassVar[tuple[str, ...]] = ("f1", "exact_match")
    outputs: ClassVar[tuple[str, ...]] = ("start_logits", "end_logits")
    synthetic: ClassVar[str] = "squad"
    per_token: ClassVar[bool] = True

    def read(self, table: Table) -> tuple[Rows, tuple[str, ...]]:
        """Rows with id, question, context, answers (texts) and starts (characters)."""
        flat = "answers.text" in table.columns and "answers" not in table.columns
        need(table, ("question", "context", *(("answers.text", "answers.answer_start") if flat else ("answers",))), self.name)
        rows = []
        for at, row in enumerate(table.rows):
            texts, starts = (
                (row["answers.text"], row["answers.answer_start"])
                if flat
                else (row["answers"]["text"], row["answers"]["answer_start"])
            )
            rows.append({
                "id": str(row.get("id", at)), "question": row["question"].lstrip(), "context": row["context"],
                "answers": tuple(texts), "starts": tuple(int(start) for start in starts),
            })  # fmt: skip
        return rows, ()

    def encode(self, case: Case, model: Model, rows: Rows) -> list[_spans.Window]:
        """The windows of every row, in the order of the rows."""
        options = self.options(case)
        if options["max_length"] > model.max_positions:
            raise UsageError(
                f"max_length is {options['max_length']}, but model {model.source!r} has {model.max_positions} positions; "
                f"write {self.name}[max_length={model.max_positions}] or less"
            )
        return _spans.windows(model.tokenizer, rows, options["max_length"], options["doc_stride"], model.inputs)

    def lessons(self, case: Case, tokenizer: Any, examples: Examples, max_length: int) -> list[dict[str, list[int] | int]]:
        """Windows with the positions of the first answer; position 0 where the window does not hold it."""
        stride = min(int(self.options(case)["doc_stride"]), max_length // 3)
        windows = _spans.windows(tokenizer, examples.rows, max_length, stride, _models.INPUTS)
        return [
            {**window.row, "start_positions": start, "end_positions": end}
            for window in windows
            for start, end in (_spans.target(window, examples.rows[window.example]),)
        ]

    def shape(self, model: Model, batch: int, seq: int) -> tuple[int, ...]:
        """[batch, seq]."""
        return batch, seq

    def outcomes(
        self, case: Case, model: Model, examples: Examples, rows: Rows, features: list[Any], logits: list[Any]
    ) -> Outcomes:
        """Predicted answers as text (empty for none); the margin is that of the best span over the next best."""
        options = self.options(case)
        version_2 = bool(options["version_2"])
        bare = sum(not row["answers"] for row in rows)
        if bare and not version_2:
            raise DataError(
                f"{bare} of {len(rows)} questions of {examples.name} have no answer; write {self.name}[version_2] to score them"
            )
        of_row: list[list[tuple[_spans.Window, Any]]] = [[] for _ in rows]
        for window, found in zip(features, logits, strict=True):
            of_row[window.example].append((window, found))
        threshold = float(options["null_score_diff_threshold"]) if version_2 else None
        predictions, margins, columns = [], [], []
        for row, parts in zip(rows, of_row, strict=True):
            text, margin = _spans.answer(row["context"], parts, options["n_best"], options["max_answer_length"], threshold)
            predictions.append(text)
            margins.append(margin)
            columns.append(metrics.answering(text, row["answers"], version_2))
        return _encode.collect([row["id"] for row in rows], predictions, margins, columns)

    def references(self, examples: Examples, rows: Rows, outcomes: Outcomes, metric: str) -> tuple[list[Any], list[Any]]:
        """For evaluate's squad and squad_v2 their records; for any other metric texts, and the golds of each."""
        kind = metric.partition(":")[0]
        if kind not in ("squad", "squad_v2"):
            return list(outcomes.predictions), [list(row["answers"]) for row in rows]
        extra = {"no_answer_probability": 0.0} if kind == "squad_v2" else {}
        predictions = [
            {"id": name, "prediction_text": text, **extra}
            for name, text in zip(outcomes.ids, outcomes.predictions, strict=True)
        ]
        golds = [
            {"id": row["id"], "answers": {"text": list(row["answers"]), "answer_start": list(row["starts"])}} for row in rows
        ]
        return predictions, golds


TASK = QuestionAnswering()
