"""The Store: runs and their records, one transaction a case. A killed run loses at most the case in flight.

Knows tables and rows; what a row is made of is encode.py's, how a database opens is database.py's.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import secrets
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any, Self

from sqlalchemy import Connection, Engine, Row, bindparam, func, insert, select, update

from pytest_perfq.errors import StoreError
from pytest_perfq.store import encode, migrate, rows
from pytest_perfq.store.database import connect, file_of, name_of, parse, telling
from pytest_perfq.store.lock import lock_for
from pytest_perfq.store.tables import blobs, calibrations, fingerprints, records, runs

# Built once: making a statement costs more than running it.
LAST_ATTEMPT = select(func.max(records.c.attempt)).where(
    records.c.run_id == bindparam("run"), records.c.nodeid == bindparam("item")
)
INSERT_RECORD = insert(records)


class Store:
    """An open history. Use as a context manager, or close it. Every method may raise StoreError."""

    def __init__(self, engine: Engine, name: str, lock: Any) -> None:
        """Not called directly: see `open`."""
        self.name = name
        self._engine, self._lock = engine, lock
        self._locked = False
        self._known: set[str] = set()
        self._marked: set[str] = set()

    @classmethod
    def open(cls, url: str, *, readonly: bool = False) -> Self:
        """The store at a path or SQLAlchemy URL; made and brought up to date where need be, unless `readonly`."""
        parsed = parse(str(url))
        name = name_of(parsed)
        engine = connect(parsed, readonly)
        try:
            with telling(name, "open"), engine.begin() as connection:
                (migrate.check if readonly else migrate.migrate)(connection, name)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine, name, lock_for(engine, file_of(parsed), name))

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

    def begin_run(self, argv: Sequence[str], settings: dict[str, Any]) -> str:
        """A new run's id, which sorts by time. Raises StoreError while another run writes to this store."""
        self._take()
        now = time.time()
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
        with telling(self.name, "write to"), self._engine.begin() as connection:
            connection.execute(insert(runs).values(values))
        return run_id

    def resume_run(self, run_id: str) -> None:
        """Takes up an unfinished run. Raises StoreError while another run, or that very one, still writes to this store."""
        self._take()

    def record(
        self, run_id: str, nodeid: str, measurement_json: dict[str, Any], verdict_json: dict[str, Any], attempt: int = 0
    ) -> int:
        """Stores one judged item in one transaction. Returns the attempt it was stored as: the next free one where this one
        is taken, for nothing stored is ever replaced."""
        self._take()
        row = encode.encode(measurement_json, verdict_json)
        with telling(self.name, "write to"), self._engine.begin() as connection:
            digest = row.values["fingerprint"]
            self._share(connection, fingerprints, digest, machine=row.machine, facts=row.facts)
            for name, data in row.blobs.items():
                self._share(connection, blobs, name, data=data)
            if run_id not in self._marked:
                self._mark(connection, run_id, row)
            last = connection.execute(LAST_ATTEMPT, {"run": run_id, "item": nodeid}).scalar()
            attempt = attempt if last is None else max(attempt, last + 1)
            values = {**row.values, "run_id": run_id, "nodeid": nodeid, "attempt": attempt, "recorded_s": time.time()}
            connection.execute(INSERT_RECORD, values)
        # Only what was committed is known to be there.
        self._known |= {digest, *row.blobs}
        self._marked.add(run_id)
        return attempt

    def finish_run(self, run_id: str) -> None:
        """The run is whole; the next may write."""
        with telling(self.name, "write to"), self._engine.begin() as connection:
            connection.execute(update(runs).where(runs.c.id == run_id).values(finished_s=time.time()))
        self._lock.release()
        self._locked = False

    def _take(self) -> None:
        if not self._locked:
            self._lock.acquire()
            self._locked = True

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
        with telling(self.name, "read"), self._engine.begin() as connection:
            found = connection.execute(select(runs).order_by(runs.c.started_s.desc(), runs.c.id.desc())).all()
            counts: dict[str, dict[str, int]] = {}
            for run_id, status, number in connection.execute(_latest_statuses()):
                counts.setdefault(run_id, {})[status] = number
        return [_run(row, counts.get(row.id, {})) for row in found]

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
        return list(self._records(run_id, latest))

    def done(self, run_id: str) -> dict[str, dict[str, Any]]:
        """Nodeid -> measurement, of the items of a run that were measured and need not be measured again."""
        latest = self._records(run_id, latest=True)
        return {one.nodeid: one.measurement for one in latest if one.measurement["unmeasured"] is None}

    def history(self, case_id: str) -> list[rows.Point]:
        """One case over time, oldest first, the last attempt of each run's items."""
        joined = select(records, runs.c.revision, runs.c.dirty, runs.c.machine).join(runs, runs.c.id == records.c.run_id)
        wanted = joined.where(records.c.case_id == case_id).order_by(records.c.recorded_s, records.c.id)
        with telling(self.name, "read"), self._engine.begin() as connection:
            found = connection.execute(wanted).all()
        last = {(row.run_id, row.nodeid): row for row in found}
        names = rows.Point.__dataclass_fields__
        return [rows.Point(**{name: row._mapping[name] for name in names}) for row in last.values()]

    def last_valid(self, case_ids: Sequence[str]) -> float | None:
        """When the latest valid timing of any of these cases was recorded, unix time; None where there is none."""
        wanted = select(func.max(records.c.recorded_s)).where(
            records.c.case_id.in_(case_ids), records.c.p50_ms.is_not(None), records.c.status.not_in(("invalid", "unmeasured"))
        )
        with telling(self.name, "read"), self._engine.begin() as connection:
            found: float | None = connection.execute(wanted).scalar()
        return found

    def calibrate(self, found: Sequence[rows.Calibration]) -> None:
        """Stores calibrations; older ones stay."""
        values = [{name: getattr(one, name) for name in rows.Calibration.__dataclass_fields__} for one in found]
        with telling(self.name, "write to"), self._engine.begin() as connection:
            if values:
                connection.execute(insert(calibrations), values)

    def calibrations(self, machine: str | None = None) -> dict[str, rows.Calibration]:
        """The latest calibration of every case on a machine (None: on any), by case id."""
        wanted = select(calibrations).order_by(calibrations.c.recorded_s, calibrations.c.id)
        if machine is not None:
            wanted = wanted.where(calibrations.c.machine == machine)
        names = rows.Calibration.__dataclass_fields__
        with telling(self.name, "read"), self._engine.begin() as connection:
            found = connection.execute(wanted).all()
        return {row.case_id: rows.Calibration(**{name: row._mapping[name] for name in names}) for row in found}

    def cases(self) -> dict[str, str]:
        """Case id -> its last status, of all cases ever recorded, in order of id."""
        wanted = select(records.c.case_id, records.c.status).order_by(records.c.recorded_s, records.c.id)
        with telling(self.name, "read"), self._engine.begin() as connection:
            found = {row.case_id: row.status for row in connection.execute(wanted)}
        return dict(sorted(found.items()))

    def _records(self, run_id: str, latest: bool) -> Iterator[rows.Record]:
        with telling(self.name, "read"), self._engine.begin() as connection:
            wanted = select(records).where(records.c.run_id == run_id).order_by(records.c.id)
            found = connection.execute(wanted).all()
            decoder = encode.Decoder(
                lambda digest: connection.execute(select(blobs.c.data).where(blobs.c.digest == digest)).scalar_one(),
                lambda digest: connection.execute(
                    select(fingerprints.c.facts).where(fingerprints.c.digest == digest)
                ).scalar_one(),
            )
            kept = {row.nodeid: row.id for row in found}
            for row in found:
                if not latest or kept[row.nodeid] == row.id:
                    yield _record(row, decoder)


def _latest_statuses() -> Any:
    last = select(func.max(records.c.id).label("id")).group_by(records.c.run_id, records.c.nodeid).subquery()
    joined = select(records.c.run_id, records.c.status, func.count()).join(last, last.c.id == records.c.id)
    return joined.group_by(records.c.run_id, records.c.status)


def _run(row: Row[Any], statuses: dict[str, int]) -> rows.Run:
    values = dict(row._mapping)
    values |= {"argv": tuple(json.loads(values["argv"])), "settings": json.loads(values["settings"]), "statuses": statuses}
    return rows.Run(**values)


def _record(row: Row[Any], decoder: encode.Decoder) -> rows.Record:
    return rows.Record(
        run_id=row.run_id,
        nodeid=row.nodeid,
        attempt=row.attempt,
        case_id=row.case_id,
        status=row.status,
        recorded_s=row.recorded_s,
        measurement=decoder.measurement(row),
        verdict=json.loads(row.verdict_json),
    )
