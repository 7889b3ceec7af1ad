"""What makes a visit worthless and what does not; readings summed up; cycles; and what the judge makes of it."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import latency

from pytest_perfq.core.budget import Limit
from pytest_perfq.core.conditions import REASONS, Conditions, CpuConditions, Foreign, GpuConditions, disturbances
from pytest_perfq.core.cycles import cycle_ratio, cycles
from pytest_perfq.core.readings import summarize
from pytest_perfq.core.verdict import judge

CALM = Conditions(duration_s=5.0, readings=21, cpu=CpuConditions(cpus=2, threads=2, steal=0.01, others_cpus=0.3))


def on_cpu(duration_s=5.0, **facts):
    return Conditions(duration_s=duration_s, readings=21, cpu=CpuConditions(**{"cpus": 2, "threads": 2, **facts}))


def on_gpu(**facts):
    return Conditions(duration_s=5.0, readings=50, gpu=GpuConditions(**{"busy": 48, **facts}))


# -- the rule


@pytest.mark.parametrize(
    ("conditions", "sentence"),
    [
        (
            on_gpu(throttled=(("power_cap", 0.8),), min_sm_mhz=1215.0, max_sm_mhz=1410.0),
            "the GPU was throttled by its power cap for 80 % of the visit (1,410 to 1,215 MHz)",
        ),
        (
            on_gpu(throttled=(("hw_slowdown", 0.3), ("hw_thermal", 0.3)), min_sm_mhz=900.0, max_sm_mhz=900.0),
            "the GPU was throttled by the hardware for its temperature for 30 % of the visit (900 to 900 MHz)",
        ),
        (
            on_gpu(throttled=(("hw_slowdown", 0.06),)),
            "the GPU was throttled by a hardware slowdown for 6 % of the visit",
        ),
        (on_gpu(foreign=(Foreign(pid=4711, memory_bytes=2254857830),)), "process 4711 used 2.1 GiB of the GPU"),
        (
            on_gpu(foreign=(Foreign(pid=4711, memory_bytes=2**30, utilisation=0.3),)),
            "process 4711 used 1.0 GiB of the GPU and 30 % of its time",
        ),
        (on_gpu(foreign=(Foreign(pid=7),)), "process 7 used memory of the GPU"),
        (on_cpu(throttled=12, throttled_s=0.4), "the cgroup throttled us 12 times for 0.4 s"),
        (on_cpu(0.1, throttled=1, throttled_s=0.05), "the cgroup throttled us once for 0.05 s"),
        (on_cpu(steal=0.19), "steal took 19 % of the visit"),
        (on_cpu(others_cpus=1.2), "other processes used 1.2 of 2 CPUs, and 2 threads of ours need one each"),
        (on_cpu(others_cpus=1.6, threads=1), "other processes used 1.6 of 2 CPUs, and 1 thread of ours needs one"),
        (Conditions(duration_s=5.0, clock_step_s=-3.25), "the clock stepped by -3.2 s during the visit"),
        (
            Conditions(unknown="the sampler process was killed by signal 9"),
            "the conditions of the visit are unknown: the sampler process was killed by signal 9",
        ),
    ],
)
def test_what_makes_a_visit_worthless(conditions, sentence):
    assert disturbances(conditions) == (sentence,)


@pytest.mark.parametrize(
    "conditions",
    [
        None,
        CALM,
        Conditions(missing=("the GPU cannot be sampled: NVML says Not Found",)),
        # A busy machine is the normal case.
        on_cpu(others_cpus=0.8, load_1min=7.0, pressure=0.6, min_mhz=800.0, max_mhz=3600.0, max_temperature_c=93.0),
        on_cpu(others_cpus=1.0, threads=1),
        on_cpu(steal=0.14),
        on_cpu(throttled=1, throttled_s=0.03),
        # Ticks of 10 ms say nothing of a tenth of a second.
        on_cpu(0.1, others_cpus=1.9, steal=0.5),
        # At its power cap with a steady clock, and a reading or two.
        on_gpu(throttled=(("power_cap", 1.0),), min_sm_mhz=1350.0, max_sm_mhz=1395.0),
        on_gpu(throttled=(("sw_thermal", 0.04),), min_sm_mhz=900.0, max_sm_mhz=1410.0),
        # Somebody's context that lies idle.
        on_gpu(foreign=(Foreign(pid=4711, memory_bytes=2**31, utilisation=0.0),)),
        Conditions(duration_s=5.0, clock_step_s=0.05),
    ],
)
def test_what_the_statistics_can_deal_with(conditions):
    assert disturbances(conditions) == ()


@given(st.floats(0, 8), st.floats(0, 8), st.integers(1, 8), st.integers(1, 8))
def test_more_of_others_never_disturbs_less(fewer, more, cpus, threads):
    fewer, more = sorted((fewer, more))
    count = [len(disturbances(on_cpu(cpus=cpus, threads=threads, others_cpus=one))) for one in (fewer, more)]
    assert count[0] <= count[1]


def test_every_reason_has_words():
    for reason in REASONS:
        (sentence,) = disturbances(on_gpu(throttled=((reason, 0.5),), min_sm_mhz=500.0, max_sm_mhz=1000.0))
        assert sentence == f"the GPU was throttled by {REASONS[reason]} for 50 % of the visit (1,000 to 500 MHz)"


# -- as plain JSON

SHARES = st.none() | st.floats(0, 1)
CPUS = st.builds(CpuConditions, cpus=st.integers(1, 256), steal=SHARES, mhz_source=st.none() | st.just("cpufreq"), throttled=st.none() | st.integers(0, 9), threads=st.integers(1, 4))  # fmt: skip
GPUS = st.builds(
    GpuConditions, busy=st.integers(0, 99), min_sm_mhz=st.none() | st.floats(1, 2e3),
    throttled=st.lists(st.tuples(st.sampled_from(sorted(REASONS)), st.floats(0, 1))).map(tuple),
    foreign=st.lists(st.builds(Foreign, pid=st.integers(1, 2**22), memory_bytes=st.none() | st.integers(0, 2**40), utilisation=SHARES)).map(tuple),
)  # fmt: skip
SENTENCES = st.lists(st.text()).map(tuple)
EVERY = st.builds(
    Conditions, duration_s=st.floats(0, 1e4), readings=st.integers(0, 99), clock_step_s=st.floats(-1e6, 1e6), cpu=st.none() | CPUS, gpu=st.none() | GPUS,
    missing=SENTENCES, unknown=st.none() | st.text(), discarded=SENTENCES,
)  # fmt: skip


@given(EVERY)
def test_conditions_survive_json(conditions):
    assert Conditions.from_json(json.loads(json.dumps(conditions.to_json()))) == conditions


def test_fields_of_a_later_version_are_passed_over():
    values = {"duration_s": 1.0, "moon": "full", "cpu": {"cpus": 2, "mood": 1}, "gpu": {"busy": 1, "fans": [1, 2]}}
    assert Conditions.from_json(values) == Conditions(duration_s=1.0, cpu=CpuConditions(cpus=2), gpu=GpuConditions(busy=1))


# -- readings


def reading(at, cpu=None, gpu=None, wall=0.0, **more):
    return {"monotonic_s": 100.0 + at, "wall_s": 1.7e9 + at + wall, "cpu": {"cpus": 2, "threads": 2, **(cpu or {})}} | (
        {"gpu": gpu} if gpu else {} | more
    )


def test_counters_are_summed_from_the_first_reading_to_the_last():
    first = {"busy_s": 50.0, "steal_s": 5.0, "own_s": 7.0, "throttled": 3, "throttled_s": 0.2, "pressure_s": 1.0}
    last = {"busy_s": 58.0, "steal_s": 7.0, "own_s": 12.0, "throttled": 15, "throttled_s": 0.6, "pressure_s": 2.0}
    rest = {"mhz": [800.0, 800.0], "mhz_source": "cpufreq"}
    found = summarize(
        [
            reading(0.0, first | rest | {"load_1min": 9.0, "temperature_c": 50.0}),
            reading(1.0, {"mhz": [3000.0, 3100.0], "mhz_source": "cpufreq", "temperature_c": 71.5}),
            reading(4.0, last | rest | {"load_1min": 1.5, "temperature_c": 60.0}),
        ]
    )
    assert (found.duration_s, found.readings, found.clock_step_s) == (4.0, 3, 0.0)
    assert found.cpu == CpuConditions(
        cpus=2, threads=2, load_1min=1.5, min_mhz=3000.0, mean_mhz=3050.0, max_mhz=3100.0, mhz_source="cpufreq", throttled=12,
        throttled_s=0.4, steal=0.2, own_cpus=1.25, others_cpus=0.75, pressure=0.25, max_temperature_c=71.5,
    )  # fmt: skip
    assert found.gpu is None and found.missing == ()


def test_nothing_was_stolen_in_a_visit_shorter_than_a_tick_of_the_counters():
    counters = {"busy_s": 50.0, "steal_s": 5.0, "own_s": 7.0}
    cpu = summarize([reading(0.0, counters), reading(0.002, counters)]).cpu
    assert cpu == CpuConditions(cpus=2, threads=2, steal=0.0, own_cpus=0.0, others_cpus=0.0)


def test_what_is_not_told_stays_unknown():
    assert summarize([reading(0.0), reading(1.0)]).cpu == CpuConditions(cpus=2, threads=2)
    assert summarize([]) == Conditions(unknown="0 readings were taken, and at least 2 are needed")


def gpu(sm=1400, reasons=(), **more):
    return {"sm_mhz": sm, "memory_mhz": 877, "reasons": list(reasons), "idle": False, "temperature_c": 60, "power_w": 65.0, "power_cap_w": 70.0, **more}  # fmt: skip


def test_an_idle_gpu_is_no_slow_one():
    found = summarize(
        [
            reading(0.0, gpu=gpu(300, idle=True)),
            reading(0.1, gpu=gpu(1410)),
            *(reading(0.2 + step / 10, gpu=gpu(1215, ["power_cap"], power_w=70.5, temperature_c=80)) for step in range(4)),
            reading(0.7, gpu=gpu(300, idle=True)),
        ]
    )
    assert found.gpu == GpuConditions(
        busy=5, min_sm_mhz=1215.0, mean_sm_mhz=1254.0, max_sm_mhz=1410.0, mean_memory_mhz=877.0, throttled=(("power_cap", 0.8),),
        mean_power_w=69.4, max_power_w=70.5, power_cap_w=70.0, max_temperature_c=80.0,
    )  # fmt: skip
    assert disturbances(found) == ("the GPU was throttled by its power cap for 80 % of the visit (1,410 to 1,215 MHz)",)


def test_another_process_counts_with_the_most_that_it_was_seen_with():
    others = [
        [],
        [{"pid": 9, "memory_bytes": 10, "utilisation": 0.0}],
        [{"pid": 9, "memory_bytes": 90, "utilisation": 0.25}, {"pid": 3}],
    ]
    found = summarize([reading(at, gpu=gpu(processes=one)) for at, one in enumerate(others)])
    assert found.gpu.foreign == (Foreign(pid=3), Foreign(pid=9, memory_bytes=90, utilisation=0.25))


@given(st.floats(-3600, 3600), st.integers(1, 6))
def test_a_step_of_the_clock_is_found_whenever_it_comes(step, when):
    found = summarize([reading(at, wall=step if at >= when else 0.0) for at in range(7)])
    assert found.clock_step_s == pytest.approx(step, abs=2e-3)
    assert bool(disturbances(found)) == (abs(found.clock_step_s) > 0.1)


def test_a_clock_that_is_slewed_is_none_that_steps():
    assert disturbances(summarize([reading(at, wall=at * 0.0005) for at in range(100)])) == ()


def test_what_cannot_be_sampled_is_said_once():
    found = summarize([{**reading(at), "missing": ["no GPU", "no CPU"]} for at in range(3)])
    assert found.missing == ("no GPU", "no CPU") and disturbances(found) == ()


# -- cycles


def test_a_slowdown_of_the_clock_alone_vanishes_in_cycles():
    fast, slow = (on_gpu(mean_sm_mhz=mhz) for mhz in (1410.0, 1128.0))
    assert cycles(2000.0, fast) == pytest.approx(2820.0)  # 2 us at 1,410 MHz
    assert cycle_ratio(1.25e6, slow, 1e6, fast) == pytest.approx(1.0)
    assert cycle_ratio(1.25e6, fast, 1e6, fast) == pytest.approx(1.25)


@given(st.floats(1, 1e9), st.floats(1, 1e9), st.floats(100, 4000))
def test_at_one_clock_cycles_say_what_time_says(mine, theirs, mhz):
    conditions = on_cpu(mhz_source="cpufreq", min_mhz=mhz, mean_mhz=mhz, max_mhz=mhz)
    assert cycle_ratio(mine, conditions, theirs, conditions) == pytest.approx(mine / theirs)


@pytest.mark.parametrize(
    "conditions",
    [
        None,
        Conditions(unknown="it ended"),
        CALM,
        on_cpu(mhz_source="cpuinfo", min_mhz=2445.0, mean_mhz=2445.0, max_mhz=2445.0),
        on_cpu(mhz_source="cpufreq", min_mhz=800.0, mean_mhz=2000.0, max_mhz=3600.0),
        on_gpu(busy=2, mean_sm_mhz=1410.0),
        on_gpu(mean_sm_mhz=None),
        replace(on_gpu(), cpu=CpuConditions(cpus=1, mhz_source="cpufreq", min_mhz=2e3, mean_mhz=2e3, max_mhz=2e3)),
    ],
)
def test_no_cycles_without_a_clock_to_rely_on(conditions):
    known = on_gpu(mean_sm_mhz=1410.0)
    assert cycles(1e6, conditions) is None
    assert cycle_ratio(1e6, conditions, 1e6, known) is None and cycle_ratio(1e6, known, 1e6, conditions) is None


# -- the judge

THROTTLED = replace(
    on_gpu(throttled=(("hw_thermal", 0.5),), min_sm_mhz=500.0, max_sm_mhz=1000.0), discarded=("it was hot", "it was hot")
)
WHY = "the GPU was throttled by the hardware for its temperature for 50 % of the visit (1,000 to 500 MHz)"


def under(conditions, visit=1, **options):
    measured = latency(**options)
    visits = [replace(one, conditions=conditions if number == visit else CALM) for number, one in enumerate(measured.visits)]
    return replace(measured, visits=tuple(visits))


@pytest.mark.parametrize("ms", [1.0, 5.0, 50.0])
def test_a_disturbed_case_is_invalid_and_neither_slow_nor_fast(ms):
    limits = [Limit("p50_ms", 6.0, None, "one"), Limit("min_speedup", 1.5, None, "two"), Limit("max_slowdown", 0.1, None, "three"), Limit("max_bytes", 1e9, None, "four")]  # fmt: skip
    found = judge(under(THROTTLED, ms=ms), limits, latency(ms=5.0))
    assert {one.rule: one.status for one in found.findings} == {
        "p50_ms": "invalid", "min_speedup": "invalid", "max_slowdown": "invalid", "max_bytes": "pass",
    }  # fmt: skip
    note = f"visit 2 of 3 was disturbed, and again when it was repeated 2 times: {WHY}; measure again when the machine has nothing else to do"
    assert {one.note for one in found.findings if one.status == "invalid"} == {note}
    assert found.status == "invalid" and not found.failed


def test_a_disturbed_case_is_invalid_without_any_promise():
    (one,) = judge(under(THROTTLED), ()).findings
    assert (one.rule, one.status) == ("measured", "invalid") and WHY in one.note


def test_a_disturbed_baseline_tells_nothing():
    (one,) = judge(latency(ms=50.0), (), under(THROTTLED, visit=0)).findings
    assert (one.rule, one.status) == ("slowdown", "invalid")
    assert (
        one.note
        == f"in the baseline visit 1 of 3 was disturbed, and again when it was repeated 2 times: {WHY}; save a new baseline"
    )


def test_calm_and_unwatched_visits_are_judged_alike():
    limits = [Limit("p50_ms", 6.0, None, "one")]
    assert judge(under(CALM), limits, under(CALM)) == judge(latency(), limits, latency())


@pytest.mark.parametrize("taken", [on_cpu(steal=0.6), on_cpu(others_cpus=1.9, steal=0.3)])
def test_what_falls_on_both_sides_alike_spoils_no_ratio(taken):
    assert disturbances(taken) and disturbances(taken, ratio=True) == ()


def test_what_does_not_fall_on_both_sides_alike_spoils_a_ratio_too():
    stopped = on_cpu(throttled=12, throttled_s=0.4)
    assert disturbances(stopped, ratio=True) == disturbances(stopped) != ()
