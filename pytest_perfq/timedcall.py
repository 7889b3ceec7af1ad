"""The call that a stopwatch times, and whether what it computed is what the program gives when its accuracy is measured.

A program can be fast because it no longer computes: a stale output buffer, a result kept from the last call, a path that only
the timing takes. So the timed call keeps its last output, and the output is held against the program's own prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_perfq.contracts import Arrays, Batch
from pytest_perfq.core.case import Case
from pytest_perfq.errors import ProgramError
from pytest_perfq.materials import Built

# Of the largest logit: one program on one batch differs from itself by the order of its sums at most. A stale or mixed-up
# buffer differs by as much as two batches do.
TOLERANCE = 1e-3


@dataclass(slots=True)
class TimedCall:
    """run: one forward pass of a fed program. expected: its logits by the way that accuracy is measured. feed: what the program
    is fed."""

    case: Case
    built: Built
    run: Callable[[], Any]
    expected: Arrays
    output: Any = None
    feed: Any = None

    def __call__(self) -> None:
        self.output = self.run()

    def profile(self, calls: int) -> Mapping[str, tuple[int, int]] | None:
        """Calls and nanoseconds of the operators of so many forward passes, see contracts.Profiled; None of a program that
        cannot be profiled."""
        profile = getattr(self.built.program, "profile", None)
        return None if profile is None else profile(self.feed, calls)

    def audit(self) -> None:
        """Raises ProgramError where the last timed call gave other logits than expected. Does nothing before the first."""
        if self.output is None:
            return
        found = self.built.program.fetch(self.output)
        for name, wanted in self.expected.items():
            difference = _difference(found[name], wanted)
            if not difference <= TOLERANCE:
                raise ProgramError(
                    f"{self.case.id} gave other {name} in its timed calls than where its accuracy is measured: they differ by "
                    f"{difference:.2g} of the largest, over {TOLERANCE:g}; its timings are not those of this program"
                )


def timed_call(case: Case, built: Built, batch: Batch, other: Batch) -> TimedCall:
    """The call of a program on a batch. other: of the same shape and other content. Raises ProgramError for logits that are
    not finite, and for a program that does not look at its input."""
    expected = built.predict(batch)
    _finite(case, expected)
    different = built.predict(other)
    if all(_difference(different[name], wanted) == 0.0 for name, wanted in expected.items()):
        raise ProgramError(
            f"{case.id} gives the same logits for two different batches: an output is stale or kept, so "
            "its timings mean nothing"
        )
    feed = built.program.feed(batch)
    record = getattr(built.program, "record", None)  # see contracts.Recorded
    if record is not None:
        record(feed)
    return TimedCall(case, built, lambda: built.program.run(feed), expected, feed=feed)


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
