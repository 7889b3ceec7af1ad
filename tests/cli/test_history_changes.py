"""`perfq history --changes`: where a case's level changed, from stored runs."""

import random
import re

import pytest
from making import MACHINE, latency
from sqlalchemy import create_engine, text

from pytest_perfq.core.fingerprint import Fingerprint
from pytest_perfq.core.verdict import judge
from pytest_perfq.store import Store

OLD, NEW = "a" * 40, "b" * 40


def runs(path, levels, *, number=0, revisions=None, machine=MACHINE, **settings):
    """One run a level, milliseconds, a day apart."""
    dice = random.Random(7)
    for at, level in enumerate(levels):
        stack = {**machine.stack, "revision": (revisions or [OLD] * len(levels))[at]}
        measurement = latency(
            number, ms=level * dice.gauss(1, 0.004), seed=at, machine=Fingerprint(machine.identity, stack, {})
        )
        with Store.open(path) as store:
            run = store.begin_run(["pytest"], {"items": 1, **settings})
            store.record(run, f"t.py::test[{number}]", measurement.to_json(), judge(measurement, ()).to_json())
            store.finish_run(run)
    spread = create_engine(f"sqlite:///{path}")
    with spread.begin() as connection:  # runs of one second would be of one moment
        connection.execute(text("UPDATE perfq_records SET recorded_s = 1.7e9 + 86400 * id"))
    spread.dispose()


@pytest.fixture
def store(tmp_path):
    return tmp_path / "results.db"


def test_a_step_is_named_with_its_runs_revisions_and_what_confirms_it(store, command):
    runs(store, [5.0] * 8 + [5.5] * 8, revisions=[OLD] * 8 + [NEW] * 8)
    status, out, _ = command("history", "--changes", "--store", str(store))
    assert status == 0
    row = next(line for line in out.splitlines() if "+10" in line or "+9." in line)
    change = float(re.search(r"([+-]\d+\.\d)%", row)[1])
    assert abs(change - 10.0) < 1.0
    assert f"{OLD[:10]}..{NEW[:10]}" in row
    assert f"; confirm it: perfq ab {OLD[:10]} {NEW[:10]}; find the commit: perfq bisect 'squad/bert/ort@cpu/" in out
    with Store.open(store, readonly=True) as opened:
        found = [one.run_id for one in opened.history(latency(0).case.id)]
    # The last run of the old level, the first of the new.
    assert f": between the runs {found[7]} and {found[8]}; confirm it: perfq ab" in out


def test_a_step_within_one_revision_is_the_machines(store, command):
    runs(store, [5.0] * 7 + [6.0] * 7)
    _, out, _ = command("history", "--changes", "--store", str(store))
    assert ", which are of one revision: the machine or the software under it has changed" in out


def test_a_level_history_and_a_short_one_have_no_change(store, command):
    runs(store, [5.0] * 12)
    status, out, _ = command("history", "--changes", "--store", str(store))
    assert (status, out) == (
        0,
        "no change of level of any of 1 cases in 12 runs; one is told once 5 runs stand on either side of it\n",
    )


def test_machines_are_series_of_their_own(store, command):
    other = Fingerprint({**MACHINE.identity, "cores": 64}, MACHINE.stack, {})
    runs(store, [5.0] * 7)
    runs(store, [3.0] * 7, machine=other)
    assert "no change of level" in command("history", "--changes", "--store", str(store))[1]


def test_steps_back_to_old_revisions_are_no_change_of_level(store, command):
    runs(store, [5.0] * 8)
    runs(store, [9.0] * 8, trial={"base": "old", "candidate": "new", "vs": None, "bisect": "a case"})
    assert "no change of level of any of 1 cases in 8 runs" in command("history", "--changes", "--store", str(store))[1]
    assert command("history", latency(0).case.id, "--store", str(store))[1].count(" pass") == 16


def test_without_a_case_the_history_asks_for_one(store, command):
    status, _, err = command("history", "--store", str(store))
    assert (status, err) == (3, "perfq: name a CASE, or ask for the --changes of all\n")
