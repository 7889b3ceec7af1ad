"""What a run of pytest measures before its first item: latency in passes, and suspects side by side. The items then take it.

Knows settings and baselines; knows no pytest and stores nothing: the items' own records hold what was found here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pytest_perfq import baselines, device
from pytest_perfq.core.finding import Finding
from pytest_perfq.core.measurement import Measurement
from pytest_perfq.core.rules import Rules
from pytest_perfq.core.verdict import Pair, judge_suite
from pytest_perfq.settings import Settings
from pytest_perfq.trials import revisions
from pytest_perfq.trials.ahead import Ahead, InPasses
from pytest_perfq.trials.entry import Collected, Entry, matched, tell_refused, varied
from pytest_perfq.trials.environment import Environment
from pytest_perfq.trials.passes import Moment
from pytest_perfq.trials.running import Trials
from pytest_perfq.trials.sides import Sides, collect

SLOW = ("slowdown", "max_slowdown")
# What a stored baseline says of a case that it does not clear; of another machine it says nothing at all.
OPEN = ("regressed", "inconclusive", "invalid")


@dataclass(slots=True)
class Beforehand:
    """items: the latency cases that may be timed here. arguments: that select the same items in another tree. folder: where
    pytest was started. watch, say: told of progress, and sentences. kept: told of a case after each of its visits in passes.
    begun: by case id, what a run that is resumed measured of a case before it was cut off."""

    settings: Settings
    items: Sequence[Collected]
    arguments: Sequence[str]
    folder: Path
    watch: Callable[[Moment], None] = lambda moment: None
    say: Callable[[str], None] = lambda line: None
    kept: Callable[[Measurement], None] = lambda measurement: None
    begun: Mapping[str, Measurement] = field(default_factory=dict)
    found: Ahead = field(default_factory=Ahead)
    _started: float = field(default_factory=time.monotonic)

    def run(self) -> Ahead:
        """Measures what the settings ask for. Raises PerfqError for a revision or configuration that cannot be had."""
        here = Environment(label="this run", folder=self.folder)
        settings = self.settings
        if settings.passes:
            visit = {"time_s": settings.time / settings.passes, "precision": settings.precision, "passes": settings.passes}
            passes = InPasses(
                self.items, here, self._given(), settings.passes, visit, settings.run_time, self.watch,
                say=self.say, kept=self.kept, begun=self.begun, found=self.found.measurements, args=self.arguments,
            )  # fmt: skip
            passes.run()
        if settings.against is not None:
            self._judge(settings.against)
        swept = [one for one in self.items if one.case.test is None]
        if settings.vs is not None and swept:
            entries = varied(swept, settings.vs)
            for name, finding in self._beside(entries, Sides(here, here, self._given())).items():
                self.found.decided[name] = (*self.found.decided.get(name, ()), replace(finding, rule="slowdown"))
            tell_refused(entries, self.say)
        if settings.confirm is not None and (nominated := self._nominated()):
            base = revisions.environment(settings.confirm, self.folder, settings.cache, say=self.say)
            theirs = collect(base, self._given(), self.arguments)
            entries, _, new = matched(theirs, nominated)
            for name in new:
                self.say(f"{name} is not in {base.label} and cannot be confirmed against it")
            for name, finding in self._beside(entries, Sides(base, here, self._given(), self.arguments)).items():
                # What the stored baseline suspected is settled by visits side by side.
                self.found.decided[name] = (finding,)
            # The others stay as undecided as the baseline left them.
            tell_refused(entries, self.say, one_left=False)
        return self.found

    def _given(self) -> dict[str, Any]:
        settings = self.settings
        return {
            "cache": str(settings.cache.resolve()),
            "data": None if settings.data is None else str(settings.data),
            "pickle": settings.allow_pickle,
            "threads": settings.threads or device.available_threads(),
            "l2": settings.l2,
        }

    def _judge(self, against: str) -> None:
        """Holds every case against the stored baseline at once: they lend each other their spread, as in `perfq compare`."""
        baseline = baselines.load(against)
        limits = {one.case.id: one.limits for one in self.items}
        pairs = {
            name: Pair(measured, limits[name], baseline.get(name)) for name, measured in self.found.measurements.items()
        }  # fmt: skip
        for name, verdict in judge_suite(pairs, against=True).items():
            self.found.decided[name] = tuple(one for one in verdict.findings if one.rule in SLOW)

    def _nominated(self) -> list[Collected]:
        """Cases that the stored baseline does not clear: suspects, and those it cannot decide."""
        decided = self.found.decided
        return [one for one in self.items if any(found.status in OPEN for found in decided.get(one.case.id, ()))]

    def _beside(self, entries: list[Entry], sides: Sides) -> dict[str, Finding]:
        """What visits side by side say, by case id."""
        left = self.settings.run_time
        if left is not None:
            left = max(1.0, left - (time.monotonic() - self._started))
        for entry in entries:
            # Its other promises are the item's to hold.
            entry.limits = tuple(limit for limit in entry.limits if limit.rule == "max_slowdown")
        trials = Trials(entries, sides, Rules(), left, watch=self.watch, say=self.say)
        trials.run()
        if trials.interrupted:
            raise KeyboardInterrupt
        label = self.settings.vs if sides.shared and self.settings.vs is not None else sides.base.label
        return {name: _decided(verdict.findings[0], label) for name, verdict in trials.verdicts.items()}


def _decided(finding: Finding, label: str) -> Finding:
    """The finding as the item shows it; what could not be measured side by side leaves the case undecided."""
    if finding.rule in SLOW:
        return replace(finding, note=f"against {label}, {finding.note}")
    note = f"not confirmed side by side: {finding.note}"
    return Finding(rule="slowdown", status="inconclusive", note=note)
