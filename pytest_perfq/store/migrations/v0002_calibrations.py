"""What A/A visits showed of a case on a machine: how far one program differs from itself."""

from __future__ import annotations

from sqlalchemy import Connection

CALIBRATIONS = """
CREATE TABLE perfq_calibrations (
    id {serial}, recorded_s DOUBLE PRECISION NOT NULL, machine TEXT NOT NULL, case_id TEXT NOT NULL, visits INTEGER NOT NULL,
    deviation DOUBLE PRECISION NOT NULL
)"""
INDEX = "CREATE INDEX perfq_calibrations_case ON perfq_calibrations (machine, case_id)"


def upgrade(connection: Connection) -> None:
    """Adds the table."""
    serial = "SERIAL PRIMARY KEY" if connection.dialect.name == "postgresql" else "INTEGER PRIMARY KEY"
    connection.exec_driver_sql(CALIBRATIONS.format(serial=serial))
    connection.exec_driver_sql(INDEX)
