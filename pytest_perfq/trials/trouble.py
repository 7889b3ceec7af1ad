"""Why a case that is measured ahead of its item cannot be, in a form that crosses processes. Measures nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from pytest_perfq.errors import DataError, PerfqError, ProgramError, TrialError, Unavailable, UsageError

REFUSED = "refused"
# A worker that was lost is 'lost'; the others are what the case's own measurement would have raised.
_KINDS: Mapping[str, type[PerfqError]] = {
    "usage": UsageError,
    "data": DataError,
    "unavailable": Unavailable,
    "program": ProgramError,
    "lost": TrialError,
}


@dataclass(frozen=True, slots=True)
class Trouble:
    """kind: 'refused', or that of an error. text: one sentence."""

    kind: str
    text: str

    @classmethod
    def of(cls, error: PerfqError, label: str = "") -> Self:
        """Of what a worker answered; the label of its environment, which says nothing where there is one only, is left out."""
        kind = next((name for name, known in _KINDS.items() if isinstance(error, known)), "program")
        return cls(kind, str(error).removeprefix(f"{label}: "))

    @property
    def error(self) -> PerfqError:
        """As the case's own measurement would have raised it."""
        return _KINDS.get(self.kind, ProgramError)(self.text)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "text": self.text}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        return cls(**values)
