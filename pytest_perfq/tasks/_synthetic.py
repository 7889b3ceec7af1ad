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
from pytest_perfq.tasks._synthetic_catalog import TRAIN_ROWS, VALIDATION_ROWS, sizes
from pytest_perfq.tasks._table import Table

__all__ = ["MAKERS", "TRAIN_ROWS", "VALIDATION_ROWS", "sizes", "table"]

Maker = Callable[[random.Random, int, str], list[dict[str, Any]]]
MAKERS: dict[str, Maker] = {**_synthetic_questions.MAKERS, **_synthetic_entities.MAKERS, **_synthetic_labels.MAKERS}


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
