"""Visits that something outside spoils, replayed from recordings: repeated, and where that does not help invalid, never slow."""

import gc

import pytest

from pytest_perfq.contracts import Resources
from pytest_perfq.core.budget import Limit
from pytest_perfq.core.case import Case
from pytest_perfq.core.measurement import Measurement
from pytest_perfq.core.spec import Spec
from pytest_perfq.core.verdict import judge
from pytest_perfq.device.conditions import REPEATS, watched
from pytest_perfq.device.sampler import Recorded, SamplerProcess
from pytest_perfq.runner import Plan, Workbench

LIMIT = Limit("p50_ms", 1000.0, None, "budget 1 for every case")
CPU = {"cpus": 2, "threads": 1, "busy_s": 0.0, "steal_s": 0.0, "own_s": 0.0, "throttled": 0, "throttled_s": 0.0}
GPU = {"sm_mhz": 1410, "memory_mhz": 877, "idle": False, "reasons": [], "processes": []}


def visit(last=(), gpu=None, step_s=0.0):
    """Eleven readings of a visit of five seconds. last: counters at its end. gpu: of all but the first two readings."""
    return [
        {
            "monotonic_s": 100.0 + number / 2,
            "wall_s": 1.7e9 + number / 2 + (step_s if number > 6 else 0.0),
            "cpu": CPU | (dict(last) if number == 10 else {}),
            "gpu": GPU | (gpu if gpu and number > 1 else {}),
        }
        for number in range(11)
    ]


CALM = visit()
CAPPED = visit(gpu={"sm_mhz": 1215, "reasons": ["power_cap"]})
DISTURBED = [
    (CAPPED, "the GPU was throttled by its power cap for 82 % of the visit (1,410 to 1,215 MHz)"),
    (visit(gpu={"processes": [{"pid": 4711, "memory_bytes": 2254857830}]}), "process 4711 used 2.1 GiB of the GPU"),
    (visit(step_s=-30.0), "the clock stepped by -30.0 s during the visit"),
    (visit({"throttled": 12, "throttled_s": 0.4}), "the cgroup throttled us 12 times for 0.4 s"),
    (visit({"busy_s": 4.05, "own_s": 4.0, "steal_s": 0.95}), "steal took 19 % of the visit"),
    (visit({"busy_s": 10.0, "own_s": 2.0}), "other processes used 1.6 of 2 CPUs, and 1 thread of ours needs one"),
    (
        RuntimeError("the sampler process was killed by signal 9"),
        "the conditions of the visit are unknown: the sampler process was killed by signal 9",
    ),
]


def case(backend="eager"):
    return Case(
        task=Spec("tiny"), dataset="synthetic", model="m", model_name="m", backend=Spec(backend), batch_size=1, seq_len=8
    )


@pytest.fixture
def measure(fakes, tmp_path, monkeypatch):
    """Measures a case in two visits of the tiny task, with this sampler; what was told goes to `lines`."""
    monkeypatch.setattr(gc, "collect", lambda: 0)  # of all that the tests have loaded, before every visit
    lines = []

    def run(watcher, visits=2):
        plan = Plan(time_s=0.02, precision=0.5, visits=visits)
        bench = Workbench(plan, Resources(cache=tmp_path, threads=1, progress=lines.append), watcher)
        try:
            return bench.measure(case())
        finally:
            bench.close()

    run.lines = lines
    return run


@pytest.mark.parametrize(("spoilt", "sentence"), DISTURBED)
def test_disturbed_once_is_repeated_and_then_fine(measure, spoilt, sentence):
    watcher = Recorded([CALM, spoilt, CALM])
    found = measure(watcher)
    assert watcher.begun == 3
    assert [one.disturbances for one in found.visits] == [(), ()]
    assert [one.conditions.discarded for one in found.visits] == [(), (sentence,)]
    assert f"a disturbed visit is made again: {sentence}" in measure.lines
    verdict = judge(found, [LIMIT])
    assert verdict.status == "pass"


@pytest.mark.parametrize(("spoilt", "sentence"), DISTURBED)
def test_always_disturbed_is_invalid_and_names_the_reason(measure, spoilt, sentence):
    watcher = Recorded([spoilt])
    found = measure(watcher)
    # The first visit three times; the second once, for it can mend nothing any more.
    assert watcher.begun == 1 + REPEATS + 1
    assert found.visits[0].conditions.discarded == (sentence,) * REPEATS and found.visits[1].conditions.discarded == ()
    assert all(one.case.durations_ns and one.anchor.durations_ns for one in found.visits)  # the samples stay
    (finding,) = judge(found, [LIMIT]).findings
    assert (finding.rule, finding.status) == ("p50_ms", "invalid")
    assert finding.note == (
        f"visit 1 of 2 was disturbed, and again when it was repeated 2 times: {sentence}; 2 of 2 visits were disturbed; measure "
        "again when the machine has nothing else to do"
    )
    assert judge(Measurement.from_json(found.to_json()), [LIMIT]) == judge(found, [LIMIT])


def test_a_disturbed_baseline_or_candidate_is_never_slow_or_fast(measure):
    calm, hot = measure(Recorded([CALM]), visits=3), measure(Recorded([CAPPED]), visits=3)
    assert {judge(*pair).status for pair in ((calm, (), hot), (hot, (), calm), (hot, (), hot))} == {"invalid"}


def test_the_real_sampler_watches_every_visit(measure):
    watcher = SamplerProcess()
    found = measure(watcher)
    assert [one.conditions.unknown for one in found.visits] == [None, None]
    for one in found.visits:
        took = sum(sum(side.durations_ns) + sum(side.warmup_ns) for side in (one.case, one.anchor))
        assert one.conditions.duration_s >= took / 1e9
        assert one.conditions.cpu.threads == 1
    assert watcher.pid is None  # the workbench has closed it


def test_what_ends_a_visit_in_the_middle_ends_the_watching():
    watcher = Recorded([CALM])

    def interrupted():
        raise KeyboardInterrupt

    ended = []
    watcher.end = lambda: ended.append(True)
    with pytest.raises(KeyboardInterrupt):
        watched(interrupted, watcher, device="cpu", threads=1)
    assert ended == [True]
