"""Brings a database to the schema this version writes, or says why it cannot. Knows no migration by name."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlalchemy import Connection, insert, inspect, select

from pytest_perfq.errors import StoreError
from pytest_perfq.store.database import Named
from pytest_perfq.store.migrations import Migration, known
from pytest_perfq.store.tables import schema

# Any constant will do, so long as every writer asks for the same one.
ADVISORY_KEY = 7_378_817_301


def version_of(connection: Connection) -> int:
    """The version of the schema in the database; 0 where there is none."""
    if not inspect(connection).has_table(schema.name):
        return 0
    return max(connection.execute(select(schema.c.version)).scalars(), default=0)


def check(connection: Connection, store: Named, migrations: Sequence[Migration] | None = None) -> None:
    """Raises StoreError unless the schema is exactly the one this version knows."""
    migrations = known() if migrations is None else migrations
    version = version_of(connection)
    _not_newer(version, len(migrations), store)
    if version < len(migrations):
        raise StoreError(
            f"the store {store} has schema {version} and this version reads {len(migrations)}; a run of pytest that writes to "
            "it brings it up to date"
        )


def migrate(connection: Connection, store: Named, migrations: Sequence[Migration] | None = None) -> None:
    """Applies what is missing, in order, in the caller's transaction. Raises StoreError for a newer schema."""
    migrations = known() if migrations is None else migrations
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({ADVISORY_KEY})")
    version = version_of(connection)
    _not_newer(version, len(migrations), store)
    if version == 0:
        schema.create(connection, checkfirst=True)
    for step in migrations[version:]:
        step.upgrade(connection)
        connection.execute(insert(schema).values(version=step.version, name=step.name, applied_s=time.time()))


def _not_newer(version: int, newest: int, store: Named) -> None:
    if version > newest:
        raise StoreError(
            f"the store {store} has schema {version} and this version of pytest-perfq knows up to {newest}; upgrade "
            f"pytest-perfq, or give another {store.option}"
        )
