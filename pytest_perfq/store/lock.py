"""One run writes to a store at a time. A lock is released by the operating system or the server when its holder dies.

An SQLite file is locked by a file beside it; PostgreSQL by an advisory lock of the session. Other databases have no lock
here: two runs on one of them are two runs in one history, each whole.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout
from sqlalchemy import Connection, Engine

from pytest_perfq.errors import StoreError
from pytest_perfq.store.database import Named, telling

ADVISORY_KEY = 7_378_817_302


def when(seconds: float) -> str:
    """Local time as people write it: `2026-11-23 01:02:03`."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


class WriteLock(Protocol):
    """Taken at most once by a Store."""

    def acquire(self) -> None:
        """Raises StoreError that names the run that has it."""

    def release(self) -> None:
        """Gives it back; nothing happens when it was not taken."""


def _refuse(store: Named, holder: str) -> StoreError:
    return StoreError(
        f"two runs on one store: {holder} is writing to {store}, and this is pid {os.getpid()}; wait for it to end, "
        f"or give this run another {store.option}"
    )


class FileWriteLock:
    """`results.db.lock` is locked, `results.db.run` says by whom (a lock file's own content does not survive an attempt
    on it)."""

    def __init__(self, file: Path, store: Named) -> None:
        self._store = store
        self._lock = FileLock(f"{file}.lock")
        self._holder = Path(f"{file}.run")

    def acquire(self) -> None:
        with telling(self._store, "lock"):
            # Timeout is an OSError as well: it must not reach what tells of those.
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                raise _refuse(self._store, self._who()) from None
            self._holder.write_text(json.dumps({"pid": os.getpid(), "started_s": time.time()}))

    def _who(self) -> str:
        try:
            values = json.loads(self._holder.read_text())
            return f"pid {values['pid']} (since {when(values['started_s'])})"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"

    def release(self) -> None:
        if self._lock.is_locked:
            self._holder.unlink(missing_ok=True)
            self._lock.release()


class AdvisoryWriteLock:
    """PostgreSQL's own, held by a connection of its own."""

    def __init__(self, engine: Engine, store: Named) -> None:
        self._engine, self._store = engine, store
        self._connection: Connection | None = None

    def acquire(self) -> None:
        with telling(self._store, "lock"):
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            if connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({ADVISORY_KEY})").scalar():
                self._connection = connection
                return
            found = connection.exec_driver_sql(
                "SELECT pid, host, started_s FROM perfq_runs WHERE finished_s IS NULL ORDER BY started_s DESC LIMIT 1"
            ).first()
            connection.close()
        holder = "another process" if found is None else f"pid {found[0]} on {found[1]} (since {when(found[2])})"
        raise _refuse(self._store, holder)

    def release(self) -> None:
        if self._connection is not None:
            # The pool keeps the session alive, and with it a lock that is not given back by name.
            with telling(self._store, "unlock"):
                self._connection.exec_driver_sql(f"SELECT pg_advisory_unlock({ADVISORY_KEY})")
                self._connection.close()
            self._connection = None


class NoWriteLock:
    """For databases in memory, which nobody shares, and those we know no lock of."""

    def acquire(self) -> None:
        return

    def release(self) -> None:
        return


def lock_for(engine: Engine, file: Path | None, store: Named) -> WriteLock:
    """The lock of this kind of database."""
    if file is not None:
        return FileWriteLock(file, store)
    return AdvisoryWriteLock(engine, store) if engine.dialect.name == "postgresql" else NoWriteLock()
