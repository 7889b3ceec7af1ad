"""What is read from the tables, over a connection that somebody else opened. Writes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, Row, func, select

from pytest_perfq.store import encode, rows
from pytest_perfq.store.tables import blobs, fingerprints, records, runs

# Later than any run was finished, unix time.
STILL_RUNS_S = 1e12


def all_runs(connection: Connection) -> list[rows.Run]:
    """All runs, the latest first."""
    # Of one moment are runs that were taken over from one file: the one that was taken over last is the latest.
    latest = runs.c.started_s.desc(), func.coalesce(runs.c.finished_s, STILL_RUNS_S).desc(), runs.c.id.desc()
    found = connection.execute(select(runs).order_by(*latest)).all()
    counts: dict[str, dict[str, int]] = {}
    for run_id, status, number in connection.execute(_latest_statuses()):
        counts.setdefault(run_id, {})[status] = number
    return [_run(row, counts.get(row.id, {})) for row in found]


def records_of(connection: Connection, run_id: str, latest: bool) -> Iterator[rows.Record]:
    """The records of a run in the order they were made. latest: only the last attempt of each item."""
    found = connection.execute(select(records).where(records.c.run_id == run_id).order_by(records.c.id)).all()
    decoder = encode.Decoder(
        lambda digest: connection.execute(select(blobs.c.data).where(blobs.c.digest == digest)).scalar_one(),
        lambda digest: connection.execute(
            select(fingerprints.c.facts).where(fingerprints.c.digest == digest)
        ).scalar_one(),
    )  # fmt: skip
    last = {row.nodeid: row.id for row in found}
    attempts = {(row.nodeid, row.attempt): row for row in found}
    for row in found:
        if not latest or last[row.nodeid] == row.id:
            yield _record(row, decoder.measurement(_chain(row, attempts)))


def held(connection: Connection, run_id: str, nodeid: str, attempt: int) -> list[bytes]:
    """The packed visits of one attempt: its own, after those of the attempts that it continues."""
    wanted = select(records.c.nodeid, records.c.attempt, records.c.continues, records.c.visits)
    found = connection.execute(wanted.where(records.c.run_id == run_id, records.c.nodeid == nodeid)).all()
    attempts = {(row.nodeid, row.attempt): row for row in found}
    return [row.visits for row in _chain(attempts[nodeid, attempt], attempts) if row.visits is not None]


def points(connection: Connection, case_id: str) -> list[rows.Point]:
    """One case over time, oldest first, the last attempt of each run's items."""
    of_run = runs.c.revision, runs.c.dirty, runs.c.machine, runs.c.settings
    joined = select(records, *of_run).join(runs, runs.c.id == records.c.run_id)
    wanted = joined.where(records.c.case_id == case_id).order_by(records.c.recorded_s, records.c.id)
    last = {(row.run_id, row.nodeid): row for row in connection.execute(wanted)}
    names = [name for name in rows.Point.__dataclass_fields__ if name != "looked_back"]
    return [
        rows.Point(**{name: row._mapping[name] for name in names}, looked_back=_looked_back(row.settings))
        for row in last.values()
    ]


def _looked_back(settings: str) -> bool:
    return "bisect" in (json.loads(settings).get("trial") or {})


def _chain(row: Any, attempts: Mapping[tuple[str, int], Any]) -> list[Any]:
    """An attempt after those that it continues, the first of them first."""
    found = [row]
    while found[-1].continues is not None:
        found.append(attempts[row.nodeid, found[-1].continues])
    return found[::-1]


def _latest_statuses() -> Any:
    last = select(func.max(records.c.id).label("id")).group_by(records.c.run_id, records.c.nodeid).subquery()
    joined = select(records.c.run_id, records.c.status, func.count()).join(last, last.c.id == records.c.id)
    return joined.group_by(records.c.run_id, records.c.status)


def _run(row: Row[Any], statuses: dict[str, int]) -> rows.Run:
    values = dict(row._mapping)
    values |= {"argv": tuple(json.loads(values["argv"])), "settings": json.loads(values["settings"]), "statuses": statuses}
    return rows.Run(**values)


def _record(row: Row[Any], measurement: dict[str, Any]) -> rows.Record:
    return rows.Record(
        run_id=row.run_id,
        nodeid=row.nodeid,
        attempt=row.attempt,
        case_id=row.case_id,
        status=row.status,
        recorded_s=row.recorded_s,
        measurement=measurement,
        verdict=json.loads(row.verdict_json),
    )
