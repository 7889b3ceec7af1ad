"""Measurements that grow while they are stored: each visit is stored once, and every attempt comes back whole."""

import dataclasses

import pytest
from generated import SAMPLES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from making import latency
from sqlalchemy import func, select

from pytest_perfq.core import packing
from pytest_perfq.core.conditions import Conditions
from pytest_perfq.core.measurement import Visit
from pytest_perfq.core.verdict import judge
from pytest_perfq.store import Store
from pytest_perfq.store.tables import records


def put(store, run, measurement, nodeid="a", attempt=0):
    return store.record(run, nodeid, measurement.to_json(), judge(measurement, ()).to_json(), attempt)


def grown(whole, number):
    return dataclasses.replace(whole, visits=whole.visits[:number])


def stored_bytes(store):
    with store._engine.begin() as connection:
        return connection.execute(select(func.sum(func.length(records.c.visits)))).scalar()


def test_each_visit_is_stored_once_and_every_attempt_is_whole(url):
    whole = latency(visits=40, rounds=60)
    with Store.open(url) as store:
        run = store.begin_run([], {})
        steps = [*range(1, 41), 40]  # the last one is the verdict, with nothing new
        assert [put(store, run, grown(whole, number)) for number in steps] == list(range(41))
        assert [one.measurement for one in store.records(run)] == [grown(whole, number).to_json() for number in steps]
        assert [one.measurement for one in store.records(run, latest=True)] == [whole.to_json()]
        # Were all visits stored with every attempt, it would be twenty times as much.
        assert stored_bytes(store) < 1.5 * len(packing.pack_visits(whole.visits))


def test_a_rerun_stands_by_itself(url):
    first, again = latency(visits=2), latency(visits=3, seed=1)
    with Store.open(url) as store:
        run = store.begin_run([], {})
        for number, one in enumerate((first, again, grown(first, 1))):
            assert put(store, run, one) == number
        with store._engine.begin() as connection:
            assert connection.execute(select(records.c.continues)).scalars().all() == [None] * 3
        assert [one.measurement for one in store.records(run)] == [one.to_json() for one in (first, again, grown(first, 1))]


def test_a_run_goes_on_in_another_process_where_it_was_killed(tmp_path):
    whole = latency(visits=4)
    with Store.open(tmp_path / "it.db") as store:
        run = store.begin_run([], {})
        for number in (1, 2):
            put(store, run, grown(whole, number))
    with Store.open(tmp_path / "it.db") as store:
        store.resume_run(run)
        for number in (3, 4):
            put(store, run, grown(whole, number))
        with store._engine.begin() as connection:
            assert connection.execute(select(records.c.continues)).scalars().all() == [None, 0, 1, 2]
        assert {name: one.measurement for name, one in store.done(run).items()} == {"a": whole.to_json()}
        assert stored_bytes(store) == sum(len(packing.pack_visits([one])) for one in whole.visits)


VISITS = st.lists(
    st.builds(Visit, SAMPLES, base=SAMPLES, conditions=st.none() | st.just(Conditions(duration_s=0.5, readings=3))), max_size=4
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(st.lists(st.tuples(st.booleans(), VISITS), max_size=6))
def test_whatever_is_stored_comes_back(tmp_path, steps):
    """Whether it goes on where the last attempt stood or begins anew."""
    one, wanted = latency(visits=0), []
    with Store.open(tmp_path / "any.db") as store:
        run = store.begin_run([], {})
        for goes_on, visits in steps:
            one = dataclasses.replace(one, visits=(*(one.visits if goes_on else ()), *visits))
            put(store, run, one)
            wanted.append(one.to_json())
        assert [record.measurement for record in store.records(run)] == wanted


@pytest.mark.parametrize("option", ["--perf-store", "--store"])
def test_the_sentences_name_the_option_of_the_command_at_hand(tmp_path, option):
    from pytest_perfq.errors import StoreError

    path = tmp_path / "it.db"
    with Store.open(path) as first, Store.open(path, option=option) as second:
        first.begin_run([], {})
        with pytest.raises(StoreError, match=rf"; wait for it to end, or give this run another {option}$"):
            second.begin_run([], {})
    (tmp_path / "text").write_text("not a database, but long enough to have a header of a hundred bytes" * 4)
    with pytest.raises(StoreError, match=rf"; move it away or give another {option}$"):
        Store.open(tmp_path / "text", option=option)
    with pytest.raises(StoreError, match=rf"mend that or give another {option}$"):
        Store.open(tmp_path / "text" / "it.db", option=option)
    with pytest.raises(StoreError, match=rf"a run of pytest makes one, or give another {option}$"):
        Store.open(tmp_path / "away.db", option=option, readonly=True)
