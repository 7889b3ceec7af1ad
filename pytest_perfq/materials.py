"""What several cases share, made once: models, data, built programs. Knows no timing and no verdict."""

from __future__ import annotations

import dataclasses
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from pytest_perfq import registry
from pytest_perfq.contracts import Arrays, Backend, Batch, Examples, Model, Program, Resources, Task
from pytest_perfq.core.case import Case
from pytest_perfq.errors import BuildError, DataError, UsageError

CALIBRATION_BATCH = 8
# The original and the program under test; more would hold gigabytes for nothing, since the walk goes program by program.
PROGRAMS_KEPT = 2
# A sweep over models goes model by model; the second place serves a suite that alternates two.
MODELS_KEPT = 2


@dataclasses.dataclass(slots=True)
class Built:
    """A program with what making it cost: load_ns to build it from a loaded model, and to check it where its backend does;
    first_call_ns for the first forward pass after that (None before it)."""

    program: Program
    load_ns: int
    first_call_ns: int | None = None

    def predict(self, batch: Batch) -> Arrays:
        """Logits of one batch by output name, float32 on the host."""
        feed = self.program.feed(batch)
        start_ns = time.perf_counter_ns()
        output = self.program.run(feed)
        self.program.synchronize()
        if self.first_call_ns is None:
            self.first_call_ns = time.perf_counter_ns() - start_ns
        return self.program.fetch(output)


def _text(row: Mapping[str, Any]) -> str:
    """The words of an example, whatever its task calls them; empty where it has none."""
    found = next((row[name] for name in ("texts", "question", "tokens", "sentence", "text") if row.get(name)), "")
    return found if isinstance(found, str) else (" / " if "texts" in row else " ").join(map(str, found))


def task_of(case: Case) -> Task:
    """The task of a case."""
    task: Task = registry.load("task", case.task.name)
    return task


def backend_of(case: Case) -> Backend:
    """The backend of a case."""
    backend: Backend = registry.load("backend", case.backend.name)
    return backend


def _check_whole(case: Case, program: Program) -> None:
    """Raises BuildError for a program without all of contracts.Program: told here, before it is needed at the very end."""
    wanted = [name for name in (*Program.__annotations__, *vars(Program)) if not name.startswith("_")]
    missing = [name for name in wanted if not hasattr(program, name)]
    if missing:
        raise BuildError(
            f"the program of backend {case.backend.name} is a {type(program).__name__} without {', '.join(missing)}; "
            f"it needs {', '.join(wanted)}: see pytest_perfq.contracts.Program"
        )


class Materials:
    """Loads and builds what a case asks for and keeps the last of each. Every look-up may raise PerfqError."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self._models: OrderedDict[tuple[Any, ...], Model] = OrderedDict()
        self._programs: OrderedDict[Case, Built] = OrderedDict()
        self._examples: dict[tuple[Any, ...], Examples] = {}

    def model(self, case: Case) -> Model:
        """The loaded fp32 model with the head of the case's task."""
        # The data set is part of the key: it decides labels, and what a synthetic or fine-tuned model was trained on.
        key = (case.task, case.dataset, case.model, case.calibration_split)
        if key not in self._models:
            while len(self._models) >= MODELS_KEPT:
                self._models.popitem(last=False)
            self._models[key] = task_of(case).load_model(case, self.resources)
        self._models.move_to_end(key)
        return self._models[key]

    def examples(self, case: Case, split: str) -> Examples:
        """All examples of a split of the case's data set."""
        key = (case.task.name, case.dataset, split)
        if key not in self._examples:
            self._examples[key] = task_of(case).examples(case, split, self.resources)
        return self._examples[key]

    def texts(self, case: Case, ids: Sequence[str]) -> dict[str, str]:
        """What people read of examples of the case's split, by id; those without a text are left out."""
        wanted = set(ids)
        rows = self.examples(case, case.split).rows
        return {str(row["id"]): text for row in rows if str(row.get("id")) in wanted and (text := _text(row))}

    def program(self, case: Case) -> Built:
        """The program of a case; the same one for every batch size and length."""
        key = case.program()
        if key not in self._programs:
            model = self.model(case)
            while len(self._programs) >= PROGRAMS_KEPT:
                self._programs.popitem(last=False)[1].program.close()
            start_ns = time.perf_counter_ns()
            program = backend_of(key).build(key, model, self.resources, partial(self._calibration, key))
            _check_whole(key, program)
            self._programs[key] = Built(program, time.perf_counter_ns() - start_ns)
        self._programs.move_to_end(key)
        return self._programs[key]

    def revisions(self, case: Case) -> dict[str, str]:
        """The commits at the hub of what the case is made of, as facts: model_revision and, of a case that reads data,
        data_revision. What is from elsewhere has none."""
        found = {"model_revision": self.model(case).revision}
        if case.kind == "accuracy" or case.padding == "dataset":
            found["data_revision"] = self.examples(case, case.split).revision
        return {name: commit for name, commit in found.items() if commit is not None}

    def _calibration(self, case: Case) -> Iterator[Batch]:
        """Batches of the first `calibration_samples` examples of the calibration split. Raises UsageError for too few, and
        DataError for a split that cannot be read: the suite may never have named it, so the sentence says who reads it."""
        assert case.quantization is not None
        try:
            examples = self.examples(case, case.calibration_split)
        except DataError as error:
            raise DataError(
                f"{error}; the calibration of {case.quantization.id} reads split {case.calibration_split!r}: the Sweep's "
                "calibration_split names another"
            ) from error
        wanted, has = case.quantization.calibration_samples, len(examples.rows)
        if wanted > has:
            raise UsageError(
                f"calibration_samples is {wanted}, but split {case.calibration_split!r} of {examples.name} has {has} examples; "
                f"ask for at most {has}"
            )
        rows = examples.rows[:wanted]
        some = dataclasses.replace(examples, rows=rows, key=f"{examples.key}:{len(rows)}")
        return task_of(case).batches(case, self.model(case), some, CALIBRATION_BATCH)

    def close(self) -> None:
        """Frees every program and model."""
        while self._programs:
            self._programs.popitem()[1].program.close()
        self._models.clear()
