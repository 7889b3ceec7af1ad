"""The first schema: runs, records, and the contents they share."""

from __future__ import annotations

from sqlalchemy import Connection

RUNS = """
CREATE TABLE perfq_runs (
    id TEXT PRIMARY KEY, started_s DOUBLE PRECISION NOT NULL, finished_s DOUBLE PRECISION, argv TEXT NOT NULL,
    settings TEXT NOT NULL, revision TEXT, dirty BOOLEAN, machine TEXT, pid INTEGER NOT NULL, host TEXT NOT NULL,
    version TEXT NOT NULL
)"""
FINGERPRINTS = "CREATE TABLE perfq_fingerprints (digest TEXT PRIMARY KEY, machine TEXT NOT NULL, facts TEXT NOT NULL)"
BLOBS = "CREATE TABLE perfq_blobs (digest TEXT PRIMARY KEY, data {blob} NOT NULL)"
RECORDS = """
CREATE TABLE perfq_records (
    id {serial}, run_id TEXT NOT NULL REFERENCES perfq_runs (id), nodeid TEXT NOT NULL,
    attempt INTEGER NOT NULL, case_id TEXT NOT NULL, recorded_s DOUBLE PRECISION NOT NULL, status TEXT NOT NULL,
    p50_ms DOUBLE PRECISION, p95_ms DOUBLE PRECISION, metric TEXT, score DOUBLE PRECISION, "drop" DOUBLE PRECISION,
    speedup DOUBLE PRECISION, bytes BIGINT, fingerprint TEXT NOT NULL REFERENCES perfq_fingerprints (digest),
    volatile TEXT NOT NULL, case_json TEXT NOT NULL, verdict_json TEXT NOT NULL, rest_json TEXT NOT NULL, visits {blob},
    ids TEXT REFERENCES perfq_blobs (digest), outcomes TEXT REFERENCES perfq_blobs (digest),
    original_ids TEXT REFERENCES perfq_blobs (digest), original_outcomes TEXT REFERENCES perfq_blobs (digest),
    CONSTRAINT perfq_records_once UNIQUE (run_id, nodeid, attempt)
)"""
INDEX = "CREATE INDEX perfq_records_case ON perfq_records (case_id, recorded_s)"


def upgrade(connection: Connection) -> None:
    """Creates the tables."""
    dialect = connection.dialect.name
    blob = "BYTEA" if dialect == "postgresql" else "BLOB"
    serial = "SERIAL PRIMARY KEY" if dialect == "postgresql" else "INTEGER PRIMARY KEY"
    for statement in (RUNS, FINGERPRINTS, BLOBS, RECORDS, INDEX):
        connection.exec_driver_sql(statement.format(blob=blob, serial=serial))
