"""Opening a database: from what people write to an engine, with every way it can fail as one sentence.

Knows no table. SQLite runs with a write-ahead log, so that readers and the one writer do not wait for each other.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import StaticPool

from pytest_perfq.errors import StoreError

# Another process may be in the middle of a transaction, which takes milliseconds.
BUSY_TIMEOUT_MS = 10_000


@dataclass(frozen=True, slots=True)
class Named:
    """A store as messages have it. name: its path or URL. option: by which the command at hand is given another."""

    name: str
    option: str = "--perf-store"

    def __str__(self) -> str:
        return self.name


def parse(text: str) -> URL:
    """A SQLAlchemy URL, or the path of an SQLite file. Raises StoreError."""
    if "://" not in text:
        return URL.create("sqlite", database=text)
    try:
        return make_url(text)
    except (ArgumentError, ValueError):  # the second for a port that is no number
        raise StoreError(f"cannot read {text!r} as a database; give a path such as .perfq/results.db or a URL") from None


def name_of(url: URL) -> str:
    """How messages name the database: its path or its URL, never its password."""
    return str(url.database) if file_of(url) is not None else url.render_as_string(hide_password=True)


def file_of(url: URL) -> Path | None:
    """The file of an SQLite database; None for one in memory and for every other database."""
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return None
    return Path(url.database)


@contextlib.contextmanager
def telling(store: Named, doing: str) -> Iterator[None]:
    """Turns what a database or the file system raises into one StoreError."""
    try:
        yield
    except (DBAPIError, sqlite3.Error, OSError) as error:
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        text = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        if "not a database" in text or "malformed" in text:
            raise StoreError(
                f"{store} is not a perfq store or is torn ({text}); move it away or give another {store.option}"
            ) from error
        raise StoreError(f"cannot {doing} the store {store}: {text}; mend that or give another {store.option}") from error


def _make_folder(file: Path) -> None:
    folder = file.parent
    ours = not folder.exists() or folder.name == ".perfq"
    folder.mkdir(parents=True, exist_ok=True)
    ignore = folder / ".gitignore"
    # Only in a folder of our own: an ignore-all in somebody's repository root would hide their work.
    if ours and not ignore.exists():
        ignore.write_text("*\n")


def connect(url: URL, readonly: bool, option: str = "--perf-store") -> Engine:
    """An engine for the database. readonly: never creates or changes it. option: see Named. Raises StoreError."""
    name, file = Named(name_of(url), option), file_of(url)
    if file is not None:
        if readonly and not file.is_file():
            raise StoreError(f"there is no store at {name}; a run of pytest makes one, or give another {option}")
        if not readonly:
            with telling(name, "create"):
                _make_folder(file)
    options: dict[str, Any] = {}
    if url.get_backend_name() == "sqlite":
        if file is None:
            options["poolclass"] = StaticPool
        else:
            mode = "ro" if readonly else "rwc"
            path = os.path.abspath(file)
            options["creator"] = lambda: _sqlite(path, mode)
    try:
        engine = create_engine(url, **options)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        missing = getattr(error, "name", None) or url.drivername
        raise StoreError(f"the store {name} needs the database driver {missing!r}; install it beside pytest-perfq") from error
    if engine.dialect.name == "sqlite":
        _begin_by_hand(engine, readonly)
    return engine


def _sqlite(path: str, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{Path(path).as_uri()}?mode={mode}", uri=True, timeout=BUSY_TIMEOUT_MS / 1000)
    if mode != "ro":
        connection.execute("PRAGMA journal_mode=WAL")
        # With a write-ahead log this survives a killed process; only a power cut can take the last transactions.
        connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


def _begin_by_hand(engine: Engine, readonly: bool) -> None:
    # sqlite3 begins transactions late and never around DDL; a migration must be all or nothing.
    @event.listens_for(engine, "connect")
    def _(connection: sqlite3.Connection, record: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN" if readonly else "BEGIN IMMEDIATE")
