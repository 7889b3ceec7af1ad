"""The pass scheduler: every open case is visited once a pass, in fresh workers, until its verdict stands or time is up.

Visits of one case so lie as far apart as the suite is long, and every one meets another process. Which case is still open
is core.stages' to say; this only measures. A stopped run keeps every visit it made.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from pytest_perfq import stopwatch
from pytest_perfq.core import stages, stats
from pytest_perfq.core.case import Case
from pytest_perfq.core.rules import Rules
from pytest_perfq.core.stages import Standing
from pytest_perfq.core.trial import Side, Stage, TrialVisit
from pytest_perfq.device.lock import device_lock
from pytest_perfq.errors import PerfqError, TrialError
from pytest_perfq.trials.entry import Entry

# A visit's share of time where calls are slow: both sides together, see stopwatch.
VISIT_S = 4.0
# Within a visit more rounds buy little: what differs from visit to visit is the process and the minute.
VISIT_PRECISION = 0.005


class Opened(Protocol):
    """Two sides ready to be timed."""

    def prepare(self, base: Case, candidate: Case) -> None:
        """Builds a case on both sides. Raises Blamed for what one side cannot do, TrialError for a lost worker."""

    def sides(self) -> Mapping[str, stopwatch.Side]:
        """'a', the base, and 'b', the candidate, as prepared."""


T = TypeVar("T", bound=Opened)


class Blamed(PerfqError):
    """One side cannot measure a case. candidate: whether it is the candidate alone."""

    def __init__(self, text: str, candidate: bool) -> None:
        super().__init__(text)
        self.candidate = candidate


@dataclass(frozen=True, slots=True)
class Moment:
    """Where a run of trials stands, for whoever shows progress. stage: 'accuracy', 'screen' or 'confirm'. number: of the pass.
    done, total: cases of the pass. left_s: estimated, None at first."""

    stage: str
    number: int
    done: int
    total: int
    suspects: int
    case: str
    left_s: float | None


@dataclass(slots=True)
class Passes(Generic[T]):
    """Runs trials. opened: starts fresh workers for both sides. time_s: of the whole run, None for as long as it takes.
    kept: told of every entry that gained a visit, and who made it. watch: told of every step. say: told sentences for a
    person."""

    entries: Sequence[Entry]
    opened: Callable[[], AbstractContextManager[T]]
    rules: Rules = field(default_factory=Rules)
    time_s: float | None = None
    kept: Callable[[Entry, T], None] = lambda entry, pair: None
    watch: Callable[[Moment], None] = lambda moment: None
    say: Callable[[str], None] = lambda line: None
    clock: Callable[[], float] = time.monotonic
    interrupted: bool = False
    late: bool = False
    number: int = 0
    suspects: list[str] = field(default_factory=list)
    _started: float = 0.0
    _costs: list[float] = field(default_factory=list)
    _warned: bool = False

    def run(self) -> dict[str, Standing]:
        """Where every entry stands in the end, by name; those without a visit have none."""
        self._started = self.clock()
        try:
            self._stage("screen")
            # What the screen found stays as it is: fresh data alone decides about a suspect.
            self.suspects = [name for name, one in self._screened().items() if one.status == "suspect"]
            if self.suspects:
                self._stage("confirm")
        except KeyboardInterrupt:
            self.interrupted = True
        return self.standings()

    def standings(self) -> dict[str, Standing]:
        """Where every entry stands now: suspects by their fresh visits, where they have any."""
        return {**self._screened(), **self._confirmed()}

    def stage_of(self, entry: Entry) -> Stage:
        """The stage that decides about an entry."""
        return "confirm" if entry.name in self.suspects else "screen"

    # -- deciding

    def _effects(self) -> dict[str, float]:
        return {one.name: one.effect for one in self.entries if one.effect is not None}

    def _screened(self) -> dict[str, Standing]:
        values = {one.name: [visit.log_ratio for visit in one.screen] for one in self.entries if one.screen}
        return stages.screen(values, self.rules, effects=self._effects())

    def _confirmed(self) -> dict[str, Standing]:
        values = {one.name: [visit.log_ratio for visit in one.confirm] for one in self.entries if one.confirm}
        return stages.confirm(values, max(1, len(self.suspects)), self.rules, effects=self._effects())

    def _open(self, stage: Stage) -> list[Entry]:
        """Entries that need another visit in this stage."""
        standings = self._screened() if stage == "screen" else self._confirmed()
        wanted = self.entries if stage == "screen" else [one for one in self.entries if one.name in self.suspects]
        return [
            one for one in wanted if one.trouble is None and (one.name not in standings or standings[one.name].status == "open")
        ]

    # -- measuring

    def _stage(self, stage: Stage) -> None:
        while (waiting := self._open(stage)) and not self.late:
            self.number += 1
            visited = 0
            for group in by_model(waiting):
                visited += self._group(group, stage, visited, len(waiting))
                if self.late:
                    break
            if stage == "screen":
                self._warn()

    def _group(self, group: Sequence[Entry], stage: Stage, before: int, total: int) -> int:
        """One pass over the entries of one model. A lost worker costs its case, and the others get fresh ones."""
        waiting = list(group)
        while waiting and not self.late:
            begun = self.clock()
            try:
                with self.opened() as pair:
                    while waiting and not self._out_of_time():
                        entry = waiting[0]
                        done = before + len(group) - len(waiting)
                        self.watch(
                            Moment(stage, self.number, done, total, len(self.suspects), entry.name, self._left(total - done))
                        )
                        self._visit(pair, entry, stage)
                        waiting.pop(0)
                        self._costs.append(self.clock() - begun)
                        begun = self.clock()
            except TrialError as error:
                if not waiting:
                    raise
                waiting.pop(0).trouble = str(error)
        return len(group)

    def _visit(self, pair: T, entry: Entry, stage: Stage) -> None:
        try:
            pair.prepare(entry.base, entry.candidate)
            sides = pair.sides()
        except Blamed as error:
            entry.trouble, entry.broken = str(error), error.candidate
            return
        visits = entry.screen if stage == "screen" else entry.confirm
        # The side that begins changes from visit to visit, and from case to case within a pass.
        first: Side = "a" if (len(visits) + len(entry.name)) % 2 else "b"
        order = (first, "b" if first == "a" else "a")
        plan = stopwatch.VisitPlan(budget_s=VISIT_S, precision=VISIT_PRECISION)
        with device_lock(entry.candidate.device).write_lock():
            found = stopwatch.alternate({name: sides[name] for name in order}, plan)
        visits.append(TrialVisit(len(visits), stage, first, found["a"], found["b"]))
        self.kept(entry, pair)

    # -- time

    def _out_of_time(self) -> bool:
        # Never before every case had its first look: a budget too small for that is told by what stays undecided.
        if self.time_s is not None and self.clock() - self._started >= self.time_s:
            self.late = True
        return self.late

    def _left(self, waiting: int) -> float | None:
        """Seconds that the rest will take as far as it can be seen: this pass, and the passes that surely follow."""
        if not self._costs:
            return None
        # Of a typical case: the first one of a worker loads torch and the model.
        each = stats.median(self._costs)
        sure = max(0, self.rules.screen_visits[0] - self.number)
        left = each * (waiting + sure * sum(one.trouble is None for one in self.entries)) + max(self._costs) * sure
        return left if self.time_s is None else min(left, max(0.0, self.time_s - (self.clock() - self._started)))

    def _warn(self) -> None:
        """As soon as visits show how far they differ: whether anything can be decided here at all."""
        if self._warned or self.number < 2:
            return
        self._warned = True
        values = {one.name: [visit.log_ratio for visit in one.screen] for one in self.entries if len(one.screen) > 1}
        if not values:
            return
        deviation = stages.pooled_sd(values)
        if deviation is None:
            return
        least = _least_visible(deviation, len(self.entries), self.rules)
        if least > self.rules.effect:
            self.say(
                f"this machine is noisy: visits differ by {deviation:.1%}, so that slow-downs under {least:.0%} will stay "
                "undecided; free it of other work, or use another"
            )


def _least_visible(deviation: float, df: float, rules: Rules) -> float:
    """The slow-down, a fraction, that the last look at one suspect would still show with 80 %, given the SD of a visit."""
    visits = rules.noisy_looks[-1] if deviation > rules.noisy_sd else rules.looks[-1]
    error, alpha = deviation / math.sqrt(visits), rules.alpha * rules.spending[-1]
    return math.expm1(rules.bar() + stats.minimal_effect(error, df, alpha, rules.power))


def by_model(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    def key(entry: Entry) -> tuple[str, str, str]:
        return str(entry.candidate.task), entry.candidate.dataset, entry.candidate.model

    for _, group in itertools.groupby(sorted(entries, key=key), key=key):
        yield list(group)
