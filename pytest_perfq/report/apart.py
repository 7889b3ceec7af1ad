"""What only one side of a comparison has, in the words of a person: no row of a table shows what was never compared.

Knows verdicts and names of cases; decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pytest_perfq.core.finding import Verdict

# Names in a sentence; the table or the store has all.
SHOWN_NAMES = 2


@dataclass(frozen=True, slots=True)
class Apart:
    """Ids of the cases that only the base has, and only the candidate."""

    base: tuple[str, ...] = ()
    candidate: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Such as `2 only in the base, 1 only in the candidate: not compared`; empty where both have all."""
        sides = (("base", self.base), ("candidate", self.candidate))
        told = ", ".join(f"{len(names)} only in the {side}" for side, names in sides if names)
        return f"{told}: not compared" if told else ""

    def to_json(self) -> dict[str, list[str]]:
        return {"only_in_base": list(self.base), "only_in_candidate": list(self.candidate)}


def few(names: Sequence[str], shown: int = SHOWN_NAMES) -> str:
    """The first names, and how many more there are."""
    rest = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {rest} more" if rest > 0 else "")


def is_new(verdict: Verdict) -> bool:
    """Whether the case was held against a baseline that does not have it."""
    return any(one.rule == "baseline" and one.status == "pass" for one in verdict.findings)


def compared(verdicts: Iterable[Verdict]) -> bool:
    """Whether any case was held against the other side: of what is new or unmeasured throughout nothing is known to be fine."""
    return any(one.status != "unmeasured" and not is_new(one) for one in verdicts)


def unheld(names: Sequence[str], baseline: str) -> str:
    """The sentence about measured cases, at least one, that are new. baseline: what it is called here."""
    what = "measured case is" if len(names) == 1 else "measured cases are"
    was = "was held to its own promises" if len(names) == 1 else "were held to their own promises"
    return f"{len(names)} {what} not in {baseline} and {was} only: {few(names)}; changing a configuration renames its case"
