"""The embedded corpus as data sets: `synthetic:squad`, `synthetic:conll2003` and so on, in the hub's columns.

Deterministic: a data set is a function of its name, its split and the sources of its generator.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from pytest_perfq.errors import DataError, UnknownName
from pytest_perfq.tasks import _synthetic_entities, _synthetic_labels, _synthetic_questions
from pytest_perfq.tasks._data import Table

Maker = Callable[[random.Random, int, str], list[dict[str, Any]]]
MAKERS: dict[str, Maker] = {**_synthetic_questions.MAKERS, **_synthetic_entities.MAKERS, **_synthetic_labels.MAKERS}
# Training rows a data set; the harder the rule, the more of them.
TRAIN_ROWS = {"squad": 4000, "squad_v2": 6000, "conll2003": 3000, "sst2": 3000, "mrpc": 8000, "cola": 6000}
VALIDATION_ROWS = 1000


def sizes(name: str) -> dict[str, int]:
    """Split -> rows."""
    return {"train": TRAIN_ROWS[name], "validation": VALIDATION_ROWS}


@lru_cache(maxsize=16)
def table(name: str, split: str) -> Table:
    """A split of `synthetic:NAME`. Raises UnknownName and DataError (no such split)."""
    bare = name.removeprefix("synthetic:")
    if bare not in MAKERS:
        raise UnknownName("synthetic data set", bare, MAKERS)
    if split not in sizes(bare):
        raise DataError(f"data set {name!r} has no split {split!r}; it has {', '.join(sizes(bare))}")
    rows = MAKERS[bare](random.Random(f"{bare}/{split}"), sizes(bare)[split], split)
    classes: dict[str, tuple[str, ...]] = {"ner_tags": _synthetic_entities.TAGS} if bare == "conll2003" else {}
    if bare in _synthetic_labels.LABELS:
        classes = {"label": _synthetic_labels.LABELS[bare]}
    return Table(name, split, tuple(rows[0]), rows, classes)
