"""Latency measured ahead of the items: every case once a pass, in a fresh worker for each pass and model.

A visit in the process of the items would share that process's memory layout and its minute with all other visits of the case,
and say nothing of how far two runs differ. What was measured waits in a file, so that workers of xdist find it too. Judges
nothing.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pytest_perfq.contracts import Lack
from pytest_perfq.core.finding import Finding
from pytest_perfq.core.measurement import Measurement
from pytest_perfq.errors import PerfqError, TrialError, UsageError
from pytest_perfq.trials import conclusions
from pytest_perfq.trials.entry import Collected, Entry
from pytest_perfq.trials.environment import Environment
from pytest_perfq.trials.pace import Pace
from pytest_perfq.trials.passes import Moment, by_model
from pytest_perfq.trials.trouble import REFUSED, Trouble
from pytest_perfq.trials.worker import PREPARE_S, Worker

# The first visit of a case may train, export and quantize; a later one finds all of that in the cache, and hangs if it takes
# longer than this.
LATER_S = 600.0
# Passes that every case gets before the undecided ones come first: two visits show a first difference.
EVEN_PASSES = 2


@dataclass(slots=True)
class Ahead:
    """All by case id. measurements: of those that were visited. decided: what was found of a case's latency with the whole
    suite at hand, which its item alone could not find. troubles: of those that cannot be measured, whatever came before.
    unvisited: why a case got no visit, in one sentence. noted: findings about how it was measured, beside all others."""

    measurements: dict[str, Measurement] = field(default_factory=dict)
    decided: dict[str, tuple[Finding, ...]] = field(default_factory=dict)
    troubles: dict[str, Trouble] = field(default_factory=dict)
    unvisited: dict[str, str] = field(default_factory=dict)
    noted: dict[str, tuple[Finding, ...]] = field(default_factory=dict)

    def measured(self, name: str) -> Measurement | None:
        """What was measured of a case; None where nobody did. Raises what it met with in any of its visits."""
        if name in self.troubles:
            raise self.troubles[name].error
        return self.measurements.get(name)

    def refusals(self, name: str) -> list[str]:
        """Why workers refused a case. Where its item would not, it is for something on this machine that comes and goes."""
        trouble = self.troubles.get(name)
        return [Lack(trouble.text)] if trouble is not None and trouble.kind == REFUSED else []

    def write(self, path: Path) -> None:
        """Keeps it for other processes of this run."""
        values = {
            "measurements": {name: one.to_json() for name, one in self.measurements.items()},
            "decided": {name: [one.to_json() for one in found] for name, found in self.decided.items()},
            "troubles": {name: one.to_json() for name, one in self.troubles.items()},
            "unvisited": self.unvisited,
            "noted": {name: [one.to_json() for one in found] for name, found in self.noted.items()},
        }
        path.write_text(json.dumps(values), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """What another process wrote."""
        values = json.loads(path.read_text(encoding="utf-8"))

        def findings(what: str) -> dict[str, tuple[Finding, ...]]:
            return {name: tuple(map(Finding.from_json, found)) for name, found in values[what].items()}

        measurements = {name: Measurement.from_json(one) for name, one in values["measurements"].items()}
        troubles = {name: Trouble.from_json(one) for name, one in values["troubles"].items()}
        return cls(measurements, findings("decided"), troubles, values["unvisited"], findings("noted"))


@dataclass(slots=True)
class InPasses:
    """Measures cases in passes. given: how, see pytest_perfq.worker.Given. time_s: of all passes, None for as long as they
    take; each visit has its own bound in `visit`. visit: keywords of the worker's `time`. watch: told of every step. say: told
    sentences for a person. kept: told of what is known of a case after each of its visits. begun: by case id, what an earlier
    process measured before it was cut off; only what it lacks is measured. open_still: ids of cases whose verdict is open by
    now, and whether each is suspected to be slower. args: of pytest, that find tests of pytest-benchmark. short: in the end,
    visits that cases lack for want of time, by id. needed_s: what all visits would have taken, None where nobody knows."""

    collected: Sequence[Collected]
    environment: Environment
    given: dict[str, Any]
    passes: int
    visit: dict[str, Any]
    time_s: float | None = None
    watch: Callable[[Moment], None] = lambda moment: None
    clock: Callable[[], float] = time.monotonic
    say: Callable[[str], None] = lambda line: None
    kept: Callable[[Measurement], None] = lambda measurement: None
    begun: Mapping[str, Measurement] = field(default_factory=dict)
    open_still: Callable[[], Mapping[str, bool]] = dict
    found: Ahead = field(default_factory=Ahead)
    args: Sequence[str] = ()
    short: dict[str, int] = field(default_factory=dict)
    needed_s: float | None = None
    _pace: Pace = field(init=False)
    _lost: dict[str, str] = field(default_factory=dict)
    _open: Mapping[str, bool] = field(default_factory=dict)
    _due: int = 0
    _starts: int = 0

    def run(self) -> None:
        """Fills `found`. A case that goes wrong in any pass has a trouble and no measurement, whatever its other visits gave.
        Raises TrialError for workers that cannot be started."""
        self._pace = Pace(self.clock, self.time_s)
        entries = [Entry(one.nodeid, one.case, one.case, one.limits) for one in self.collected if one.case.kind == "latency"]
        unique = list({one.name: one for one in entries}.values())
        while (missing := self._missing(unique)) and not self._pace.used():
            self._pass([one for one in unique if one.name in missing], missing)
        for entry in unique:
            self._conclude(entry)
        self.short = self._missing(unique)
        needed = self._pace.needed_s(sum(self.short.values()), _starts(unique, self.short))
        self.needed_s = None if needed is None else self._pace.spent_s + needed

    def _conclude(self, entry: Entry) -> None:
        name = entry.name
        if name in self._lost and not entry.over:
            self._give_up(entry, Trouble("lost", f"{self._lost[name]}; no time was left to try once more"))
        if not entry.over and name in self.begun:
            self.found.measurements.setdefault(name, self.begun[name])

    def _missing(self, entries: Sequence[Entry]) -> dict[str, int]:
        """Visits that a case still lacks, by id; those that cannot be measured or lack none are left out."""
        names = [one.name for one in entries if not one.over]
        known = {name: self.found.measurements.get(name, self.begun.get(name)) for name in names}
        missing = {name: self.passes - (0 if one is None else len(one.visits)) for name, one in known.items()}
        return {name: number for name, number in missing.items() if number > 0}

    def _pass(self, waiting: Sequence[Entry], missing: Mapping[str, int]) -> None:
        number, done = self.passes - max(missing.values()) + 1, 0
        self._open = self.open_still() if number > 1 else {}
        groups = list(by_model(waiting))
        if number > EVEN_PASSES and self.time_s is not None:
            # The time may end in this pass: what is decided can do without it.
            first, rest = (
                [one for one in waiting if (one.name in self._open) == whether] for whether in (True, False)
            )  # fmt: skip
            groups = [*by_model(first), *by_model(rest)]
        self._due, self._starts = sum(missing.values()), _starts(waiting, missing)
        for group in groups:
            self._group(group, number, done, len(waiting))
            done += len(group)

    def _group(self, group: Sequence[Entry], number: int, before: int, total: int) -> None:
        """One pass over the entries of one model. Where a worker is lost the case is tried once more, in a fresh one."""
        waiting = list(group)
        while waiting and not self._pace.used():
            begun, first = self.clock(), True
            with Worker(self.environment, self.given) as worker:
                while waiting and not self._pace.used():
                    entry, done = waiting[0], before + len(group) - len(waiting)
                    left, suspects = self._pace.left_s(self._due, self._starts), sum(self._open.values())
                    self.watch(Moment(f"pass {number} of {self.passes}", 0, done, total, suspects, entry.name, left))
                    try:
                        self._visit(worker, entry)
                    except TrialError as error:
                        self._lose(entry, str(error))
                        if entry.over:
                            waiting.pop(0)
                        break
                    waiting.pop(0)
                    self._pace.took(self.clock() - begun, first)
                    self._due, self._starts = self._due - 1, self._starts - first
                    begun, first = self.clock(), False

    def _visit(self, worker: Worker, entry: Entry) -> None:
        name, case = entry.name, entry.candidate.to_json()
        try:
            if reasons := worker.ask("refuses", LATER_S, case=case):
                self._give_up(entry, Trouble(REFUSED, "; ".join(reasons)))
                return
            given = {"limits": [limit.to_json() for limit in entry.limits], **self.visit}
            if entry.candidate.test is not None:
                given["args"] = list(self.args)
            limit_s = LATER_S if name in self.found.measurements else PREPARE_S
            found = Measurement.from_json(worker.ask("time", limit_s, case=case, **given))
        except TrialError:
            raise
        except PerfqError as error:
            if entry.candidate.test is not None and isinstance(error, UsageError) and name not in self.found.measurements:
                # It gives nothing to time here. What it gives where it runs is its item's to find out.
                entry.refused = str(error)
                return
            self._give_up(entry, Trouble.of(error, self.environment.label))
            return
        known = self.found.measurements
        before = known[name] if name in known else self._of_before(name, found)
        visits = (*before.visits, *found.visits) if before is not None else found.visits
        known[name] = dataclasses.replace(found, visits=visits)
        if name in self._lost:
            self._recover(entry)
        self.kept(known[name])

    def _lose(self, entry: Entry, text: str) -> None:
        entry.lose(text, candidate=True)
        self._lost[entry.name] = text
        if entry.trouble is not None:
            self._give_up(entry, Trouble("lost", entry.trouble))

    def _recover(self, entry: Entry) -> None:
        del self._lost[entry.name]
        self.found.noted[entry.name] = conclusions.recovered(entry)
        self.say(f"{entry.name}: {entry.recovered}")

    def _give_up(self, entry: Entry, trouble: Trouble) -> None:
        """Whatever its other visits gave: they may be those of a program that does not always work."""
        entry.trouble = trouble.text
        self.found.troubles[entry.name] = trouble
        for known in (self.found.measurements, self.found.noted):
            known.pop(entry.name, None)

    def _of_before(self, name: str, now: Measurement) -> Measurement | None:
        """What was begun of a case, where it is of the same machine and software: visits of two are no measurement of one."""
        before = self.begun.get(name)
        if before is None:
            return None
        identity = before.fingerprint.differences(now.fingerprint, "identity")
        differences = {**identity, **before.fingerprint.differences(now.fingerprint, "stack")}
        if not differences:
            return before
        what, (was, is_now) = next(iter(differences.items()))
        self.say(f"{name} was cut off where {what} was {was}, and now it is {is_now}: its earlier visits are not counted")
        return None


def _starts(entries: Sequence[Entry], missing: Mapping[str, int]) -> int:
    """Workers to be started for the visits that are missing, by case id."""
    groups = (max(missing.get(one.name, 0) for one in group) for group in by_model(entries))
    return sum(groups)
