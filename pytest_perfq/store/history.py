"""The Store: runs and their records, one transaction a case. A killed run loses at most the case in flight.

Knows tables and rows; what a row is made of is encode.py's, how a database opens is database.py's.
"""

from __future__ import annotations

import datetime
import os
import platform
import secrets
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Self

from sqlalchemy import Connection, Engine, bindparam, func, insert, select, update

from pytest_perfq.core import packing
from pytest_perfq.core.measurement import Visit
from pytest_perfq.errors import StoreError
from pytest_perfq.store import encode, migrate, reading, rows
from pytest_perfq.store.database import Named, connect, file_of, name_of, parse, telling
from pytest_perfq.store.lock import lock_for
from pytest_perfq.store.tables import blobs, calibrations, fingerprints, records, runs

# Built once: making a statement costs more than running it.
LAST_ATTEMPT = select(func.max(records.c.attempt)).where(
    records.c.run_id == bindparam("run"), records.c.nodeid == bindparam("item")
)
INSERT_RECORD = insert(records)


class Store:
    """An open history. Use as a context manager, or close it. Every method may raise StoreError."""

    def __init__(self, engine: Engine, named: Named, lock: Any) -> None:
        """Not called directly: see `open`."""
        self.name = named.name
        self._named, self._engine, self._lock = named, engine, lock
        self._locked = False
        self._known: set[str] = set()
        self._marked: set[str] = set()
        # (run, nodeid) -> the last attempt and its visits, see encode.marks.
        self._held: dict[tuple[str, str], tuple[int, tuple[int, ...]]] = {}

    @classmethod
    def open(cls, url: str, *, readonly: bool = False, option: str = "--perf-store") -> Self:
        """The store at a path or SQLAlchemy URL; made and brought up to date where need be, unless `readonly`. option: by which
        the command at hand is given another."""
        parsed = parse(str(url))
        named = Named(name_of(parsed), option)
        engine = connect(parsed, readonly, option)
        try:
            with telling(named, "open"), engine.begin() as connection:
                (migrate.check if readonly else migrate.migrate)(connection, named)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine, named, lock_for(engine, file_of(parsed), named))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the database and of the right to write."""
        self._lock.release()
        self._locked = False
        self._engine.dispose()

    # -- writing

    def begin_run(self, argv: Sequence[str], settings: dict[str, Any], *, at_s: float | None = None) -> str:
        """A new run's id, which sorts by time. at_s: when it was measured, unix time, where that is not now. Raises StoreError
        while another run writes to this store."""
        self._take()
        now = time.time() if at_s is None else at_s
        stamp = datetime.datetime.fromtimestamp(now, datetime.UTC).strftime("%Y%m%d-%H%M%S")
        run_id = f"{stamp}-{secrets.token_hex(2)}"
        values = {
            "id": run_id,
            "started_s": now,
            "argv": encode.text(list(argv)),
            "settings": encode.text(settings),
            "pid": os.getpid(),
            "host": platform.node(),
            "version": version("pytest-perfq"),
        }
        with telling(self._named, "write to"), self._engine.begin() as connection:
            connection.execute(insert(runs).values(values))
        return run_id

    def resume_run(self, run_id: str) -> None:
        """Takes up an unfinished run. Raises StoreError while another run, or that very one, still writes to this store."""
        self._take()

    def record(
        self,
        run_id: str,
        nodeid: str,
        measurement_json: dict[str, Any],
        verdict_json: dict[str, Any],
        attempt: int = 0,
        *,
        at_s: float | None = None,
    ) -> int:
        """Stores one judged item in one transaction. Returns the attempt it was stored as: the next free one where this one
        is taken, for nothing stored is ever replaced. Where its visits begin with those of the item's last attempt, only those
        since are stored. at_s: when it was measured, unix time, where that is not now."""
        self._take()
        row = encode.encode(measurement_json, verdict_json)
        marks = encode.marks(row.visits)
        with telling(self._named, "write to"), self._engine.begin() as connection:
            digest = row.values["fingerprint"]
            self._share(connection, fingerprints, digest, machine=row.machine, facts=row.facts)
            for name, data in row.blobs.items():
                self._share(connection, blobs, name, data=data)
            if run_id not in self._marked:
                self._mark(connection, run_id, row)
            last = connection.execute(LAST_ATTEMPT, {"run": run_id, "item": nodeid}).scalar()
            attempt = attempt if last is None else max(attempt, last + 1)
            values = {**row.values, "run_id": run_id, "nodeid": nodeid, "attempt": attempt}
            values["recorded_s"] = time.time() if at_s is None else at_s
            since = 0 if last is None else self._since(connection, run_id, nodeid, last, marks)
            values |= {"visits": encode.pack(row.visits[since:]), "continues": last if since else None}
            connection.execute(INSERT_RECORD, values)
        # Only what was committed is known to be there.
        self._known |= {digest, *row.blobs}
        self._marked.add(run_id)
        self._held[run_id, nodeid] = attempt, marks
        return attempt

    def finish_run(self, run_id: str) -> None:
        """The run is whole; the next may write."""
        with telling(self._named, "write to"), self._engine.begin() as connection:
            connection.execute(update(runs).where(runs.c.id == run_id).values(finished_s=time.time()))
        self._lock.release()
        self._locked = False

    def _take(self) -> None:
        if not self._locked:
            self._lock.acquire()
            self._locked = True

    def _since(self, connection: Connection, run_id: str, nodeid: str, last: int, marks: tuple[int, ...]) -> int:
        """How many of the visits with these marks the last attempt holds: all of its own, or none."""
        attempt, held = self._held.get((run_id, nodeid), (None, ()))
        if attempt != last:  # stored by another process: the run was resumed
            packed = reading.held(connection, run_id, nodeid, last)
            found: list[Visit] = [visit for part in packed for visit in packing.unpack_visits(part)]
            held = encode.marks(found)
        return len(held) if marks[: len(held)] == held else 0

    def _share(self, connection: Connection, table: Any, digest: str, **values: Any) -> None:
        if digest in self._known:
            return
        if connection.execute(select(table.c.digest).where(table.c.digest == digest)).first() is None:
            connection.execute(insert(table).values(digest=digest, **values))

    def _mark(self, connection: Connection, run_id: str, row: encode.Row) -> None:
        if connection.execute(select(runs.c.id).where(runs.c.id == run_id)).first() is None:
            raise StoreError(f"there is no run {run_id!r} in the store {self.name}; begin one first")
        where = runs.c.id == run_id, runs.c.machine.is_(None)
        values = {"machine": row.machine, "revision": row.stack.get("revision"), "dirty": row.stack.get("dirty")}
        connection.execute(update(runs).where(*where).values(values))

    # -- reading

    def runs(self) -> list[rows.Run]:
        """All runs, the latest first."""
        with telling(self._named, "read"), self._engine.begin() as connection:
            return reading.all_runs(connection)

    def run(self, name: str) -> rows.Run:
        """The run of this id or of a beginning of it that no other has; `last` is the latest."""
        known = self.runs()
        if name == "last":
            found = known[:1]
        else:
            found = [one for one in known if one.id == name] or [one for one in known if name and one.id.startswith(name)]
        if len(found) == 1:
            return found[0]
        if not known:
            raise StoreError(
                f"there is no run {name!r}: the store {self.name} holds none yet; a run of pytest over a suite makes one"
            )
        shown = ", ".join(one.id for one in (found or known)[:5])
        what = f"{len(found)} runs begin with" if found else "there is no run"
        raise StoreError(f"{what} {name!r} in the store {self.name}; runs: {shown}; see `perfq list runs`")

    def last_unfinished_run(self) -> rows.Run | None:
        """The latest run, where it was cut off; None where it was finished or there is none."""
        latest = self.runs()[:1]
        return latest[0] if latest and latest[0].finished_s is None else None

    def records(self, run_id: str, *, latest: bool = False) -> list[rows.Record]:
        """All records of a run in the order they were made. latest: only the last attempt of each item."""
        with telling(self._named, "read"), self._engine.begin() as connection:
            return list(reading.records_of(connection, run_id, latest))

    def done(self, run_id: str) -> dict[str, rows.Record]:
        """Nodeid -> record, of the items of a run that were measured and need not be measured again."""
        return {one.nodeid: one for one in self.records(run_id, latest=True) if one.measurement["unmeasured"] is None}

    def history(self, case_id: str) -> list[rows.Point]:
        """One case over time, oldest first, the last attempt of each run's items."""
        with telling(self._named, "read"), self._engine.begin() as connection:
            return reading.points(connection, case_id)

    def last_valid(self, case_ids: Sequence[str]) -> dict[str, float]:
        """When the latest valid timing of each of these cases was recorded, unix time; none of those without one."""
        wanted = (
            select(records.c.case_id, func.max(records.c.recorded_s).label("at_s"))
            .where(
                records.c.case_id.in_(case_ids),
                records.c.p50_ms.is_not(None),
                records.c.status.not_in(("invalid", "unmeasured")),
            )
            .group_by(records.c.case_id)
        )
        with telling(self._named, "read"), self._engine.begin() as connection:
            return {row.case_id: row.at_s for row in connection.execute(wanted)}

    def calibrate(self, found: Sequence[rows.Calibration]) -> None:
        """Stores calibrations; older ones stay."""
        values = [{name: getattr(one, name) for name in rows.Calibration.__dataclass_fields__} for one in found]
        with telling(self._named, "write to"), self._engine.begin() as connection:
            if values:
                connection.execute(insert(calibrations), values)

    def calibrations(self, machine: str | None = None) -> dict[str, rows.Calibration]:
        """The latest calibration of every case on a machine (None: on any), by case id."""
        wanted = select(calibrations).order_by(calibrations.c.recorded_s, calibrations.c.id)
        if machine is not None:
            wanted = wanted.where(calibrations.c.machine == machine)
        names = rows.Calibration.__dataclass_fields__
        with telling(self._named, "read"), self._engine.begin() as connection:
            found = connection.execute(wanted).all()
        return {row.case_id: rows.Calibration(**{name: row._mapping[name] for name in names}) for row in found}

    def cases(self) -> dict[str, str]:
        """Case id -> its last status, of all cases ever recorded, in order of id."""
        wanted = select(records.c.case_id, records.c.status).order_by(records.c.recorded_s, records.c.id)
        with telling(self._named, "read"), self._engine.begin() as connection:
            found = {row.case_id: row.status for row in connection.execute(wanted)}
        return dict(sorted(found.items()))
