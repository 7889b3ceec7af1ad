"""`perfq import`: what pytest-benchmark measured, as a run of the store."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_perfq.cli.show import when
from pytest_perfq.cli.storing import opened
from pytest_perfq.core.benchmarks import KEPT, read
from pytest_perfq.core.measurement import Measurement
from pytest_perfq.core.verdict import judge
from pytest_perfq.errors import DataError, UsageError

# Clocks of two machines differ by less.
CLOCKS_DIFFER_S = 3600.0
NEXT = "give the file that `pytest --benchmark-json=FILE` writes"


def import_(path: str, store: str) -> str:
    """Stores the benchmarks of a file as one run, of the time that they were measured, and says how to look at it. What the
    store has already is not stored again: it would count twice in a history. Raises UsageError and DataError."""
    try:
        content = _json(path)
        found = read(content)
    except DataError as error:
        raise DataError(f"{path} cannot be imported: {error}; {NEXT}") from None
    measured_s, digest = _measured_s(found, path), _digest(content)
    with opened(store) as stored:
        # One that was cut off is not whole, and stands for nothing.
        same = [one.id for one in stored.runs() if one.settings.get("content") == digest and one.finished_s is not None]
        if same:
            return f"{path} was imported already, as run {same[0]}; see it with: perfq report {same[0]}"
        settings = {"items": len(found), "imported": str(path), "content": digest}
        run = stored.begin_run(sys.argv, settings, at_s=measured_s)
        for one in found:
            nodeid = one.case.id.partition("/")[2]
            stored.record(run, nodeid, one.to_json(), judge(one, ()).to_json(), at_s=measured_s)
        stored.finish_run(run)
    partly = sum("rounds" in one.facts for one in found)
    number = "1 benchmark" if len(found) == 1 else f"{len(found)} benchmarks"
    text = f"imported {number} of {path} as run {run}; see it with: perfq report {run}"
    if measured_s is None:
        text += "\nthe file does not say when they were measured: the history has them as of now"
    if partly:
        names = f"{', '.join(KEPT[:-1])} and {KEPT[-1]}"
        text += f"\nof {partly} of them the file holds no rounds: {names} stand for them; save all with --benchmark-save-data"
    return text


def _measured_s(found: Sequence[Measurement], path: str) -> float | None:
    """When the file says that its benchmarks were measured, unix time; None where it says nothing, and now stands for it."""
    said, now = found[0].visits[0].case.started_s, time.time()
    if said > now + CLOCKS_DIFFER_S:
        raise DataError(
            f"{path} cannot be imported: it says that it was measured on {when(said)}, and here it is {when(now)}; mend the "
            "clock that is wrong, or the file's `datetime`"
        )
    return min(said, now) if said else None


def _digest(content: Any) -> str:
    """Of what a file says, however it is laid out."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


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
