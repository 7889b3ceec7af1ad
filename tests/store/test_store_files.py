"""SQLite stores as files: locks, killed runs, everything that is in the way."""

import json
import os
import signal
import sqlite3
import subprocess
import sys

import pytest
from generated import MEASUREMENTS
from hypothesis import HealthCheck, given, settings
from making import accuracy, latency

from pytest_perfq.core.measurement import Measurement
from pytest_perfq.core.verdict import judge
from pytest_perfq.errors import StoreError
from pytest_perfq.store import Store


@pytest.fixture
def path(tmp_path):
    return tmp_path / "history" / "results.db"


def put(store, run, nodeid, measurement):
    return store.record(run, nodeid, measurement.to_json(), judge(measurement, ()).to_json())


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(MEASUREMENTS)
def test_any_measurement_comes_back_exactly(tmp_path, measurement):
    with Store.open(tmp_path / "any.db") as store:
        run = store.begin_run([], {})
        plain = json.loads(json.dumps(measurement.to_json()))
        store.record(run, "item", plain, {"case_id": "c", "status": "pass", "findings": [], "limits": []})
        (record,) = store.records(run)
        assert record.measurement == plain
        assert Measurement.from_json(record.measurement) == measurement


def test_the_folder_ignores_itself_only_where_it_is_ours(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Store.open(".perfq/results.db").close()
    assert (tmp_path / ".perfq" / ".gitignore").read_text() == "*\n"
    Store.open("results.db").close()
    assert not (tmp_path / ".gitignore").exists()


def test_the_log_is_written_ahead(path):
    Store.open(path).close()
    assert sqlite3.connect(path).execute("PRAGMA journal_mode").fetchone() == ("wal",)


# -- what is in the way


def test_a_file_of_something_else_is_refused(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("not a database, but long enough to have a header of a hundred bytes" * 4)
    with pytest.raises(StoreError, match=r"notes.txt is not a perfq store or is torn \(file is not a database\); move it away"):
        Store.open(file)
    assert file.read_text().startswith("not a database")


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        StoreError, match=r"cannot create the store .*file/results.db: .*; mend that or give another --perf-store"
    ):
        Store.open(tmp_path / "file" / "results.db")


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "results.db").mkdir()
    with pytest.raises(StoreError, match=r"cannot open the store .*results.db: unable to open database file"):
        Store.open(tmp_path / "results.db")


def test_a_missing_store_is_not_made_by_reading(path):
    with pytest.raises(StoreError, match=r"there is no store at .*results.db; a run of pytest makes one"):
        Store.open(path, readonly=True)
    assert not path.parent.exists()


@pytest.mark.parametrize(
    "url, sentence",
    [
        ("nosuchthing://host/db", "needs the database driver .*; install it beside pytest-perfq"),
        ("://", "cannot read '://' as a database"),
    ],
)
def test_a_url_that_leads_nowhere_is_named(url, sentence):
    with pytest.raises(StoreError, match=sentence):
        Store.open(url)


def test_a_password_is_never_shown():
    with pytest.raises(StoreError) as caught:
        Store.open("nosuchthing://me:secret@host/db")
    assert "secret" not in str(caught.value) and "me:***@host" in str(caught.value)


# -- one run at a time


def test_two_runs_on_one_store_are_refused_naming_both(path):
    with Store.open(path) as first, Store.open(path) as second:
        run = first.begin_run([], {})
        with pytest.raises(StoreError) as caught:
            second.begin_run([], {})
        assert str(caught.value).startswith(f"two runs on one store: pid {os.getpid()} (since 20")
        assert f"and this is pid {os.getpid()}; wait for it to end" in str(caught.value)
        put(first, run, "a", latency())
        # Reading is free while another writes.
        assert [one.id for one in second.runs()] == [run]
        first.finish_run(run)
        assert second.begin_run([], {}) != run


WRITER = """
import sys
sys.path[:0] = [{tests!r}]
from making import latency
from pytest_perfq.core.verdict import judge
from pytest_perfq.store import Store
store = Store.open({path!r})
run = store.begin_run(["pytest"], {{"time": 1.0}})
number = 0
while True:
    measurement = latency(number % 50)
    store.record(run, f"item {{number}}", measurement.to_json(), judge(measurement, ()).to_json())
    print(number, flush=True)
    number += 1
"""


def test_a_killed_run_loses_at_most_the_case_in_flight(path):
    tests = os.path.dirname(os.path.dirname(__file__))
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER.format(tests=tests, path=str(path))], stdout=subprocess.PIPE, text=True
    )
    try:
        told = -1
        while told < 20:
            told = int(process.stdout.readline())
        with Store.open(path) as other, pytest.raises(StoreError, match=rf"two runs on one store: pid {process.pid} "):
            other.begin_run([], {})
    finally:
        process.send_signal(signal.SIGKILL)
        told += sum(1 for _ in process.stdout)
        process.wait()
    with Store.open(path) as store:
        run = store.last_unfinished_run()
        records = store.records(run.id)
        assert told >= 20 and len(records) in (told + 1, told + 2)
        assert [record.nodeid for record in records] == [f"item {number}" for number in range(len(records))]
        assert set(store.done(run.id)) == {record.nodeid for record in records}
        # Its lock died with it, and the run goes on where it stopped.
        assert put(store, run.id, "the next", accuracy([1, 0])) == 0
        store.finish_run(run.id)
        assert store.last_unfinished_run() is None


def test_a_thousand_cases_are_stored_and_read_back(path):
    plain = [(one.to_json(), judge(one, ()).to_json()) for one in (latency(number, rounds=60) for number in range(1000))]
    with Store.open(path) as store:
        run = store.begin_run([], {})
        for index, (measurement, verdict) in enumerate(plain):
            store.record(run, f"item {index}", measurement, verdict)
        assert [record.nodeid for record in store.records(run)] == [f"item {index}" for index in range(1000)]
