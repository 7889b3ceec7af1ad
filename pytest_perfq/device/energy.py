"""Energy of one call on a GPU: its mean power by its own counter, times the time that a call takes.

The counter is the whole GPU's, idle power included, and moves in steps of up to a tenth of a second: so a stretch of calls is
watched, never a single one. Knows no case.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from pytest_perfq.core.conditions import Conditions, GpuConditions, disturbances
from pytest_perfq.device.sampler import Sampler

# Steps at both ends are then a twentieth.
STRETCH_S = 2.0
# Before the stretch: power rises to its level, and the counter passes its first step.
LEAD_S = 0.2
# Calls are queued for so long before the device is waited for.
QUEUE_S = 0.01

Fact = str | int | float | bool


def per_call(
    call: Callable[[], Any],
    synchronize: Callable[[], None],
    sampler: Sampler,
    *,
    stretch_s: float = STRETCH_S,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Fact]:
    """Facts: energy_per_call_j, joules of one call, with power_w and calls of the stretch it is known from; or energy_unknown,
    why it is not. synchronize: waits for the device. sampler: of the machine. clock: seconds."""
    _calls(call, synchronize, stretch_s * LEAD_S / STRETCH_S, clock)
    sampler.begin(device="cuda", threads=1)
    try:
        calls, passed_s = _calls(call, synchronize, stretch_s, clock)
    finally:
        conditions = sampler.end()
    # A lowered clock is a part of what a call takes; what others take is not.
    others = GpuConditions() if conditions.gpu is None else GpuConditions(foreign=conditions.gpu.foreign)
    if reasons := disturbances(Conditions(unknown=conditions.unknown, gpu=others)):
        return {"energy_unknown": "; ".join(reasons)}
    watts = None if conditions.gpu is None else conditions.gpu.counted_power_w
    if watts is None:
        reason = next((one for one in conditions.missing if "energy" in one or "sampled" in one), None)
        return {"energy_unknown": reason or f"the GPU's energy counter did not move in {passed_s:.2g} s"}
    return {"energy_per_call_j": float(f"{watts * passed_s / calls:.4g}"), "energy_power_w": watts, "energy_calls": calls}


def _calls(
    call: Callable[[], Any], synchronize: Callable[[], None], least_s: float, clock: Callable[[], float]
) -> tuple[int, float]:
    """Calls for at least so long, one after the other: how many, and seconds until the device had done them."""
    start, calls, queue = clock(), 0, 1
    while True:
        for _ in range(queue):
            call()
        synchronize()
        calls += queue
        passed_s = clock() - start
        if passed_s >= least_s:
            return calls, passed_s
        queue = max(1, round(QUEUE_S * calls / passed_s)) if passed_s > 0.0 else queue
