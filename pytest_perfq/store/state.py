"""How a store is, without making or changing one: is it there, can it be read, would a run be able to write to it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, insert

from pytest_perfq.errors import StoreError
from pytest_perfq.store.database import Named, connect, file_of, name_of, parse, telling
from pytest_perfq.store.history import Store
from pytest_perfq.store.tables import runs


@dataclass(frozen=True, slots=True)
class State:
    """name: as messages name the store, without a password. exists: whether a run has made it. runs: held, None where they
    cannot be read. problem: why a run could not write to it, one sentence; None where it could."""

    name: str
    exists: bool
    runs: int | None
    problem: str | None


def state(url: str) -> State:
    """The state of the store at a path or SQLAlchemy URL. Raises StoreError for a text that is neither."""
    parsed = parse(url)
    name, file = name_of(parsed), file_of(parsed)
    if file is not None and not file.exists():
        return State(name, False, None, _cannot_make(file))
    number = None
    try:
        with Store.open(url, readonly=True) as store:
            number = len(store.runs())
        engine = connect(parsed, readonly=False)
        try:
            with telling(Named(name), "write to"), engine.connect() as connection:
                _try(connection)
        finally:
            engine.dispose()
    except StoreError as error:
        return State(name, True, number, str(error))
    return State(name, True, number, None)


def _cannot_make(file: Path) -> str | None:
    folder = file.absolute().parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        return f"{folder} is not a folder; give another --perf-store"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"the folder {folder} cannot be written to; change its permissions, or give another --perf-store"
    return None


def _try(connection: Connection) -> None:
    """Writes a run and takes it back: nobody ever sees it."""
    attempt = connection.begin()
    try:
        values = {"id": "doctor", "started_s": time.time(), "argv": "[]", "settings": "{}", "pid": os.getpid(), "host": ""}
        connection.execute(insert(runs).values(**values, version=""))
    finally:
        attempt.rollback()
