"""Visits that are watched, and repeated where something outside spoilt them. Knows no case: whoever makes visits may use it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from pytest_perfq.core.conditions import Conditions, disturbances
from pytest_perfq.device.sampler import Sampler

# Of a disturbed visit. What lasts longer than three visits lasts longer than anyone wants to wait for.
REPEATS = 2

T = TypeVar("T")


def watched(
    attempt: Callable[[], T],
    sampler: Sampler,
    *,
    device: str,
    threads: int,
    pid: int | None = None,
    repeats: int = REPEATS,
    ratio: bool = False,
    told: Callable[[str], None] = lambda line: None,
) -> tuple[T, Conditions]:
    """What `attempt` gives, and the conditions that it was made under. A disturbed attempt is made again, `repeats` times at
    most; the last is the one that counts, disturbed or not (see core.conditions.disturbances), and its conditions name what
    disturbed those before. device, threads, pid: see Sampler.begin. ratio: see disturbances. told: one line before each
    repeat."""
    discarded: tuple[str, ...] = ()
    for left in range(repeats, -1, -1):
        sampler.begin(device=device, threads=threads, pid=pid)
        try:
            found = attempt()
        finally:
            conditions = sampler.end()
        reasons = disturbances(conditions, ratio=ratio)
        if not reasons or not left:
            break
        discarded += ("; ".join(reasons),)
        told(f"a disturbed visit is made again: {discarded[-1]}")
    return found, replace(conditions, discarded=discarded)
