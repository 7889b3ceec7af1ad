"""Energy of a call: from recorded readings of the counter, on a clock of the test's own."""

import pytest

from pytest_perfq.core.conditions import disturbances
from pytest_perfq.core.readings import summarize
from pytest_perfq.device import energy, nvml
from pytest_perfq.device.sampler import Blind, Recorded


class Gpu:
    """A clock, and calls that each take this long."""

    def __init__(self, call_s):
        self.call_s, self.now, self.queued, self.longest_queue = call_s, 0.0, 0, 0

    def call(self):
        self.queued += 1

    def synchronize(self):
        self.longest_queue = max(self.longest_queue, self.queued)
        self.now += self.queued * self.call_s
        self.queued = 0

    def __call__(self):
        return self.now


def readings(watts, *, counter=True, edge_j=50.0, missing=(), **gpu):
    """Ten a second for two seconds; at both edges the GPU idles, and the counter leaps by what that took."""
    found = []
    for number in range(21):
        at = {"idle": False, "sm_mhz": 1980, "reasons": [], "processes": [], **gpu}
        if counter:
            at["energy_j"] = 1000.0 + watts * number / 10 + (edge_j if number else 0.0)
        found.append({"monotonic_s": number / 10, "wall_s": number / 10, "gpu": at, "missing": list(missing)})
    return found


@pytest.mark.parametrize(("call_s", "watts"), [(0.0005, 350.0), (0.004, 70.0), (3.0, 512.0)])
def test_joules_are_watts_times_seconds(call_s, watts):
    gpu = Gpu(call_s)
    facts = energy.per_call(gpu.call, gpu.synchronize, Recorded([readings(watts)]), clock=gpu)
    assert facts["energy_per_call_j"] == pytest.approx(watts * call_s, rel=1e-3)
    assert facts["energy_power_w"] == watts
    assert facts["energy_calls"] * call_s >= energy.STRETCH_S
    assert gpu.longest_queue * call_s <= 2 * max(energy.QUEUE_S, call_s)  # nothing runs away from the clock


def test_power_by_the_counter_leaves_out_the_edges():
    found = summarize(readings(300.0, edge_j=40.0)).gpu
    assert found.counted_power_w == 300.0


def test_a_counter_that_stands_still_or_was_reset_tells_nothing():
    still = [{**one, "gpu": {**one["gpu"], "energy_j": 7.0}} for one in readings(1.0)]
    back = readings(-5.0)
    assert summarize(still).gpu.counted_power_w is summarize(back).gpu.counted_power_w is None
    gpu = Gpu(0.01)
    facts = energy.per_call(gpu.call, gpu.synchronize, Recorded([still]), clock=gpu)
    assert facts == {"energy_unknown": "the GPU's energy counter did not move in 2 s"}


@pytest.mark.parametrize("sentence", [nvml.SLICE_ENERGY, nvml.NO_ENERGY])
def test_a_gpu_that_does_not_tell_gives_its_reason(sentence):
    gpu = Gpu(0.01)
    sampler = Recorded([readings(100.0, counter=False, missing=[nvml.SILENT, sentence])])
    assert energy.per_call(gpu.call, gpu.synchronize, sampler, clock=gpu) == {"energy_unknown": sentence}


def test_power_that_others_had_a_part_in_is_not_this_call_s():
    other = {"pid": 4711, "memory_bytes": 2**30, "utilisation": 0.5}
    shared = readings(100.0, processes=[other])
    gpu = Gpu(0.01)
    facts = energy.per_call(gpu.call, gpu.synchronize, Recorded([shared]), clock=gpu)
    assert facts == {"energy_unknown": "process 4711 used 1.0 GiB of the GPU and 50 % of its time"}
    assert disturbances(summarize(shared)) == (facts["energy_unknown"],)


def test_a_gpu_at_its_power_cap_takes_what_it_takes():
    capped = readings(700.0, reasons=["power_cap"])
    capped[10]["gpu"]["sm_mhz"] = 1200
    assert disturbances(summarize(capped))  # a visit would be made again
    gpu = Gpu(0.01)
    facts = energy.per_call(gpu.call, gpu.synchronize, Recorded([capped]), clock=gpu)
    assert facts["energy_per_call_j"] == pytest.approx(7.0, rel=1e-3)


def test_a_sampler_that_was_lost_is_the_reason():
    gpu = Gpu(0.01)
    facts = energy.per_call(gpu.call, gpu.synchronize, Recorded([OSError("it was killed")]), clock=gpu)
    assert facts == {"energy_unknown": "the conditions of the visit are unknown: it was killed"}


def test_a_visit_that_cannot_be_watched_has_no_energy():
    gpu = Gpu(0.01)
    facts = energy.per_call(gpu.call, gpu.synchronize, Blind("visits cannot be watched on plan9: and so on"), clock=gpu)
    assert list(facts) == ["energy_unknown"]
