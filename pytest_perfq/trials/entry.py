"""One case on both sides, and what became of it. Plain values; measures nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_perfq.core import configuration
from pytest_perfq.core.budget import Limit
from pytest_perfq.core.case import Case
from pytest_perfq.core.trial import TrialVisit
from pytest_perfq.errors import UsageError
from pytest_perfq.report.apart import few

# Disturbed visits after which a case is given up; each was made three times.
SPOILT = 3
# Cases named that one reason keeps from being compared.
SHOWN_REFUSED = 20
SHOWN_REASONS = 8


@dataclass(frozen=True, slots=True)
class Collected:
    """A case as one side's suites have it: the test item, and what it was promised. refused: why this side cannot be held
    against another, None where it can."""

    nodeid: str
    case: Case
    limits: tuple[Limit, ...] = ()
    refused: str | None = None

    def to_json(self) -> dict[str, Any]:
        limits = [limit.to_json() for limit in self.limits]
        found = {"nodeid": self.nodeid, "case": self.case.to_json(), "limits": limits}
        return found if self.refused is None else found | {"refused": self.refused}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Collected:
        limits = tuple(Limit.from_json(limit) for limit in values["limits"])
        return cls(values["nodeid"], Case.from_json(values["case"]), limits, values.get("refused"))


@dataclass(slots=True)
class Entry:
    """base, candidate: the case as each side has it; they differ where the sides differ by an axis. screen, confirm: visits
    of the two stages. trouble: why it can have no verdict, in one sentence. broken: whether the candidate alone is to blame.
    refused: why there is nothing to compare, which is nobody's fault. losses: workers that it has cost, True where the
    candidate's. lost: what became of the last of them. spoilt: what made visits worthless."""

    nodeid: str
    base: Case
    candidate: Case
    limits: tuple[Limit, ...] = ()
    screen: list[TrialVisit] = field(default_factory=list)
    confirm: list[TrialVisit] = field(default_factory=list)
    trouble: str | None = None
    broken: bool = False
    refused: str | None = None
    losses: list[bool] = field(default_factory=list)
    lost: str = ""
    spoilt: list[str] = field(default_factory=list)

    @property
    def over(self) -> bool:
        """Whether it cannot be measured any more."""
        return self.trouble is not None or self.refused is not None

    def lose(self, text: str, candidate: bool) -> None:
        """A worker was lost on it. Once may be anybody's doing, such as that of a system out of memory; twice is the case's."""
        self.losses.append(candidate)
        self.lost = text
        if len(self.losses) > 1:
            self.trouble, self.broken = f"{text} (twice)", all(self.losses)

    @property
    def recovered(self) -> str | None:
        """The worker that it cost and could do without, in one sentence; None where it cost none, or came to its end by it."""
        if not self.losses or self.over:
            return None
        return f"{self.lost}; the next process measured it: find out what ended the first, or run it again"

    def spoil(self, reason: str) -> None:
        """The machine disturbed a visit of it, repeats and all. In another pass it may not; what always is, cannot be timed."""
        self.spoilt.append(reason)
        if len(self.spoilt) >= SPOILT:
            self.trouble = (
                f"{len(self.spoilt)} visits were disturbed, the last since {reason}; free the machine and measure again"
            )

    @property
    def name(self) -> str:
        """What it is called: the candidate's id."""
        return self.candidate.id

    @property
    def visits(self) -> list[TrialVisit]:
        """All of them, in time order."""
        return [*self.screen, *self.confirm]

    @property
    def effect(self) -> float | None:
        """The slow-down promised at most, a fraction; None where nothing was."""
        promised = [limit.value for limit in self.limits if limit.rule == "max_slowdown"]
        return min(promised, default=None)


def matched(base: Sequence[Collected], candidate: Sequence[Collected]) -> tuple[list[Entry], list[str], list[str]]:
    """Cases that both sides have, then the ids that only the base has and only the candidate has. A case that several items
    share is one entry, with the first item's name and the promises of all."""
    theirs = {one.case.id: one for one in base}
    found: dict[str, Entry] = {}
    alone = []
    for one in candidate:
        name = one.case.id
        if name in found:
            found[name].limits += tuple(limit for limit in one.limits if limit not in found[name].limits)
        elif name in theirs:
            refused = theirs[name].refused or one.refused
            found[name] = Entry(one.nodeid, theirs[name].case, one.case, one.limits, refused=refused)
        else:
            alone.append(name)
    return list(found.values()), [name for name in theirs if name not in found], alone


def tell_refused(entries: Sequence[Entry], say: Callable[[str], None], *, one_left: bool = True) -> None:
    """Says which cases are not compared since a side refuses them, and why: each once, those of one reason together. Raises
    UsageError where one must be left to compare and none is."""
    alike: dict[tuple[str, str], list[str]] = {}
    for one in entries:
        if one.refused is not None:
            who, name, why = one.refused.partition(one.base.id)
            alike.setdefault((who, why), []).append(name)
    # Several configurations of one case may be held beside the same base.
    told = [f"{who}{few(list(dict.fromkeys(names)), SHOWN_REFUSED)}{why}" for (who, why), names in alike.items()]
    numbers = [len(names) for names in alike.values()]
    if one_left and told and sum(numbers) == len(entries):
        raise UsageError(f"nothing is left to compare: {told[0]}{' ...' if len(told) > 1 else ''}")
    for number, text in zip(numbers[:SHOWN_REASONS], told, strict=False):
        say(f"{_cases(number)} not compared: {text}")
    if rest := numbers[SHOWN_REASONS:]:
        say(f"{_cases(sum(rest))} not compared, for {len(rest)} more {'reason' if len(rest) == 1 else 'reasons'}")


def _cases(number: int) -> str:
    return "1 case is" if number == 1 else f"{number} cases are"


def varied(collected: Sequence[Collected], text: str) -> list[Entry]:
    """Every case of a sweep beside itself with one axis changed; those that have the value already have nothing to be held
    against.

    text: `AXIS=VALUE` with an axis that leaves the work the same, or `original` for the fp32 eager case. Raises UsageError.
    """
    configuration.check(text)
    cases = [one for one in collected if one.case.test is None]
    if collected and not cases:
        raise UsageError(
            "tests of pytest-benchmark have no axis to vary; hold two revisions or two environments against each other"
        )
    entries, _, _ = matched(cases, cases)
    known = {one.candidate.quantization.id: one.candidate.quantization for one in entries if one.candidate.quantization}
    found = []
    for entry in entries:
        other = configuration.other(entry.candidate, text, known)
        if other != entry.candidate:
            entry.base = other
            found.append(entry)
    if not found:
        raise UsageError(f"every case is {text} already; give another value to hold it against")
    return found
