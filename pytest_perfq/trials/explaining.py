"""Why a case is slower: both sides profiled in fresh workers, alternately, and what moved between them.

What is timed is never profiled and what is profiled is never timed. Judges nothing: a regression that cannot be explained
is as confirmed as before, and says why it is not explained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from pytest_perfq.core import operators, stats
from pytest_perfq.device.lock import device_lock
from pytest_perfq.errors import PerfqError
from pytest_perfq.trials.entry import Entry
from pytest_perfq.trials.opened import Opened

# Cases of a run, the worst first: people mend one thing at a time.
EXPLAINED = 5
# Profiles of a side; of three the middle one is not the one that something else disturbed.
BLOCKS = 3
# Of one profile: enough calls for a steady mean where they are short, few where they are long.
BLOCK_NS, MOST_CALLS = 1_000_000_000, 20


class Profiling(Opened, Protocol):
    """Two sides in fresh workers that can be profiled."""

    def profile(self, side: str, calls: int) -> Mapping[str, Sequence[int]] | None:
        """Operator -> (calls, ns) over so many calls of a side; None where its program cannot tell."""


def explained(entry: Entry, opened: AbstractContextManager[Profiling]) -> tuple[str, tuple[str, ...]]:
    """A sentence and the lines of a table about an entry that was visited."""
    try:
        with opened as pair:
            pair.prepare(entry.base, entry.candidate)
            with device_lock(entry.candidate.device).write_lock():
                found = _profiles(pair, _calls(entry))
    except PerfqError as error:
        return f"not explained: {error}", ()
    for side, case in (("a", entry.base), ("b", entry.candidate)):
        if found[side] is None:
            return f"not explained: programs of backend {case.backend.name} cannot be profiled", ()
        if not found[side]:
            return f"not explained: nothing of {case.id} runs as an operator of its own process", ()
    moved = operators.explain(_middle(found["a"] or []), _middle(found["b"] or []), difference_ns(entry))
    return operators.sentence(moved), tuple(operators.table(moved))


def difference_ns(entry: Entry) -> float:
    """How much longer a forward pass takes than on the base: the middle visit's medians."""
    return stats.median([one.b.median_ns - one.a.median_ns for one in entry.visits])


def _calls(entry: Entry) -> int:
    slowest = max(
        stats.median([one.a.median_ns for one in entry.visits]), stats.median([one.b.median_ns for one in entry.visits])
    )
    return max(1, min(MOST_CALLS, int(BLOCK_NS / max(slowest, 1.0))))


def _profiles(pair: Profiling, calls: int) -> dict[str, list[operators.Profile] | None]:
    """A side's profiles of one forward pass; None where it cannot be profiled, empty where nothing showed."""
    found: dict[str, list[operators.Profile] | None] = {"a": [], "b": []}
    for block in range(BLOCKS):
        for side in "ab" if block % 2 == 0 else "ba":
            profile = pair.profile(side, calls)
            kept = found[side]
            if profile is None or kept is None:
                found[side] = None
            elif profile:
                kept.append({name: (count / calls, ns / calls) for name, (count, ns) in profile.items()})
    return found


def _middle(profiles: Sequence[operators.Profile]) -> operators.Profile:
    """Each operator as the middle one of several profiles has it."""
    names = dict.fromkeys(name for one in profiles for name in one)
    of = {name: [one.get(name, (0.0, 0.0)) for one in profiles] for name in names}
    return {
        name: (stats.median([count for count, _ in found]), stats.median([ns for _, ns in found]))
        for name, found in of.items()
    }  # fmt: skip
