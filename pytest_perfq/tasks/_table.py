"""A split of a data set as it came: its rows, its columns and what their integers are called. Knows no source and no task."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_perfq.errors import DataError

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Table:
    """A split as it came. classes: column -> class names, of the columns whose integers have names. revision: the commit at
    the hub, None for data from elsewhere."""

    name: str
    split: str
    columns: tuple[str, ...]
    rows: Rows
    classes: Mapping[str, tuple[str, ...]]
    revision: str | None = None


def need(table: Table, wanted: Sequence[str], task: str) -> None:
    """Raises DataError for columns that the task needs and the table lacks."""
    missing = [name for name in wanted if name not in table.columns]
    if missing:
        raise DataError(
            f"data set {table.name!r} has columns {', '.join(table.columns)}; task {task} needs {', '.join(wanted)} "
            f"and lacks {', '.join(missing)}; choose another data set or rename its columns"
        )


def content_key(rows: Rows) -> str:
    """Hex digest of rows of plain values."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def texts(rows: Rows) -> Iterator[str]:
    """Every text of the rows, nested ones too, in their order."""
    for row in rows:
        for key, value in row.items():
            if key not in ("id", "ner_tags"):
                yield from (one for one in (value if isinstance(value, (list, tuple)) else (value,)) if isinstance(one, str))
