"""What tasks say of themselves before they are imported: the options they take, and which data and models are embedded.

Read while cases are collected, so that a mistake is told before anything is loaded or trained: it imports no framework and
touches no file, and knows only what holds on every machine. A task without a row in OPTIONS is first asked when a case of it
is measured.
"""

from __future__ import annotations

import re

from pytest_perfq.core.case import Case
from pytest_perfq.core.options import Option, read
from pytest_perfq.core.spec import Spec, Value
from pytest_perfq.errors import UnknownName, UsageError
from pytest_perfq.tasks._synthetic_catalog import MODELS, TASKS, sizes

OPTIONS: dict[str, dict[str, Option]] = {
    # Over the defaults of the SQuAD scripts.
    "question-answering": {
        "doc_stride": Option(128, least=0),
        "max_length": Option(384, least=1),
        "max_answer_length": Option(30, least=1),
        "n_best": Option(20, least=1),
        "version_2": Option(False),
        "null_score_diff_threshold": Option(0.0),
    },
    "token-classification": {},
    "text-classification": {},
}
# What is scored where no metric is named; the first is the primary one.
METRICS = {
    "question-answering": ("f1", "exact_match"),
    "token-classification": ("f1", "precision", "recall", "accuracy"),
    "text-classification": ("accuracy",),
}
# The same of data sets that are scored otherwise; the last word of a name tells.
METRICS_OF = {"mrpc": ("accuracy", "f1"), "qqp": ("accuracy", "f1"), "cola": ("matthews_correlation", "accuracy")}
# What people write -> what they mean, where letters alone would lead to another task.
ALIASES = {
    "sequence-classification": "text-classification",
    "sentiment-analysis": "text-classification",
    "ner": "token-classification",
    "named-entity-recognition": "token-classification",
    "qa": "question-answering",
    "extractive-qa": "question-answering",
}
# What may stand before the colon of a model; without a colon it is a hub id or a folder.
SOURCES = ("synthetic", "finetuned", "package")


def options(task: Spec) -> dict[str, Value]:
    """The options of a task over their defaults. Raises UnknownName and UsageError."""
    return read("task", task, OPTIONS.get(task.name, {}))


def metrics(case: Case) -> tuple[str, ...]:
    """What the case is scored by."""
    own = METRICS_OF.get(re.split("[:/-]", case.dataset)[-1]) if case.task.name == "text-classification" else None
    return case.metrics or own or METRICS[case.task.name]


def check(case: Case) -> None:
    """Raises UnknownName and UsageError for options that the case's task does not take, and for embedded data and
    models that do not exist or do not go together."""
    if case.task.name not in OPTIONS:
        return
    given = options(case.task)
    dataset = embedded_dataset(case)
    kind, colon, name = case.model.partition(":")
    # One letter is a drive, a slash belongs to a path.
    if colon and len(kind) > 1 and "/" not in kind and kind not in SOURCES:
        raise UnknownName("kind of model", kind, SOURCES, "write a hub id or a folder without a colon")
    if kind == "finetuned" and name.startswith("synthetic:"):
        raise UsageError(
            f"model {case.model!r} fine-tunes an embedded model, which is trained on its data already; write {name!r}"
        )
    if dataset == "squad_v2" and not given["version_2"]:
        raise UsageError(f"data set 'synthetic:squad_v2' has questions without an answer; write {case.task.name}[version_2]")
    if colon and kind == "synthetic":
        check_model(name, dataset, case.dataset)


def embedded_dataset(case: Case) -> str | None:
    """The bare name of the case's embedded data set, None where it is not embedded. Raises UnknownName and UsageError for
    one that does not exist, is another task's or has fewer examples than asked for."""
    kind, _, name = case.dataset.partition(":")
    if kind != "synthetic":
        return None
    if name not in TASKS and case.dataset != "synthetic":
        raise UnknownName("synthetic data set", name, TASKS)
    name = name or next(bare for bare, task in TASKS.items() if task == case.task.name)
    if TASKS[name] != case.task.name:
        raise UsageError(
            f"data set {case.dataset!r} is for task {TASKS[name]}, and the case's task is {case.task.name}; write "
            "dataset='synthetic', each task's own, or leave the combination out with `exclude`"
        )
    rows = sizes(name)
    for split in (case.split, case.calibration_split):
        if split not in rows:
            raise UsageError(f"data set 'synthetic:{name}' has no split {split!r}; it has {', '.join(rows)}")
    if case.samples is not None:
        check_samples(case.samples, rows[case.split], case.split, f"synthetic:{name}")
    return name


def check_samples(samples: int, rows: int, split: str, dataset: str) -> None:
    """Raises UsageError for more samples than a split has."""
    if samples > rows:
        raise UsageError(f"samples is {samples}, but split {split!r} of {dataset} has {rows} examples; ask for at most {rows}")


def check_model(name: str, embedded: str | None, dataset: str) -> None:
    """Raises UnknownName for an embedded model that does not exist, and UsageError for data that it cannot read.
    embedded: the bare name of the embedded data set; dataset: what the case calls its own."""
    if name not in MODELS:
        raise UnknownName("synthetic model", name, MODELS)
    if embedded is None:
        raise UsageError(
            f"model 'synthetic:{name}' knows the words of synthetic data sets only, and the data set is {dataset!r}; "
            "use dataset='synthetic', or fine-tune a real encoder: 'finetuned:SOURCE'"
        )
