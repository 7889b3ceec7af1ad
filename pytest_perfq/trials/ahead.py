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

from pytest_perfq.core.finding import Finding
from pytest_perfq.core.measurement import Measurement
from pytest_perfq.errors import PerfqError, TrialError
from pytest_perfq.trials.entry import Collected, Entry
from pytest_perfq.trials.environment import Environment
from pytest_perfq.trials.passes import Moment, by_model
from pytest_perfq.trials.worker import PREPARE_S, Worker


@dataclass(slots=True)
class Ahead:
    """measurements: by case id. decided: by case id, what was found of a case's latency with the whole
    suite at hand, which its item alone could not find."""

    measurements: dict[str, Measurement] = field(default_factory=dict)
    decided: dict[str, tuple[Finding, ...]] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Keeps it for other processes of this run."""
        values = {
            "measurements": {name: one.to_json() for name, one in self.measurements.items()},
            "decided": {name: [one.to_json() for one in found] for name, found in self.decided.items()},
        }
        path.write_text(json.dumps(values), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """What another process wrote."""
        values = json.loads(path.read_text(encoding="utf-8"))
        measurements = {name: Measurement.from_json(one) for name, one in values["measurements"].items()}
        decided = {name: tuple(map(Finding.from_json, found)) for name, found in values["decided"].items()}
        return cls(measurements, decided)


@dataclass(slots=True)
class InPasses:
    """Measures cases in passes. given: how, see pytest_perfq.worker.Given. time_s: of all passes, None for as long as they
    take; each visit has its own bound in `visit`. visit: keywords of the worker's `time`. watch: told of every step. say: told
    sentences for a person. kept: told of what is known of a case after each of its visits. begun: by case id, what an earlier
    process measured before it was cut off; only what it lacks is measured. args: of pytest, that find tests of
    pytest-benchmark."""

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
    found: dict[str, Measurement] = field(default_factory=dict)
    args: Sequence[str] = ()
    _troubled: set[str] = field(default_factory=set)
    _started: float = 0.0

    def run(self) -> None:
        """Fills `found`, by case id. A case that cannot be measured has none: its item meets the trouble and tells it."""
        self._started = self.clock()
        entries = [Entry(one.nodeid, one.case, one.case, one.limits) for one in self.collected if one.case.kind == "latency"]
        unique = list({one.name: one for one in entries}.values())
        while (missing := self._missing(unique)) and not self._late():
            waiting = [one for one in unique if one.name in missing]
            number, done = self.passes - max(missing.values()) + 1, 0
            for group in by_model(waiting):
                self._group(group, number, done, len(waiting))
                done += len(group)
        for name, before in self.begun.items():
            if name not in self._troubled:
                self.found.setdefault(name, before)

    def _missing(self, entries: Sequence[Entry]) -> dict[str, int]:
        """Visits that a case still lacks, by id; those that cannot be measured or lack none are left out."""
        names = [one.name for one in entries if one.name not in self._troubled]
        known = {name: self.found.get(name, self.begun.get(name)) for name in names}
        missing = {name: self.passes - (0 if one is None else len(one.visits)) for name, one in known.items()}
        return {name: number for name, number in missing.items() if number > 0}

    def _group(self, group: Sequence[Entry], number: int, before: int, total: int) -> None:
        waiting = list(group)
        while waiting and not self._late():
            try:
                with Worker(self.environment, self.given) as worker:
                    while waiting and not self._late():
                        entry, done = waiting[0], before + len(group) - len(waiting)
                        self.watch(Moment(f"{number} of {self.passes}", number, done, total, 0, entry.name, None))
                        self._visit(worker, entry)
                        waiting.pop(0)
            except TrialError:
                if not waiting:
                    raise
                self._troubled.add(waiting.pop(0).name)

    def _visit(self, worker: Worker, entry: Entry) -> None:
        case = entry.candidate.to_json()
        try:
            if worker.ask("refuses", PREPARE_S, case=case):
                self._troubled.add(entry.name)
                return
            given = {"limits": [limit.to_json() for limit in entry.limits], **self.visit}
            if entry.candidate.test is not None:
                given["args"] = list(self.args)
            found = Measurement.from_json(worker.ask("time", PREPARE_S, case=case, **given))
        except TrialError:
            raise
        except PerfqError:
            self._troubled.add(entry.name)
            return
        before = self.found[entry.name] if entry.name in self.found else self._of_before(entry.name, found)
        visits = (*before.visits, *found.visits) if before is not None else found.visits
        self.found[entry.name] = dataclasses.replace(found, visits=visits)
        self.kept(self.found[entry.name])

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

    def _late(self) -> bool:
        return self.time_s is not None and self.clock() - self._started >= self.time_s
