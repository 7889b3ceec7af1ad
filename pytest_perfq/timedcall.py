"""The call that a stopwatch times, and whether what it computed is what the program gives when its accuracy is measured.

A program can be fast because it no longer computes: a stale output buffer, a result kept from the last call, a path that only
the timing takes. So every timed call is given other words, and a few of them, by chance, words whose logits are known from
before anything was timed; what they gave is held against that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

from pytest_perfq.contracts import Arrays, Batch
from pytest_perfq.core.case import Case
from pytest_perfq.errors import ProgramError
from pytest_perfq.inputs import Reworded
from pytest_perfq.materials import Built

# Of the largest logit: one program on one batch differs from itself by the order of its sums at most. A stale or mixed-up
# buffer differs by as much as two batches do.
TOLERANCE = 1e-3
# One timed call of so many is given words whose logits are known: few enough that a program which keeps the answers to words
# that it has seen is timed by the others.
LOOK_EVERY = 8
# Outputs that are kept of those, each with the same chance: a program that skips half of its calls gets by once in 256 visits.
LOOKED_AT = 8
SEED = 20_240_301

# Which words timed calls are given, as a fact of the measurement.
RENEWED = "other words in every call"


@dataclass(frozen=True, slots=True)
class Known:
    """A batch, and its logits by the way that accuracy is measured."""

    batch: Batch
    expected: Arrays


@dataclass(slots=True)
class TimedCall:
    """One forward pass of a fed program. Between two timed calls comes a `turn`, which is not timed.

    feed: what the program is fed. known: batches that are looked at, turn by turn; the first is fed at first. words: what the
    other calls are given; None where all are given the same, for the reason in `feeding`."""

    case: Case
    built: Built
    feed: Any
    known: Sequence[Known]
    words: Reworded | None = None
    feeding: str = RENEWED
    output: Any = None
    _fed: Known | None = None
    _calls: int = 0
    _look: int = 0
    _looks: int = 0
    _kept: dict[int, tuple[Known, Arrays]] = field(default_factory=dict)
    _dice: Random = field(default_factory=partial(Random, SEED))
    _run: Callable[[Any], Any] = field(init=False)

    def __post_init__(self) -> None:
        self._fed, self._run, self._look = self.known[0], self.built.program.run, self._dice.randrange(LOOK_EVERY)

    def __call__(self) -> None:
        self.output = self._run(self.feed)

    def turn(self) -> None:
        """Keeps what a timed call gave, where it is looked at, and feeds the next one."""
        if self._fed is not None and self._calls == self._look:
            # Of many looks each has the same chance to be kept.
            place = self._looks if self._looks < LOOKED_AT else self._dice.randrange(self._looks + 1)
            if place < LOOKED_AT:
                self._kept[place] = self._fed, self._fetched()
            self._looks += 1
        self._calls += 1
        self.output = None
        if self._calls % LOOK_EVERY == 0:
            self._look = self._calls + self._dice.randrange(LOOK_EVERY)
        if self.words is None:
            return
        if self._calls == self._look:
            self._give(self.known[(self._looks + 1) % len(self.known)])
        else:
            self._refeed(self.words.next())
            self._fed = None

    def profile(self, calls: int) -> Mapping[str, tuple[int, int]] | None:
        """Calls and nanoseconds of the operators of so many forward passes, see contracts.Profiled; None of a program that
        cannot be profiled."""
        profile = getattr(self.built.program, "profile", None)
        return None if profile is None else profile(self.feed, calls)

    def audit(self) -> None:
        """Raises ProgramError where a timed call that was looked at, or one more call now, gave other logits than expected.
        Does nothing before the first."""
        if not self._calls and self.output is None:
            return
        for known, found in self._kept.values():
            self._hold(known, found)
        if self.words is not None:
            self._give(self.known[(self._looks + 1) % len(self.known)])
        self()
        assert self._fed is not None
        self._hold(self._fed, self._fetched())

    def _give(self, known: Known) -> None:
        self._refeed(known.batch)
        self._fed = known

    def _refeed(self, batch: Batch) -> None:
        program = self.built.program
        refill = getattr(program, "refill", None)  # see contracts.Refilled
        if refill is None:
            self.feed = program.feed(batch)
        else:
            refill(self.feed, batch)

    def _fetched(self) -> Arrays:
        # A copy: a program may write its next output to the same memory.
        return {name: values.copy() for name, values in self.built.program.fetch(self.output).items()}

    def _hold(self, known: Known, found: Arrays) -> None:
        for name, wanted in known.expected.items():
            difference = _difference(found[name], wanted)
            if not difference <= TOLERANCE:
                raise ProgramError(
                    f"{self.case.id} gave other {name} in its timed calls than where its accuracy is measured: they differ by "
                    f"{difference:.2g} of the largest, over {TOLERANCE:g}; its timings are not those of this program"
                )


def timed_call(case: Case, built: Built, batch: Batch, other: Batch) -> TimedCall:
    """The call of a program on a batch and on others of its shape and lengths. other: of the same shape, whose words are taken
    too. Raises ProgramError for logits that are not finite, and for a program that does not look at its input."""
    words = Reworded(batch, other, SEED)
    known = []
    for one in (batch, words.next()):
        # Copies: a program may write its next output to the same memory.
        known.append(Known(one, {name: values.copy() for name, values in built.predict(one).items()}))
        _finite(case, known[-1].expected)
    if all(_difference(known[1].expected[name], wanted) == 0.0 for name, wanted in known[0].expected.items()):
        raise ProgramError(
            f"{case.id} gives the same logits for two different batches: an output is stale or kept, so "
            "its timings mean nothing"
        )
    # A feed may lie in the memory of its batch, and is written to.
    feed = built.program.feed(Batch({name: values.copy() for name, values in batch.arrays.items()}, batch.lengths))
    record = getattr(built.program, "record", None)  # see contracts.Recorded
    if record is not None:
        record(feed)
    same = _same_words(case, built)
    return TimedCall(case, built, feed, known, words if same is None else None, same or RENEWED)


def _same_words(case: Case, built: Built) -> str | None:
    """Why every timed call is given the same feed; None where it is not."""
    if case.tp * case.pp > 1:
        return "the same words in every call: other processes are sent a feed once, and sending it would be timed"
    if hasattr(built.program, "record") and not hasattr(built.program, "refill"):
        return "the same words in every call: the program records one feed and cannot refill it"
    return None


def _finite(case: Case, logits: Arrays) -> None:
    import numpy as np

    for name, values in logits.items():
        bad = int(values.size - np.count_nonzero(np.isfinite(values)))
        if bad:
            raise ProgramError(
                f"{case.id} gives {bad} of {values.size} {name} that are not finite; its timings would mean nothing"
            )


def _difference(found: Any, wanted: Any) -> float:
    """The largest difference over the largest value; infinite where shapes differ or something is not finite."""
    import numpy as np

    if found.shape != wanted.shape or not np.all(np.isfinite(found)):
        return float("inf")
    scale = float(np.max(np.abs(wanted), initial=0.0)) or 1.0
    return float(np.max(np.abs(found - wanted), initial=0.0)) / scale
