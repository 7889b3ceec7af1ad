"""In which order cases are shown: that of the walk where it is known, else by their names, as a person would sort them.

Processes that measure side by side finish cases in an order of chance; nothing that is printed follows it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from pytest_perfq.core.case import Case

DIGITS = re.compile(r"(\d+)")
# Between the parts of an id. Names of nodes, in brackets, have slashes of their own.
SLASH = re.compile(r"/(?![^\[\]]*\])")
# Data set, model, backend, precision: what may stand over a table. Batch and length stay with their row.
SHARED_PARTS = 4
Natural = tuple[tuple[str, int], ...]


def natural(text: str) -> Natural:
    """A key that sorts numbers in a text by their value: s32 before s128."""
    pieces = DIGITS.split(text)
    return tuple((pieces[at], int(pieces[at + 1]) if at + 1 < len(pieces) else -1) for at in range(0, len(pieces), 2))


def parts(case_id: str) -> list[str]:
    """What stands between the slashes of an id: data set, model, backend and device, precision, and then the shape."""
    return SLASH.split(case_id)


def topic(case: Case) -> str:
    """What the rows of one table share: data set and model, as the case's id names them."""
    return f"{SLASH.split(case.id, maxsplit=1)[0]}/{case.model_name}"


def by_name(case: Case) -> tuple[Natural, bool, Natural]:
    """The key of a case whose place in the walk nobody knows: its topic, the original's own cases first, then its id."""
    return _natural_topic(topic(case)), not case.is_original, natural(case.id)


# Thousands of cases have a handful of topics.
_natural_topic = lru_cache(maxsize=256)(natural)


def in_walk(cases: Mapping[str, Case], walk: Iterable[str] = ()) -> list[str]:
    """The names of the cases (ids of items, or of cases) as the walk has them; those it does not have come after, by their
    own ids. walk: the same names in the order they were collected."""
    place = {name: index for index, name in enumerate(walk)}
    return sorted(cases, key=lambda name: (place.get(name, len(place)), by_name(cases[name])))


def stem(case_ids: Iterable[str]) -> str:
    """The longest beginning that all ids share, such as `squad/bert/ort@cpu/`, to the end of the precision at most. The last
    part of an id is never shared: something must stand in its row."""
    shared = []
    for column in zip(*(parts(name)[:-1][:SHARED_PARTS] for name in case_ids), strict=False):
        if len(set(column)) > 1:
            break
        shared.append(f"{column[0]}/")
    return "".join(shared)
