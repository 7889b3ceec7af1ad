"""The conditions of visits in the store and in baselines: they come back, and what was written without them is read as ever."""

import json
import pickle
from dataclasses import replace

import pytest
from making import latency

from pytest_perfq import baselines
from pytest_perfq.baselines import samples
from pytest_perfq.core import packing
from pytest_perfq.core.conditions import Conditions, CpuConditions, Foreign, GpuConditions, disturbances
from pytest_perfq.core.measurement import Measurement, Visit
from pytest_perfq.core.verdict import judge
from pytest_perfq.store import Store

CALM = Conditions(
    duration_s=4.2, readings=18, cpu=CpuConditions(cpus=8, threads=4, steal=0.001, mhz_source="cpufreq", mean_mhz=3000.0)
)
HOT = Conditions(
    duration_s=4.0, readings=41, missing=("no pressure",), discarded=("it was hot",),
    gpu=GpuConditions(busy=39, throttled=(("hw_thermal", 0.5), ("power_cap", 1.0)), foreign=(Foreign(pid=7, memory_bytes=2**31),)),
)  # fmt: skip


def watched(*conditions, number=0):
    found = latency(number, visits=len(conditions), rounds=5)
    visits = [replace(visit, conditions=one) for visit, one in zip(found.visits, conditions, strict=True)]
    return replace(found, visits=tuple(visits))


def test_they_cross_processes_as_plain_json():
    found = watched(CALM, None, HOT)
    assert Measurement.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert [one.disturbances for one in found.visits] == [(), (), disturbances(HOT)] and len(disturbances(HOT)) == 3


def test_visits_that_nobody_watched_are_written_as_ever():
    visit = latency(visits=1).visits[0]
    assert "conditions" not in visit.to_json()
    assert "conditions" not in packing._split(packing.pack_visits([visit]))[0]
    assert packing._split(packing.pack_visits([replace(visit, conditions=HOT)]))[0]["conditions"] == [HOT.to_json()]
    assert Visit.from_json({side: values for side, values in visit.to_json().items() if side != "base"}) == visit


def test_the_store_gives_them_back(tmp_path):
    found = watched(CALM, HOT, None)
    with Store.open(str(tmp_path / "results.db")) as store:
        run = store.begin_run(["test"], {})
        store.record(run, "one", found.to_json(), judge(found, ()).to_json())
        (record,) = store.records(run)
    assert Measurement.from_json(record.measurement) == found
    assert record.status == "invalid"


@pytest.fixture
def saved(tmp_path):
    found = [watched(CALM, HOT, None), latency(1, visits=2), watched(HOT, number=2), watched(None, CALM, number=3)]
    return baselines.load(baselines.save(tmp_path / "base", found, [judge(one, ()) for one in found])), found


def test_a_baseline_gives_them_back(saved):
    loaded, found = saved
    for one in found:
        back = loaded.get(one.case.id)
        assert back == one and one == back and back.to_json() == one.to_json()
        assert [visit.disturbances for visit in back.visits] == [visit.disturbances for visit in one.visits]
        assert judge(back, ()) == judge(one, ())
    mine, theirs = found[0].visits[1], loaded.get(found[0].case.id).visits[1]
    assert hash(mine) == hash(theirs) and theirs != found[0].visits[0] and not (theirs == "text")
    assert pickle.loads(pickle.dumps(theirs)) == mine


def test_comparing_unpacks_the_conditions_of_disturbed_visits_alone(saved, monkeypatch):
    loaded, found = saved
    unpacked = []
    monkeypatch.setattr(samples.Conditions, "from_json", classmethod(lambda cls, values: unpacked.append(values) or HOT))
    for one in found:
        judge(latency(0, visits=3), (), loaded.get(one.case.id))
    assert unpacked == [HOT.to_json()] * len(unpacked)
    assert len(unpacked) > 0


def test_a_baseline_that_watched_nothing_is_the_one_of_earlier_versions(tmp_path):
    import numpy as np

    found = latency(visits=2)
    folder = baselines.save(tmp_path / "base", [found], [judge(found, ())])
    with np.load(folder / "samples/latency.npz") as arrays:
        assert sorted(arrays) == ["counts", "durations_ns", "median_errors", "medians_ns", "started_s"]
    assert [visit.conditions for visit in baselines.load(folder).get(found.case.id).visits] == [None, None]
