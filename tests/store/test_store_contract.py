"""What every store keeps, whatever database it is in."""

import pytest
from making import accuracy, latency

from pytest_perfq.core.budget import Limit
from pytest_perfq.core.measurement import Measurement
from pytest_perfq.core.verdict import Verdict, judge
from pytest_perfq.errors import StoreError
from pytest_perfq.store import Store

LIMITS = (Limit("p95_ms", 6.0, None, "budget 1 for every case"), Limit("min_score", 0.9, None, "budget 2 for every case"))


@pytest.fixture
def store(url):
    with Store.open(url) as store:
        yield store


def put(store, run, nodeid, measurement, attempt=0):
    verdict = judge(measurement, LIMITS)
    return store.record(run, nodeid, measurement.to_json(), verdict.to_json(), attempt)


def test_a_record_comes_back_exactly(store):
    run = store.begin_run(["pytest", "suites"], {"time": 1.5, "visits": 3})
    measured = [latency(), accuracy([1, 1, 0, 1] * 250, [1] * 1000, churn={"n": 1000, "flips": 0, "margin_noise": 0.0})]
    for index, measurement in enumerate(measured):
        put(store, run, f"test_a.py::test[{index}]", measurement)
    records = store.records(run)
    assert [Measurement.from_json(record.measurement) for record in records] == measured
    assert [record.measurement for record in records] == [measurement.to_json() for measurement in measured]
    assert [Verdict.from_json(record.verdict) for record in records] == [judge(one, LIMITS) for one in measured]
    assert [(record.nodeid, record.attempt, record.case_id) for record in records] == [
        ("test_a.py::test[0]", 0, measured[0].case.id),
        ("test_a.py::test[1]", 0, measured[1].case.id),
    ]


def test_runs_are_listed_latest_first_with_what_they_held(store):
    first = store.begin_run(["pytest", "a"], {"time": 1.0})
    put(store, first, "a", latency(ms=5.0))
    put(store, first, "b", latency(1, ms=50.0))
    store.finish_run(first)
    second = store.begin_run(["pytest", "b"], {"time": 2.0})
    runs = store.runs()
    assert [run.id for run in runs] == [second, first]
    assert runs[1].statuses == {"pass": 1, "fail": 1}
    assert runs[1].argv == ("pytest", "a") and runs[1].settings == {"time": 1.0}
    assert runs[1].revision == "a" * 40 and runs[1].dirty is False
    assert runs[1].machine == latency().fingerprint.key
    assert runs[0].statuses == {} and runs[0].finished_s is None and runs[1].finished_s is not None
    assert store.run("last").id == second and store.run(first).id == first


def test_an_unknown_run_is_named_with_those_there_are(store):
    run = store.begin_run([], {})
    with pytest.raises(StoreError, match=f"there is no run 'yesterday' in the store .*; runs: {run}; see `perfq list runs`"):
        store.run("yesterday")


def test_the_unfinished_run_is_found_and_its_measured_items_are_done(store):
    run = store.begin_run([], {"time": 1.0})
    put(store, run, "a", latency())
    nothing = Measurement(case=latency(1).case, fingerprint=latency().fingerprint, unmeasured="no gpu t4 here")
    put(store, run, "b", nothing)
    found = store.last_unfinished_run()
    assert found is not None and found.id == run and found.settings == {"time": 1.0}
    assert {name: one.measurement for name, one in store.done(run).items()} == {"a": latency().to_json()}
    store.finish_run(run)
    assert store.last_unfinished_run() is None


def test_attempts_of_one_item_are_all_kept(store):
    run = store.begin_run([], {})
    assert [put(store, run, "a", latency(ms=ms)) for ms in (7.0, 5.0)] == [0, 1]
    assert put(store, run, "a", latency(ms=4.0), attempt=5) == 5
    assert [record.attempt for record in store.records(run)] == [0, 1, 5]
    assert [record.attempt for record in store.records(run, latest=True)] == [5]
    assert store.runs()[0].statuses == {"pass": 1}


def test_the_history_of_a_case_is_in_time_order(store):
    for ms in (5.0, 5.5, 8.0):
        run = store.begin_run([], {})
        put(store, run, "a", latency(ms=ms, noise=0.0))
        put(store, run, "other", latency(3))
        store.finish_run(run)
    points = store.history(latency().case.id)
    assert [point.p50_ms for point in points] == [5.0, 5.5, 8.0]
    assert [point.status for point in points] == ["pass", "pass", "fail"]
    assert [point.p95_ms for point in points] == [5.0, 5.5, 8.0]
    assert points[0].speedup == pytest.approx(2.0, rel=1e-9) and points[0].bytes == 66_000_000
    assert store.history("nothing") == []
    assert list(store.cases()) == sorted([latency().case.id, latency(3).case.id])


def test_a_record_of_no_run_is_refused(store):
    with pytest.raises(StoreError, match=r"there is no run 'none' in the store .*; begin one first"):
        put(store, "none", "a", latency())


def test_contents_are_stored_once(store):
    run = store.begin_run([], {})
    right = [1, 0, 1, 1] * 250
    for number in range(5):
        put(store, run, f"item {number}", accuracy(right, [1] * 1000, backend="ort", precision=("fp32", "fp16")[number % 2]))
    with store._engine.begin() as connection:
        from sqlalchemy import func, select

        from pytest_perfq.store.tables import blobs, fingerprints

        contents = connection.execute(select(func.count()).select_from(blobs)).scalar()
        size = connection.execute(select(func.sum(func.length(blobs.c.data)))).scalar()
        machines = connection.execute(select(func.count()).select_from(fingerprints)).scalar()
    # One list of ids, one set of outcomes, one of the original's.
    assert (contents, machines) == (3, 1)
    assert size < 30_000
