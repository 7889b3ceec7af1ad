"""Readings of a machine, taken while a visit went on, summed up as its Conditions. Pure: knows no /proc and no NVML.

A reading is plain JSON, since it crosses a pipe:

    monotonic_s, wall_s     both clocks at (nearly) one moment
    cpu                     cpus, threads; load_1min, mhz (of each CPU), mhz_source, temperature_c;
                            counters, of the first and the last reading: busy_s, steal_s, own_s (CPU time on these CPUs),
                            throttled, throttled_s (of the cgroup and those above it), pressure_s
    gpu                     sm_mhz, memory_mhz, power_w, energy_j (a counter), power_cap_w, temperature_c, idle,
                            reasons (names of REASONS), processes: [{pid, memory_bytes, utilisation}] of others
    missing                 sentences

What a machine does not tell is left out or None.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from pytest_perfq.core.conditions import Conditions, CpuConditions, Foreign, GpuConditions

Reading = dict[str, Any]
# Digits of what is kept: more are noise, and take their place in every store.
DIGITS = 4


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _all(readings: Iterable[Reading], name: str) -> list[float]:
    return [one[name] for one in readings if one.get(name) is not None]


def _mean(values: Sequence[float]) -> float | None:
    return _short(sum(values) / len(values)) if values else None


def _most(values: Sequence[float]) -> float | None:
    return _short(max(values)) if values else None


def _least(values: Sequence[float]) -> float | None:
    return _short(min(values)) if values else None


def summarize(readings: Sequence[Reading]) -> Conditions:
    """The conditions of a visit from its readings in order, the first taken just before it and the last just after."""
    if len(readings) < 2:
        return Conditions(unknown=f"{len(readings)} readings were taken, and at least 2 are needed")
    duration_s = readings[-1]["monotonic_s"] - readings[0]["monotonic_s"]
    missing = {sentence: None for one in readings for sentence in one.get("missing", ())}
    cpus = [one["cpu"] for one in readings if one.get("cpu")]
    gpus = [one["gpu"] for one in readings if one.get("gpu")]
    return Conditions(
        duration_s=round(duration_s, 4),
        readings=len(readings),
        clock_step_s=_clock_step_s(readings),
        cpu=_cpu(cpus, duration_s) if cpus else None,
        gpu=replace(_gpu(gpus), counted_power_w=_counted_power_w(readings)) if gpus else None,
        missing=tuple(missing),
    )


def _clock_step_s(readings: Sequence[Reading]) -> float:
    """The largest difference, with its sign, between what the two clocks say passed from one reading to the next."""
    ahead = [one["wall_s"] - one["monotonic_s"] for one in readings]
    steps: list[float] = [later - earlier for earlier, later in itertools.pairwise(ahead)]
    furthest = max(steps, key=abs)
    return round(furthest, 3)


def _cpu(readings: Sequence[Reading], duration_s: float) -> CpuConditions:
    first, last = readings[0], readings[-1]

    def passed(name: str) -> float | None:
        if first.get(name) is None or last.get(name) is None:
            return None
        return max(0.0, float(last[name] - first[name]))

    def share(value: float | None) -> float | None:
        return None if value is None or duration_s <= 0.0 else _short(value / duration_s)

    busy, steal, own = passed("busy_s"), passed("steal_s"), passed("own_s")
    wanted = None if busy is None or steal is None else busy + steal
    throttled, throttled_s = passed("throttled"), passed("throttled_s")
    # The first and the last reading find the CPUs at rest, and clocked down.
    clocks = [one for one in readings[1:-1] if one.get("mhz")] or [one for one in readings if one.get("mhz")]
    mhz = [float(clock) for one in clocks for clock in one["mhz"]]
    return CpuConditions(
        cpus=first["cpus"],
        threads=first.get("threads", 1),
        load_1min=last.get("load_1min"),
        min_mhz=_least(mhz),
        mean_mhz=_mean(mhz),
        max_mhz=_most(mhz),
        mhz_source=clocks[0].get("mhz_source") if clocks else None,
        throttled=None if throttled is None else int(throttled),
        throttled_s=None if throttled_s is None else _short(throttled_s),
        # In a visit shorter than a tick nobody is seen to have wanted anything, and nothing was taken.
        steal=None if wanted is None or steal is None else _short(steal / wanted) if wanted else 0.0,
        own_cpus=share(own),
        others_cpus=None if busy is None or own is None else share(max(0.0, busy - own)),
        pressure=share(passed("pressure_s")),
        max_temperature_c=_most(_all(readings, "temperature_c")),
    )


def _gpu(readings: Sequence[Reading]) -> GpuConditions:
    busy = [one for one in readings if not one.get("idle")]
    reasons = sorted({reason for one in busy for reason in one.get("reasons", ())})
    sm, power = _all(busy, "sm_mhz"), _all(busy, "power_w")
    return GpuConditions(
        busy=len(busy),
        min_sm_mhz=_least(sm),
        mean_sm_mhz=_mean(sm),
        max_sm_mhz=_most(sm),
        mean_memory_mhz=_mean(_all(busy, "memory_mhz")),
        throttled=tuple(
            (reason, _short(sum(reason in one.get("reasons", ()) for one in busy) / len(busy))) for reason in reasons
        ),
        foreign=_foreign(readings),
        mean_power_w=_mean(power),
        max_power_w=_most(power),
        power_cap_w=_least(_all(readings, "power_cap_w")),
        max_temperature_c=_most(_all(readings, "temperature_c")),
    )


def _counted_power_w(readings: Sequence[Reading]) -> float | None:
    """By the energy counter, between the readings that have one; without the two edges, where the GPU is at rest."""
    counted = [one for one in readings if one.get("gpu") and one["gpu"].get("energy_j") is not None]
    counted = counted[1:-1] if len(counted) > 3 else counted
    if len(counted) < 2:
        return None
    passed_s = counted[-1]["monotonic_s"] - counted[0]["monotonic_s"]
    used_j = counted[-1]["gpu"]["energy_j"] - counted[0]["gpu"]["energy_j"]
    # A counter that went back was reset with the driver; one that stood still is too coarse for so short a visit.
    return _short(used_j / passed_s) if passed_s > 0.0 and used_j > 0.0 else None


def _foreign(readings: Sequence[Reading]) -> tuple[Foreign, ...]:
    seen: dict[int, list[Reading]] = {}
    for reading in readings:
        for process in reading.get("processes") or ():
            seen.setdefault(process["pid"], []).append(process)
    return tuple(
        Foreign(
            pid=pid,
            memory_bytes=max((one["memory_bytes"] for one in found if one.get("memory_bytes") is not None), default=None),
            utilisation=_most(_all(found, "utilisation")),
        )
        for pid, found in sorted(seen.items())
    )
