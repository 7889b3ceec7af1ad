"""`perfq import`: what pytest-benchmark measured, as a run of the store."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pytest_perfq.core.benchmarks import KEPT, read
from pytest_perfq.core.verdict import judge
from pytest_perfq.errors import DataError, UsageError
from pytest_perfq.store import Store

NEXT = "give the file that `pytest --benchmark-json=FILE` writes"


def import_(path: str, store: str) -> str:
    """Stores the benchmarks of a file as one run and says how to look at it. Raises UsageError and DataError."""
    try:
        found = read(_json(path))
    except DataError as error:
        raise DataError(f"{path} cannot be imported: {error}; {NEXT}") from None
    with Store.open(store) as opened:
        run = opened.begin_run(sys.argv, {"items": len(found), "imported": str(path)})
        for one in found:
            nodeid = one.case.id.partition("/")[2]
            opened.record(run, nodeid, one.to_json(), judge(one, ()).to_json())
        opened.finish_run(run)
    partly = sum("rounds" in one.facts for one in found)
    number = "1 benchmark" if len(found) == 1 else f"{len(found)} benchmarks"
    text = f"imported {number} of {path} as run {run}; see it with: perfq report {run}"
    if partly:
        names = f"{', '.join(KEPT[:-1])} and {KEPT[-1]}"
        text += f"\nof {partly} of them the file holds no rounds: {names} stand for them; save all with --benchmark-save-data"
    return text


def _json(path: str) -> Any:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; {NEXT}") from error
    except UnicodeDecodeError:
        raise DataError("it is not text") from None
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(f"it is no whole JSON ({error})" if text.strip() else "it is empty") from None
