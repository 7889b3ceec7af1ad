"""The state of a store is looked at without making or changing one."""

import hashlib
import os

import pytest
from making import latency

from pytest_perfq.core.verdict import judge
from pytest_perfq.errors import StoreError
from pytest_perfq.store import State, Store, state


def made(path):
    with Store.open(str(path)) as store:
        run = store.begin_run(["pytest"], {"items": 1})
        measurement = latency()
        store.record(run, "t.py::test[a]", measurement.to_json(), judge(measurement, ()).to_json())
        store.finish_run(run)
    return str(path)


def test_a_store_that_is_there_can_be_written_to_and_stays_as_it_is(tmp_path):
    url = made(tmp_path / "runs.db")
    before = hashlib.sha256((tmp_path / "runs.db").read_bytes()).hexdigest()
    assert state(url) == State(url, True, 1, None)
    with Store.open(url, readonly=True) as store:
        assert len(store.runs()) == 1
    assert hashlib.sha256((tmp_path / "runs.db").read_bytes()).hexdigest() == before


def test_a_store_that_is_not_there_is_not_made(tmp_path):
    url = str(tmp_path / "new" / "folder" / "runs.db")
    assert state(url) == State(url, False, None, None)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_hold_a_store_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    found = state(str(tmp_path / "file" / "runs.db"))
    assert (found.exists, found.problem) == (False, f"{tmp_path / 'file'} is not a folder; give another --perf-store")
    # A superuser may write everywhere: the answer of the system is what is tested.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert state(str(tmp_path / "runs.db")).problem == (
        f"the folder {tmp_path} cannot be written to; change its permissions, or give another --perf-store"
    )


def test_what_is_no_store_is_said_and_left_alone(tmp_path):
    (tmp_path / "runs.db").write_text("this is a text, and long enough to be taken for the header of a database file")
    found = state(str(tmp_path / "runs.db"))
    assert (found.exists, found.runs) == (True, None) and "is not a perfq store or is torn" in found.problem
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs.db"]
    with pytest.raises(StoreError, match="cannot read 'what://is:this:url' as a database"):
        state("what://is:this:url")


def test_a_store_that_somebody_writes_to_for_good_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("pytest_perfq.store.database.BUSY_TIMEOUT_MS", 50)
    url = made(tmp_path / "runs.db")
    with Store.open(url) as store, store._engine.begin():  # an open transaction that writes
        found = state(url)
    assert found.runs == 1 and found.problem.startswith(f"cannot write to the store {url}: database is locked")


def test_a_password_is_not_shown():
    found = state("postgresql+psycopg://me:secret@localhost:1/none?connect_timeout=1")
    assert "secret" not in found.name + str(found.problem) and found.problem.startswith("cannot open the store postgresql")
