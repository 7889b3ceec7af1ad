"""An attempt that goes on where the item's last one stood holds only the visits since: which attempt it continues."""

from __future__ import annotations

from sqlalchemy import Connection


def upgrade(connection: Connection) -> None:
    """Adds the column; every attempt stored so far holds all of its visits."""
    connection.exec_driver_sql("ALTER TABLE perfq_records ADD COLUMN continues INTEGER")
