"""`finetuned:SOURCE`: an encoder fine-tuned here on the train split of the case's data set, with a fresh head unless the
source has one of that shape.

The checkpoint is kept under the content of the encoder, the data and the recipe.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from pytest_perfq.contracts import Examples, Resources
from pytest_perfq.core.case import Case
from pytest_perfq.tasks import _models, _tokenizers
from pytest_perfq.tasks._head import HeadTask
from pytest_perfq.training import finetune
from pytest_perfq.training.loop import Recipe

# By task, then by the last word of the data set's name. Sizes are for small encoders on a CPU: minutes, not hours. One
# thread: a second gains little at these sizes, and where other work has the cores it loses an order of magnitude to waiting.
RECIPES = {
    "text-classification": Recipe(epochs=1, batch_size=32, learning_rate=5e-5, max_length=64),
    "text-classification/mrpc": Recipe(epochs=2, batch_size=16, learning_rate=5e-5, max_length=96),
    "text-classification/cola": Recipe(epochs=2, batch_size=32, learning_rate=5e-5, max_length=48),
    "token-classification": Recipe(epochs=1, batch_size=16, learning_rate=1e-4, max_length=128),
    "question-answering": Recipe(epochs=2, batch_size=16, learning_rate=5e-5, max_length=384),
}


def recipe_for(task: str, dataset: str) -> Recipe:
    """The recipe of a data set, or of its task."""
    word = dataset.replace("/", "-").replace(":", "-").rpartition("-")[2]
    return RECIPES.get(f"{task}/{word}", RECIPES[task])


def folder(source: str, task: HeadTask, case: Case, resources: Resources) -> Path:
    """The checkpoint folder, made at first use. Raises what loading the source and the data set raise."""
    base = _models.folder(source, resources.pickle)
    examples = task.examples(case, case.calibration_split, resources)
    config = _models.config_of(source, base)
    wanted = _models.head_class(task.name, config)
    recipe = recipe_for(task.name, examples.name)
    with _models.quiet(), finetune.settled(recipe):
        config = _labelled(config, examples)
        tokenizer = _tokenizers.load(source, base)
        module, _ = _models.weights(wanted, source, base, resources.pickle, config=config, ignore_mismatched_sizes=True)
        limit = min(recipe.max_length, int(_models.sizes(config).max_position_embeddings))
        recipe = dataclasses.replace(recipe, max_length=limit)
        names = (*_models.inputs_of(module), "labels", "start_positions", "end_positions")
        what = f"{source} on {examples.name}"
        lesson = finetune.Lesson(
            what, str(case.task), examples.key, lambda: task.lessons(case, tokenizer, examples, limit), names
        )
        return finetune.finetune(module, tokenizer, lesson, _base_key(module), recipe, resources)


def _labelled(config: object, examples: Examples) -> object:
    if examples.labels:
        config.id2label = dict(enumerate(examples.labels))  # type: ignore[attr-defined]
        config.label2id = {name: at for at, name in enumerate(examples.labels)}  # type: ignore[attr-defined]
    return config


def _base_key(module: torch.nn.Module) -> str:
    """Content of encoder and head as they start: the seed decides the head, the source the rest."""
    return _models.content_key(module)
