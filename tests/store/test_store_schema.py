"""The schema of a store: what the migrations lead to, past schemas and their data, steps that break."""

import dataclasses
import sqlite3
from pathlib import Path

import pytest
from making import accuracy, latency
from sqlalchemy import MetaData, create_engine, text

from pytest_perfq.core.verdict import judge
from pytest_perfq.errors import StoreError
from pytest_perfq.store import Store, migrate, tables
from pytest_perfq.store.database import Named, connect, parse
from pytest_perfq.store.migrations import Migration, known

# What version 2 wrote: latency() growing from one to three visits as three attempts, accuracy([1, 0, 1], [1, 1, 1]), and a
# calibration.
PAST = Path(__file__).parents[1] / "data" / "store_v2.sql"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "history" / "results.db"


def put(store, run, nodeid, measurement):
    return store.record(run, nodeid, measurement.to_json(), judge(measurement, ()).to_json())


def shape(metadata):
    return {
        table.name: [
            (column.name, column.nullable, column.primary_key, sorted(str(key.column) for key in column.foreign_keys))
            for column in table.columns
        ]
        for table in metadata.sorted_tables
    }


def test_the_migrations_lead_to_the_tables(path):
    Store.open(path).close()
    found = MetaData()
    found.reflect(create_engine(f"sqlite:///{path}"))
    assert sorted(found.tables) == sorted(tables.metadata.tables)
    names = {name: [column.name for column in table.columns] for name, table in found.tables.items()}
    assert names == {name: [column.name for column in table.columns] for name, table in tables.metadata.tables.items()}
    for name, table in tables.metadata.tables.items():
        for column in table.columns:
            theirs = found.tables[name].columns[column.name]
            assert column.primary_key == theirs.primary_key
            assert column.nullable == theirs.nullable or column.primary_key
            assert {key.target_fullname for key in column.foreign_keys} == {key.target_fullname for key in theirs.foreign_keys}
    uniques = [
        sorted(one.columns.keys()) for one in found.tables["perfq_records"].constraints if one.name == "perfq_records_once"
    ]
    assert uniques == [["attempt", "nodeid", "run_id"]]


def test_a_past_schema_is_upgraded_and_keeps_its_data(path):
    """The mechanism, with the present schema as the past one and a step that adds a column."""
    with Store.open(path) as store:
        run = store.begin_run(["pytest"], {})
        put(store, run, "a", latency())

    def upgrade(connection):
        connection.execute(text("ALTER TABLE perfq_runs ADD COLUMN note TEXT DEFAULT 'none'"))

    steps = [*known(), Migration(len(known()) + 1, "a note", upgrade)]
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        migrate.migrate(connection, Named("it"), steps)
        assert migrate.version_of(connection) == len(steps)
        assert connection.execute(text("SELECT id, note FROM perfq_runs")).all() == [(run, "none")]
        assert connection.execute(text("SELECT version, name FROM perfq_schema ORDER BY version")).all() == [
            (step.version, step.name) for step in steps
        ]
        migrate.migrate(connection, Named("it"), steps)
    with pytest.raises(StoreError, match="has schema 4 and this version of pytest-perfq knows up to 3; upgrade pytest-perfq"):
        Store.open(path)


def test_a_step_that_breaks_leaves_the_past_schema(path):
    Store.open(path).close()

    def upgrade(connection):
        connection.execute(text("ALTER TABLE perfq_runs ADD COLUMN note TEXT"))
        raise RuntimeError("broken step")

    steps = [*known(), Migration(len(known()) + 1, "broken", upgrade)]
    with pytest.raises(RuntimeError, match="broken step"), connect(parse(str(path)), False).begin() as connection:
        migrate.migrate(connection, Named("it"), steps)
    with Store.open(path) as store:
        assert store.runs() == []
    assert "note" not in [row[1] for row in sqlite3.connect(path).execute("PRAGMA table_info(perfq_runs)")]


def test_an_older_schema_is_not_read_without_the_right_to_upgrade_it(path):
    Store.open(path).close()
    sqlite3.connect(path, isolation_level=None).execute("DELETE FROM perfq_schema")
    with pytest.raises(
        StoreError, match="has schema 0 and this version reads 3; a run of pytest that writes to it brings it up to date"
    ):
        Store.open(path, readonly=True)


def test_a_store_of_version_2_is_brought_up_to_date_and_loses_nothing(path):
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.executescript(PAST.read_text())
    with pytest.raises(StoreError, match="has schema 2 and this version reads 3"):
        Store.open(path, readonly=True)
    whole, scored = latency(rounds=20), accuracy([1, 0, 1], [1, 1, 1])
    grown = [dataclasses.replace(whole, visits=whole.visits[:number]).to_json() for number in (1, 2, 3)]
    with Store.open(path) as store:
        run = store.run("last")
        assert [one.measurement for one in store.records(run.id)] == [*grown, scored.to_json()]
        assert [one.attempt for one in store.records(run.id)] == [0, 1, 2, 0] and run.statuses == {"pass": 2}
        assert [one.p50_ms for one in store.history(whole.case.id)] == [pytest.approx(5.0, rel=0.02)]
        assert {name: (one.visits, one.deviation) for name, one in store.calibrations().items()} == {whole.case.id: (6, 0.02)}
        # What is stored from now on may continue what was stored then.
        more = dataclasses.replace(whole, visits=(*whole.visits, *latency(seed=1).visits))
        assert put(store, run.id, "t.py::a", more) == 3
        assert store.records(run.id, latest=True)[-1].measurement == more.to_json()
