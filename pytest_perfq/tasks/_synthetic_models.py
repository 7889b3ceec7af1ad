"""The embedded models: small encoders of real architectures, trained on the embedded corpus at first use.

A checkpoint is a function of its recipe: the sources of generator, encoding and training loop, the sizes and
hyper-parameters below, the versions of torch and transformers, and the number of threads. Equal recipes give equal bits on
one machine.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import torch
import transformers

from pytest_perfq.contracts import Resources
from pytest_perfq.core.case import Case
from pytest_perfq.errors import UnknownName
from pytest_perfq.tasks import _declared, _models, _synthetic_catalog, _vocabulary
from pytest_perfq.tasks._head import HeadTask, dataset_of
from pytest_perfq.tasks._synthetic_catalog import MODELS, Shape
from pytest_perfq.tasks._table import texts
from pytest_perfq.training import checkpoint, loop
from pytest_perfq.training.loop import Recipe

MAX_POSITIONS = 512  # lengths that suites time, though no embedded text is that long
# A fixed number keeps the bits, and one it is: at these sizes a second thread gains little, and where other work has the
# cores it loses an order of magnitude to waiting.
THREADS = 1


RECIPES: dict[str, Recipe] = {
    name: Recipe(epochs=epochs, batch_size=16, learning_rate=rate, max_length=128, seed=1, threads=THREADS, beta2=0.99)
    for name, epochs, rate in (
        ("squad", 3, 2e-3), ("squad_v2", 3, 2e-3), ("conll2003", 1, 2e-3),
        ("sst2", 2, 1e-3), ("mrpc", 4, 6e-4), ("cola", 4, 1e-3),
    )
}  # fmt: skip
# Standard deviation of the first weights. BERT's own suits classifiers; where words must find their like in another sentence
# it goes several times faster from larger ones, in which equal words attend to each other from the start.
INITIAL_STD = {"squad": 0.1, "squad_v2": 0.1, "conll2003": 0.05, "mrpc": 0.1}
_BERT_STD = 0.02


def folder(name: str, task: HeadTask, case: Case, resources: Resources) -> Path:
    """The checkpoint of `synthetic:NAME` for the case's data set, trained if it is not in the cache. Raises UnknownName and
    UsageError (a data set that is not synthetic)."""
    dataset = dataset_of(case, task.synthetic)
    bare = dataset.removeprefix("synthetic:")
    _declared.check_model(name, None if bare == dataset else bare, dataset)
    if bare not in RECIPES:
        raise UnknownName("synthetic data set", bare, RECIPES)
    return trained(name, bare, task, case, resources, RECIPES[bare])


def trained(name: str, dataset: str, task: HeadTask, case: Case, resources: Resources, recipe: Recipe) -> Path:
    """The folder of the checkpoint of this recipe."""
    std = INITIAL_STD.get(dataset, _BERT_STD)
    shape = _synthetic_catalog.shape(MODELS[name].model_type, initializer_range=std, **dict(MODELS[name].options))

    def make(target: Path) -> None:
        _train(target, f"synthetic:{name} on {dataset}", shape, task, case, resources, recipe)

    return checkpoint.cached(
        resources.cache / "synthetic", f"{name}-{dataset}", _recipe_key(shape, dataset, task, case, recipe), make
    )


def _recipe_key(shape: Shape, dataset: str, task: HeadTask, case: Case, recipe: Recipe) -> str:
    """Hex digest of everything that decides the weights."""
    here = Path(__file__).parent
    sources = [
        *here.glob("_synthetic*.py"),
        here / "_vocabulary.py",
        here / "_spans.py",
        here / f"{task.name.replace('-', '_')}.py",
    ]
    digest = hashlib.sha256()
    for path in (*sorted(sources), Path(loop.__file__)):
        digest.update(path.read_bytes())
    facts = [dataclasses.asdict(shape), dataset, _synthetic_catalog.sizes(dataset), task.name, str(case.task),
             dataclasses.asdict(recipe), str(torch.__version__), transformers.__version__]  # fmt: skip
    digest.update(json.dumps(facts, sort_keys=True).encode())
    return digest.hexdigest()


def _train(target: Path, what: str, shape: Shape, task: HeadTask, case: Case, resources: Resources, recipe: Recipe) -> None:
    resources.progress(f"training {what}")
    started_s = time.monotonic()
    examples = task.examples(dataclasses.replace(case, samples=None), "train", resources)
    tokenizer = _vocabulary.tokenizer(texts(examples.rows), MAX_POSITIONS)
    config = _config(shape, len(tokenizer), tokenizer.pad_token_id, examples.labels)
    with loop.settled(recipe), _models.quiet():
        module = _models.head_class(task.name, config)(config)
        names = (*_models.inputs_of(module), "labels", "start_positions", "end_positions")
        lessons = task.lessons(case, tokenizer, examples, recipe.max_length)
        rows = [{key: value for key, value in lesson.items() if key in names} for lesson in lessons]
        loop.train(module, rows, recipe, pad_id=tokenizer.pad_token_id, progress=resources.progress, what=what)
        tokenizer.model_input_names = list(_models.inputs_of(module))
        module.save_pretrained(target)
        tokenizer.save_pretrained(target)
    resources.progress(f"trained {what}, {time.monotonic() - started_s:.0f} s")


def _config(shape: Shape, vocab_size: int, pad_token_id: int, labels: tuple[str, ...]) -> Any:
    named = {"id2label": dict(enumerate(labels)), "label2id": {name: at for at, name in enumerate(labels)}} if labels else {}
    options = {
        **dict(shape.options),
        "vocab_size": vocab_size,
        "pad_token_id": pad_token_id,
        "max_position_embeddings": MAX_POSITIONS,
    }
    return transformers.AutoConfig.for_model(shape.model_type, **options, **named)
