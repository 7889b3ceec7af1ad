"""Whether a slow-down is one of the clock alone: each side of a confirmed regression is timed by itself and counted in cycles.

In a visit both sides share its seconds, and so its clock; a side that draws more power may yet run at a lower one. Judges
nothing.
"""

from __future__ import annotations

from pytest_perfq.core import stats
from pytest_perfq.core.conditions import Conditions
from pytest_perfq.core.cycles import clock_mhz, cycle_ratio
from pytest_perfq.device.lock import device_lock
from pytest_perfq.device.sampler import Sampler
from pytest_perfq.trials.entry import Entry
from pytest_perfq.trials.opened import Opened

# Of a side; the middle ratio counts.
BLOCKS = 3
# Of a block: long enough for the clock to settle at what the side alone draws.
BLOCK_NS, MOST_ROUNDS = 1_000_000_000, 2000


def known(entry: Entry) -> bool:
    """Whether the clock was known while the entry was visited: otherwise there is nothing to count by."""
    return bool(entry.visits) and clock_mhz(entry.visits[-1].conditions) is not None


def slowdown_in_cycles(entry: Entry, pair: Opened, watcher: Sampler, threads: int) -> float | None:
    """The slow-down in clock cycles, a fraction; None where the clock is not known any more. Raises as `Opened`."""
    device = entry.candidate.device
    pair.prepare(entry.base, entry.candidate)
    sides, ratios = pair.sides(), []
    with device_lock(device).write_lock():
        for one in sides.values():
            one.warm()  # by which a worker is held to its cores, and a GPU gets to its speed, as in a visit
        for block in range(BLOCKS):
            found: dict[str, tuple[float, Conditions]] = {}
            for side in "ab" if block % 2 == 0 else "ba":
                slow = max(stats.median([visit.a.median_ns for visit in entry.visits]), 1.0)
                watcher.begin(device=device, threads=threads if device == "cpu" else 1)
                try:
                    _, durations = sides[side].block(max(5, min(MOST_ROUNDS, int(BLOCK_NS / slow))), settle=True)
                finally:
                    conditions = watcher.end()
                found[side] = stats.median(durations), conditions
            ratio = cycle_ratio(*found["b"], *found["a"])
            if ratio is None:
                return None
            ratios.append(ratio)
    return stats.median(ratios) - 1.0
