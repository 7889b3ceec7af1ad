"""How both sides of a comparison are measured: the command line first, then the ini files of the project here."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_perfq import device
from pytest_perfq.arguments import seconds
from pytest_perfq.errors import UsageError
from pytest_perfq.trials.environment import Environment
from pytest_perfq.trials.sides import settings


def given(
    words: Sequence[str], here: Path, *, data: str | None, cache: str | None, threads: int | None, pickle: bool
) -> tuple[dict[str, Any], list[str]]:
    """Keywords of pytest_perfq.worker.Given with absolute paths, and the arguments for pytest with what follows from them.

    words: arguments for pytest, whose --perf options count as well. here: where they were given. Raises UsageError and
    TrialError."""
    said = settings(Environment(label="this project", folder=here), words)
    mirror = said["data"] if data is None else str(Path(data).resolve())
    found = {
        "cache": str(Path(cache).resolve()) if cache else said["cache"],
        "data": mirror,
        "pickle": pickle or said["pickle"],
        "threads": threads or said["threads"] or device.available_threads(),
        "l2": said["l2"],
    }
    # A mirror is seldom part of a repository: in the tree of a revision a relative path would lead nowhere.
    return found, [*words, *([] if mirror is None else [f"--perf-data={mirror}"])]


def budget_s(time: str | None) -> float | None:
    """What --time says, seconds. Raises UsageError."""
    try:
        return None if time is None else seconds(time)
    except ValueError as error:
        raise UsageError(f"--time is {time!r}: {error}") from None


def to_errors(text: str) -> None:
    """Where progress goes: standard output holds the verdict alone."""
    sys.stderr.write(text)
    sys.stderr.flush()
