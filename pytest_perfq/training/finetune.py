"""Fine-tuning as a cached step: a module with its head, rows with labels and a recipe in, a checkpoint folder out.

Knows modules and tokenizers by what they save; knows no task and no data set beyond their keys.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from pytest_perfq.contracts import Resources
from pytest_perfq.training import checkpoint, loop
from pytest_perfq.training.loop import Recipe, Row, settled

__all__ = ["Lesson", "finetune", "settled"]


@dataclasses.dataclass(frozen=True, slots=True)
class Lesson:
    """What to learn from. what: how progress lines call it. task: with its options. data_key: content of the examples. rows:
    encodes them, called only if the checkpoint is not there. inputs: the names of a row that the module takes."""

    what: str
    task: str
    data_key: str
    rows: Callable[[], Sequence[Row]]
    inputs: tuple[str, ...]


def finetune(module: Any, tokenizer: Any, lesson: Lesson, base_key: str, recipe: Recipe, resources: Resources) -> Path:
    """The folder of the trained checkpoint, made where the cache lacks it. base_key: content of the weights that training
    starts from. Call inside `settled`, in which the module must have been made, since its head is random."""
    facts = [
        base_key,
        lesson.data_key,
        lesson.task,
        dataclasses.asdict(recipe),
        str(torch.__version__),
        transformers.__version__,
    ]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    digest.update(Path(loop.__file__).read_bytes())

    def make(target: Path) -> None:
        started_s = time.monotonic()
        rows = [{name: value for name, value in row.items() if name in lesson.inputs} for row in lesson.rows()]
        resources.progress(f"fine-tuning {lesson.what}: {len(rows)} examples, {recipe.epochs} epochs, {recipe.threads} threads")
        loop.train(module, rows, recipe, pad_id=tokenizer.pad_token_id or 0, progress=resources.progress, what=lesson.what)
        module.save_pretrained(target)
        tokenizer.save_pretrained(target)
        resources.progress(f"fine-tuned {lesson.what}, {time.monotonic() - started_s:.0f} s")

    return checkpoint.cached(resources.cache / "finetuned", _plain(lesson.what), digest.hexdigest(), make)


def _plain(what: str) -> str:
    """A file name that says what it is."""
    return "".join(char if char.isalnum() or char in "-_." else "-" for char in what)[-80:].strip("-.")
