"""What a machine went through during one visit, as plain facts, and the one rule about them: what makes a visit worthless.

On a CPU a busy machine is the normal case, and alternated sides, visits and their statistics deal with it. A disturbance is
what they cannot deal with: a clock that was taken down, time that somebody else took, or not knowing. Pure: reads no machine.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

GIB = 1024**3

# What throttles a GPU, by the names that readings use, and as a sentence says it. Source of the meanings: NVML's clocks event
# reasons. Idling, clocks set by a person and a display's needs are not among them: they are no misfortune of the visit.
REASONS = {
    "power_cap": "its power cap",
    "hw_slowdown": "a hardware slowdown",
    "sync_boost": "sync boost with a slower GPU",
    "sw_thermal": "the driver for its temperature",
    "hw_thermal": "the hardware for its temperature",
    "power_brake": "an external power brake",
}
# A card at its power cap is a card at work, and many hold a steady clock there: only a clock that moves makes rounds differ.
STEADY = frozenset({"power_cap", "sync_boost"})
# Share of the readings; one stray reading in a visit of five seconds is a fiftieth.
THROTTLED_SHARE = 0.05
# Fraction of the highest clock: the size of a slow-down that matters (core.slowdown.EFFECT).
CLOCK_FALL = 0.05
# An idle context of somebody else's takes no time, and where the driver tells time below this it is idle.
FOREIGN_UTILISATION = 0.01
# Share of the visit that a quota stopped us: one stop in a hundred rounds already is the tail that a p99 is made of.
QUOTA_SHARE = 0.01
# Share of the time that was wanted, taken by the hypervisor. A few per cent are every day's on a shared machine and fall on all
# sides alike; of a sixth they no longer get even shares.
STEAL_SHARE = 0.15
# Share of our threads' time: from half on a round waits for longer than it runs.
SHORTAGE = 0.5
# CPU time is counted in ticks of 10 ms: in a shorter visit a few of them are a large share.
SHORTEST_S = 0.5
# Clocks are slewed by at most a thousandth: more than this between two readings is a step.
CLOCK_STEP_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuConditions:
    """The CPUs that the visit might run on; None where the system does not tell.

    threads: of ours that compute at once. *_mhz: over these CPUs and the visit. mhz_source: 'cpufreq', or 'cpuinfo' which on
    virtual machines is a constant. throttled: times that a cgroup's quota stopped us, for throttled_s in all. steal: what a
    hypervisor kept of the CPU time that was wanted, a share. own_cpus, others_cpus: CPUs' worth of time, of the processes of
    the visit and of all others. pressure: share of the visit in which some process of the machine waited for a CPU.
    """

    cpus: int
    threads: int = 1
    load_1min: float | None = None
    min_mhz: float | None = None
    mean_mhz: float | None = None
    max_mhz: float | None = None
    mhz_source: str | None = None
    throttled: int | None = None
    throttled_s: float | None = None
    steal: float | None = None
    own_cpus: float | None = None
    others_cpus: float | None = None
    pressure: float | None = None
    max_temperature_c: float | None = None

    @property
    def shortage(self) -> float:
        """Share of our threads' time that other processes took, since there were not CPUs enough for both."""
        return max(0.0, self.threads + (self.others_cpus or 0.0) - self.cpus) / self.threads


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """Another process on the GPU. utilisation: the largest share of the GPU's time that it used; None: not told."""

    pid: int
    memory_bytes: int | None = None
    utilisation: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuConditions:
    """The GPU, over the readings in which it was at work; None where the driver does not tell.

    busy: how many those are. counted_power_w: the mean by the GPU's own energy counter, which misses nothing between two
    readings. throttled: (a name of REASONS, share of those readings), in order of names.
    """

    busy: int = 0
    min_sm_mhz: float | None = None
    mean_sm_mhz: float | None = None
    max_sm_mhz: float | None = None
    mean_memory_mhz: float | None = None
    throttled: tuple[tuple[str, float], ...] = ()
    foreign: tuple[Foreign, ...] = ()
    mean_power_w: float | None = None
    max_power_w: float | None = None
    power_cap_w: float | None = None
    counted_power_w: float | None = None
    max_temperature_c: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """One visit's. clock_step_s: the largest jump of the wall clock against the monotonic one, 0 without any.

    missing: what cannot be sampled on this machine and why, sentences. unknown: why nothing is known of this visit, though it
    was to be; None where it is known. discarded: the disturbances of earlier attempts, whose samples were thrown away.
    """

    duration_s: float = 0.0
    readings: int = 0
    clock_step_s: float = 0.0
    cpu: CpuConditions | None = None
    gpu: GpuConditions | None = None
    missing: tuple[str, ...] = ()
    unknown: str | None = None
    discarded: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON without what says nothing."""
        found = _said(self)
        if self.cpu is not None:
            found["cpu"] = _said(self.cpu) | {"cpus": self.cpu.cpus}
        if self.gpu is not None:
            found["gpu"] = _said(self.gpu)
            if self.gpu.throttled:
                found["gpu"]["throttled"] = [[reason, share] for reason, share in self.gpu.throttled]
            if self.gpu.foreign:
                found["gpu"]["foreign"] = [_said(one) for one in self.gpu.foreign]
        return found

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Conditions:
        """The inverse of to_json. Fields of a later version are passed over."""
        given = _known(cls, values)
        if "cpu" in given:
            given["cpu"] = CpuConditions(**_known(CpuConditions, given["cpu"]))
        if "gpu" in given:
            gpu = _known(GpuConditions, given["gpu"])
            gpu["throttled"] = tuple((reason, share) for reason, share in gpu.get("throttled", ()))
            gpu["foreign"] = tuple(Foreign(**_known(Foreign, one)) for one in gpu.get("foreign", ()))
            given["gpu"] = GpuConditions(**gpu)
        return cls(**given)


def _said(one: Any) -> dict[str, Any]:
    values = {field.name: (getattr(one, field.name), field.default) for field in fields(one)}
    return {
        name: [*value] if isinstance(value, tuple) else value for name, (value, default) in values.items() if value != default
    }


def _known(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {name: tuple(one) if isinstance(one, list) else one for name, one in values.items() if name in names}


def disturbances(conditions: Conditions | None, *, ratio: bool = False) -> tuple[str, ...]:
    """What made the visit worthless, a sentence without a full stop each; none of a visit that was never watched.

    ratio: only the ratio of its alternated sides counts. What the hypervisor and other processes take of the CPUs falls on both
    sides alike: that is noise, which the visits themselves show."""
    if conditions is None:
        return ()
    if conditions.unknown is not None:
        return (f"the conditions of the visit are unknown: {conditions.unknown}",)
    found = []
    if abs(conditions.clock_step_s) > CLOCK_STEP_S:
        found.append(f"the clock stepped by {conditions.clock_step_s:+.1f} s during the visit")
    if conditions.gpu is not None:
        found += [*_throttling(conditions.gpu), *_foreign(conditions.gpu)]
    if conditions.cpu is not None:
        found += _throttled(conditions.cpu, conditions.duration_s)
        found += [] if ratio else _taken(conditions.cpu, conditions.duration_s)
    return tuple(found)


def _throttling(gpu: GpuConditions) -> list[str]:
    low, high = gpu.min_sm_mhz, gpu.max_sm_mhz
    fell = low is not None and high is not None and low < high * (1.0 - CLOCK_FALL)
    named = {reason for reason, _ in gpu.throttled}
    if named & {"hw_thermal", "power_brake"}:
        named.discard("hw_slowdown")  # NVML raises it for each of them as well
    clocks = f" ({high:,.0f} to {low:,.0f} MHz)" if low is not None and high is not None else ""
    return [
        f"the GPU was throttled by {REASONS[reason]} for {share * 100:.0f} % of the visit{clocks}"
        for reason, share in gpu.throttled
        if reason in named and share >= THROTTLED_SHARE and (fell or low is None or reason not in STEADY)
    ]


def _foreign(gpu: GpuConditions) -> list[str]:
    found = []
    for one in gpu.foreign:
        if one.utilisation is not None and one.utilisation < FOREIGN_UTILISATION:
            continue
        memory = "memory" if one.memory_bytes is None else f"{one.memory_bytes / GIB:.1f} GiB"
        time = "" if one.utilisation is None else f" and {one.utilisation * 100:.0f} % of its time"
        found.append(f"process {one.pid} used {memory} of the GPU{time}")
    return found


def _throttled(cpu: CpuConditions, duration_s: float) -> list[str]:
    if not cpu.throttled or (cpu.throttled_s or 0.0) <= QUOTA_SHARE * duration_s:
        return []
    times = "once" if cpu.throttled == 1 else f"{cpu.throttled} times"
    return [f"the cgroup throttled us {times} for {cpu.throttled_s:.2g} s"]


def _taken(cpu: CpuConditions, duration_s: float) -> list[str]:
    found: list[str] = []
    if duration_s < SHORTEST_S:
        return found
    if (cpu.steal or 0.0) > STEAL_SHARE:
        found.append(f"steal took {(cpu.steal or 0.0) * 100:.0f} % of the visit")
    if cpu.shortage >= SHORTAGE:
        ours = "1 thread of ours needs one" if cpu.threads == 1 else f"{cpu.threads} threads of ours need one each"
        found.append(f"other processes used {cpu.others_cpus:.1f} of {cpu.cpus} CPUs, and {ours}")
    return found
