"""What the scheduler asks of two sides that are ready to be measured, and the two ways in which they fail it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from pytest_perfq import stopwatch
from pytest_perfq.core.case import Case
from pytest_perfq.errors import PerfqError, TrialError


class Opened(Protocol):
    """Two sides in fresh workers."""

    def prepare(self, base: Case, candidate: Case) -> None:
        """Builds a case on both sides. Raises Refused, Blamed and Lost."""

    def audit(self) -> None:
        """Holds what the timed calls gave against the way accuracy is measured. Raises Blamed and Lost."""

    def sides(self) -> Mapping[str, stopwatch.Side]:
        """'a', the base, and 'b', the candidate, as prepared. Timing them may raise Blamed and Lost."""


class Refused(PerfqError):
    """The base cannot have the case at all, as it says itself: there is nothing to hold the candidate against."""


class Blamed(PerfqError):
    """One side cannot measure a case. candidate: whether it is the candidate's own fault."""

    def __init__(self, text: str, candidate: bool) -> None:
        super().__init__(text)
        self.candidate = candidate


class Lost(TrialError):
    """The worker of one side died or was ended at a case. candidate: whether it was the candidate's."""

    def __init__(self, text: str, candidate: bool) -> None:
        super().__init__(text)
        self.candidate = candidate
