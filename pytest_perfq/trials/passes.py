"""The pass scheduler: every open case is visited once a pass, in fresh workers, until its verdict stands or time is up.

Visits of one case so lie as far apart as the suite is long, and every one meets another process. Which case is still open
is core.stages' to say; this only measures. A stopped run keeps every visit it made.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from pytest_perfq import stopwatch
from pytest_perfq.core import stages
from pytest_perfq.core.conditions import Conditions, disturbances
from pytest_perfq.core.measurement import Samples
from pytest_perfq.core.promises import rounds_wanted
from pytest_perfq.core.rules import Rules
from pytest_perfq.core.stages import Standing
from pytest_perfq.core.trial import Side, Stage, TrialVisit
from pytest_perfq.device.conditions import watched
from pytest_perfq.device.lock import device_lock
from pytest_perfq.device.sampler import Sampler
from pytest_perfq.errors import TrialError
from pytest_perfq.report.seen import too_noisy
from pytest_perfq.trials.entry import Entry
from pytest_perfq.trials.opened import Blamed, Lost, Opened, Refused
from pytest_perfq.trials.pace import Pace, visit_plan

# Of a time that is given the screen takes at most this share where it has suspects, once every case had its first look:
# undecided cases may wait, an accused one must be heard.
SCREEN_SHARE = 0.5
# Where a pass takes minutes, so many cases are visited twice before all others, in fresh workers each time: how far visits
# differ is then known in the first minute.
SCOUTS, MANY = 8, 24
STOPPED, LATE = "Ctrl-C stopped the run", "the time given was used up"

T = TypeVar("T", bound=Opened)


@dataclass(frozen=True, slots=True)
class Moment:
    """Where a run of trials stands, for whoever shows progress. stage: 'accuracy', 'screen', 'confirm' or 'explain', or the
    pass itself where passes are all there is. number: of the pass, 0 where that says nothing more. done, total: cases of the
    pass. suspects: known so far. left_s: estimated, None at first."""

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
    screened: False where every entry is a suspect already. kept: told of every entry that gained a visit, and who made it.
    watch: told of every step. say: told sentences for a person. watcher: of the machine beside each visit, None for nobody.
    threads: of a side on a CPU. ended: why it stopped before everything was decided."""

    entries: Sequence[Entry]
    opened: Callable[[], AbstractContextManager[T]]
    rules: Rules = field(default_factory=Rules)
    time_s: float | None = None
    screened: bool = True
    kept: Callable[[Entry, T], None] = lambda entry, pair: None
    watch: Callable[[Moment], None] = lambda moment: None
    say: Callable[[str], None] = lambda line: None
    clock: Callable[[], float] = time.monotonic
    watcher: Sampler | None = None
    threads: int = 1
    ended: str | None = None
    number: int = 0
    suspects: list[str] = field(default_factory=list)
    _pace: Pace = field(init=False)
    _places: dict[str, int] = field(init=False)
    _due: int = 0
    _starts: int = 0
    _decided: dict[Stage, dict[str, Standing]] = field(default_factory=dict)
    _warned: bool = False

    def run(self) -> dict[str, Standing]:
        """Where every entry stands in the end, by name; those without a visit have none. Raises TrialError for workers that
        cannot be started at all."""
        self._pace = Pace(self.clock, self.time_s)
        self._places = {one.name: place for place, one in enumerate(self.entries)}
        try:
            if self.screened:
                self._stage("screen")
                # What the screen found stays as it is: fresh data alone decides about a suspect.
                self.suspects = self._nominated()
            else:
                self.suspects = [one.name for one in self.entries]
            if self.suspects:
                self._stage("confirm")
        except KeyboardInterrupt:
            self.ended = STOPPED
        except TrialError as error:
            if not any(one.visits for one in self.entries):
                raise
            self.ended = str(error)
        return self.standings()

    @property
    def interrupted(self) -> bool:
        return self.ended == STOPPED

    def standings(self) -> dict[str, Standing]:
        """Where every entry stands now: suspects by their fresh visits, where they have any."""
        return {**self._standings("screen"), **self._standings("confirm")}

    # -- deciding

    def _standings(self, stage: Stage) -> dict[str, Standing]:
        visits = {one.name: one.screen if stage == "screen" else one.confirm for one in self.entries}
        values = {name: [visit.log_ratio for visit in found] for name, found in visits.items() if found}
        effects = {one.name: one.effect for one in self.entries if one.effect is not None}
        # A case that lags by a spoilt visit changes what the others lean on: what was decided once stays.
        decided = self._decided.get(stage)
        if stage == "screen":
            found = stages.screen(values, self.rules, effects, decided)
        else:
            found = stages.confirm(values, max(1, len(self.suspects)), self.rules, effects, decided)
        self._decided[stage] = found
        return found

    def _nominated(self) -> list[str]:
        return [name for name, one in self._standings("screen").items() if one.status == "suspect"]

    def _open(self, stage: Stage) -> dict[str, int]:
        """Names of entries that need more visits in this stage, and how many until they are looked at."""
        standings = self._standings(stage)
        first = self.rules.screen_visits[0] if stage == "screen" else self.rules.looks[0]
        wanted = [one for one in self.entries if (stage == "screen" or one.name in self.suspects) and not one.over]
        needed = {one.name: standings[one.name].needed if one.name in standings else first for one in wanted}
        return {name: visits for name, visits in needed.items() if visits}

    # -- measuring

    def _stage(self, stage: Stage) -> None:
        while (needed := self._open(stage)) and self.ended is None:
            if stage == "screen" and self._hurried(needed):
                return
            self.number += 1
            suspects = len(self._nominated() if stage == "screen" else self.suspects)
            waiting = [one for one in self.entries if one.name in needed]
            groups = list(by_model(waiting))
            self._due, self._starts = sum(needed.values()), len(groups) * max(needed.values())
            scouting = self.number == 1 and len(waiting) >= MANY
            if scouting:
                scouts, groups[0] = groups[0][:SCOUTS], groups[0][SCOUTS:]
                groups = [scouts, scouts, *groups]
            done, total = 0, sum(map(len, groups))
            for place, group in enumerate(groups):
                self._group([one for one in group if not one.over], stage, done, total, suspects)
                done += len(group)
                if scouting and place == 1:
                    self._warn(stage)
            if self.number == 2:
                self._warn(stage)

    def _hurried(self, needed: dict[str, int]) -> bool:
        """Whether what is undecided must wait for what is suspected."""
        looked = all(len(one.screen) >= self.rules.screen_visits[0] for one in self.entries if one.name in needed)
        if not (looked and self._pace.used(SCREEN_SHARE) and self._nominated()):
            return False
        self.say(f"half of the time is used: {len(needed)} undecided cases are left so, and the suspects are confirmed")
        return True

    def _group(self, group: Sequence[Entry], stage: Stage, before: int, total: int, suspects: int) -> None:
        """One pass over the entries of one model. Where a worker is lost the case is tried once more, in fresh ones."""
        waiting = list(group)
        while waiting and self._in_time():
            begun, first = self.clock(), True
            try:
                with self.opened() as pair:
                    while waiting and self._in_time():
                        entry, done = waiting[0], before + len(group) - len(waiting)
                        left = self._pace.left_s(self._due, self._starts)
                        self.watch(Moment(stage, self.number, done, total, suspects, entry.name, left))
                        self._visit(pair, entry, stage, self._pace.start_s / len(group))
                        waiting.pop(0)
                        self._pace.took(self.clock() - begun, first)
                        self._due, self._starts = self._due - 1, self._starts - first
                        begun, first = self.clock(), False
            except Lost as error:
                waiting[0].lose(str(error), error.candidate)
                if waiting[0].over:
                    waiting.pop(0)

    def _visit(self, pair: T, entry: Entry, stage: Stage, start_s: float) -> None:
        """start_s: its share of what its workers took to start."""
        visits = entry.screen if stage == "screen" else entry.confirm
        # The side that begins changes from visit to visit, and from case to case within a pass.
        first: Side = "b" if (self._places[entry.name] + len(visits)) % 2 else "a"
        plan = visit_plan(-(-rounds_wanted(entry.limits) // self.rules.screen_visits[0]), start_s)
        try:
            pair.prepare(entry.base, entry.candidate)
            sides = pair.sides()
            order = {name: sides[name] for name in ("ab" if first == "a" else "ba")}
            with device_lock(entry.candidate.device).write_lock():
                found, conditions = self._timed(entry, order, plan)
            pair.audit()
        except Refused as error:
            entry.refused = str(error)
        except Blamed as error:
            entry.trouble, entry.broken = str(error), error.candidate
        else:
            if reasons := disturbances(conditions, ratio=True):
                entry.spoil("; ".join(reasons))
                return
            visits.append(TrialVisit(len(visits), stage, first, found["a"], found["b"], conditions))
            self.kept(entry, pair)

    def _timed(
        self, entry: Entry, order: Mapping[str, stopwatch.Side], plan: stopwatch.VisitPlan
    ) -> tuple[dict[str, Samples], Conditions | None]:
        """Both sides' samples, and the conditions where somebody watches."""
        if self.watcher is None:
            return stopwatch.alternate(order, plan), None
        device = entry.candidate.device
        threads = self.threads if device == "cpu" else 1
        attempt = partial(stopwatch.alternate, order, plan)
        return watched(attempt, self.watcher, device=device, threads=threads, ratio=True, told=self.say)

    def _in_time(self) -> bool:
        if self.ended is None and self._pace.used():
            self.ended = LATE
        return self.ended is None

    def _warn(self, stage: Stage) -> None:
        """As soon as visits show how far they differ: whether anything can be decided here at all. Once is enough."""
        found = [one.screen if stage == "screen" else one.confirm for one in self.entries]
        deviation = stages.pooled_sd({str(number): [one.log_ratio for one in visits] for number, visits in enumerate(found)})
        told = None if deviation is None or self._warned else too_noisy(deviation, self.rules)
        if told is not None:
            self._warned = True
            self.say(told)


def by_model(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """The entries of one model after the other, so that a worker loads it once."""

    def key(entry: Entry) -> tuple[str, str, str]:
        return str(entry.candidate.task), entry.candidate.dataset, entry.candidate.model

    for _, group in itertools.groupby(sorted(entries, key=key), key=key):
        yield list(group)
