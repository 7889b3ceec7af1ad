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
from pytest_perfq.arguments import duration
from pytest_perfq.baselines import Baseline
from pytest_perfq.core.finding import Finding, Verdict
from pytest_perfq.core.measurement import Measurement
from pytest_perfq.core.rules import Rules
from pytest_perfq.core.verdict import SLOW, Pair, judge_suite, slowdowns
from pytest_perfq.settings import Settings
from pytest_perfq.trials import conclusions, revisions
from pytest_perfq.trials.ahead import Ahead, InPasses
from pytest_perfq.trials.entry import Collected, Entry, matched, tell_refused, varied
from pytest_perfq.trials.environment import Environment
from pytest_perfq.trials.pace import VISIT_S, Allowance
from pytest_perfq.trials.passes import LATE, Moment
from pytest_perfq.trials.running import Trials
from pytest_perfq.trials.sides import Sides, collect

DECIDED = ("pass", "improved", "regressed", "fail")
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
    clock: Callable[[], float] = time.monotonic
    _allowance: Allowance = field(init=False)
    _baseline: Baseline | None = None

    def run(self) -> Ahead:
        """Measures what the settings ask for. Raises PerfqError for a revision or configuration that cannot be had, and that
        before anything is measured."""
        here, settings = Environment(label="this run", folder=self.folder), self.settings
        beside = held_against(settings, self.items, self.folder)
        self._allowance = Allowance(settings.run_time, self.clock)
        if settings.passes:
            self._visit(here)
        if settings.against is not None:
            for name, verdict in self._judged(settings.against).items():
                self.found.decided[name] = slowdowns(verdict)
        varying: dict[str, Finding] = {}
        # What could not be measured alone is not measured beside another.
        if settings.vs is not None and (sound := [one for one in beside if one.name not in self.found.troubles]):
            varying = self._beside(sound, Sides(here, here, given(self.settings)), settings.vs, settings.confirm is not None)
            # Where some were taken before the run was cut off, the rest of it may be what is refused.
            tell_refused(sound, self.say, one_left=not settings.resume)
        if settings.confirm is not None and (nominated := self._nominated()):
            self._confirm(settings.confirm, nominated, here)
        for name, finding in varying.items():
            # No promise was made about another configuration.
            finding = replace(finding, rule="slowdown") if finding.rule in SLOW else finding
            self.found.decided[name] = (*self.found.decided.get(name, ()), finding)
        return self.found

    def _visit(self, here: Environment) -> None:
        settings, cases = self.settings, len({one.case.id for one in self.items})
        share = self._allowance.share_s(followed=settings.vs is not None or settings.confirm is not None)
        time_s = settings.time / settings.passes
        if share is not None:
            time_s = min(time_s, max(VISIT_S, share / max(1, settings.passes * cases)))
        visit = {"time_s": time_s, "precision": settings.precision, "passes": settings.passes}
        passes = InPasses(
            self.items, here, given(self.settings), settings.passes, visit, share, self.watch, self.clock, self.say, self.kept,
            self.begun, self._open_still, self.found, self.arguments,
        )  # fmt: skip
        with self._allowance.spending():
            passes.run()
        if passes.short and share:
            self._tell_short(passes, share)

    def _tell_short(self, passes: InPasses, share: float) -> None:
        """Cases without a visit learn why, and a person how much time all of them take."""
        given = self.settings.run_time
        assert given is not None
        text, more = duration(given), ""
        if passes.needed_s is not None:
            more = f"; all visits of this suite take about {duration(passes.needed_s * given / share)}"
        never = [name for name in passes.short if name not in self.found.measurements]
        for name in never:
            self.found.unvisited[name] = f"no time was left: give --perf-time more than {text}{more}"
        some, wanted = len(passes.short) - len(never), self.settings.passes
        told = [f"{_cases(len(never))} got no visit"] if never else []
        told += [f"{_cases(some)} fewer than {wanted}"] if some else []
        self.say(f"--perf-time of {text} is used up: {' and '.join(told)}{more}")

    def _open_still(self) -> dict[str, bool]:
        """Cases that the stored baseline does not clear by what is known now, and whether they look slower than they may be."""
        if self.settings.against is None:
            return {}
        found = {}
        for name, verdict in self._judged(self.settings.against).items():
            doubts = [one for one in slowdowns(verdict) if one.status in OPEN]
            if doubts:
                found[name] = any((one.observed or 0.0) > (one.limit or 0.0) for one in doubts)
        return found

    def _confirm(self, revision: str, nominated: Sequence[Collected], here: Environment) -> None:
        """What the stored baseline suspected is settled by visits side by side; what they cannot decide stays as it left it."""
        base = revisions.environment(revision, self.folder, self.settings.cache, say=self.say)
        theirs = collect(base, given(self.settings), self.arguments)
        entries, _, new = matched(theirs, nominated)
        for name in new:
            self.say(f"{name} is not in {base.label} and cannot be confirmed against it")
        sides = Sides(base, here, given(self.settings), self.arguments)
        found = self._beside(entries, sides, base.label, followed=False) if entries else {}
        for name, finding in found.items():
            self.found.decided[name] = _settled(self.found.decided[name], finding)
        # The others stay as undecided as the baseline left them.
        tell_refused(entries, self.say, one_left=False)

    def _judged(self, against: str) -> dict[str, Verdict]:
        """Every case against the stored baseline at once: they lend each other their spread, as in `perfq compare`."""
        if self._baseline is None:
            self._baseline = baselines.load(against)
        limits = {one.case.id: one.limits for one in self.items}
        pairs = {
            name: Pair(measured, limits[name], self._baseline.get(name)) for name, measured in self.found.measurements.items()
        }  # fmt: skip
        return judge_suite(pairs, against=True)

    def _nominated(self) -> list[Collected]:
        """Cases that the stored baseline does not clear: suspects, and those it cannot decide."""
        decided = self.found.decided
        return [one for one in self.items if any(found.status in OPEN for found in decided.get(one.case.id, ()))]

    def _beside(self, entries: list[Entry], sides: Sides, label: str, followed: bool) -> dict[str, Finding]:
        """What visits side by side say, by case id. label: of the base. followed: by others, which need time as well."""
        for entry in entries:
            # Its other promises are the item's to hold.
            entry.limits = tuple(limit for limit in entry.limits if limit.rule == "max_slowdown")
        share = self._allowance.share_s(followed)
        trials = Trials(entries, sides, Rules(), share, watch=self.watch, say=self.say)
        with self._allowance.spending():
            trials.run()
        if trials.interrupted:
            raise KeyboardInterrupt
        for entry in entries:
            if lost := conclusions.recovered(entry):
                self.found.noted[entry.name] = lost
        found = {name: _finding(verdict.findings[0], label) for name, verdict in trials.verdicts.items()}
        late = sum(one.status not in DECIDED for one in found.values()) if trials.ended == LATE else 0
        if late and self.settings.run_time is not None:
            given = duration(self.settings.run_time)
            self.say(f"--perf-time of {given} is used up: {_cases(late)} not decided beside {label}; give it more")
        return found


def held_against(settings: Settings, items: Sequence[Collected], folder: Path) -> list[Entry]:
    """Every latency case beside its other configuration, where the settings ask for one. Raises PerfqError for a configuration
    that these cases cannot have, and for a revision that is not in the repository of the folder."""
    swept = [one for one in items if one.case.test is None]
    beside = varied(swept, settings.vs) if settings.vs is not None and swept else []
    if settings.confirm is not None:
        revisions.check(settings.confirm, folder)
    return beside


def given(settings: Settings) -> dict[str, Any]:
    """How workers of this run measure, see pytest_perfq.worker.Given."""
    return {
        "cache": str(settings.cache.resolve()),
        "data": None if settings.data is None else str(settings.data),
        "pickle": settings.allow_pickle,
        "threads": settings.threads or device.available_threads(),
        "l2": settings.l2,
    }


def _cases(number: int) -> str:
    return f"{number} case{'' if number == 1 else 's'}"


def _finding(finding: Finding, label: str) -> Finding:
    """The finding as the item shows it. What could not be measured side by side leaves the case undecided, unless its own
    program is to blame. label: of the base."""
    if finding.rule in SLOW and finding.observed is not None:
        return replace(finding, note=f"against {label}, {finding.note}")
    note = f"not measured side by side with {label}: {finding.note.removeprefix('not measured: ')}"
    return (
        replace(finding, note=note) if finding.status == "fail" else Finding(rule="slowdown", status="inconclusive", note=note)
    )


def _settled(nominated: Sequence[Finding], finding: Finding) -> tuple[Finding, ...]:
    """What a stored baseline found, after visits side by side: they replace it where they decide, or tell more of what it left
    undecided. An alarm is not called off by what nobody could measure."""
    if finding.rule not in SLOW:
        return (*nominated, finding)
    undecided = all(one.status == "inconclusive" for one in nominated)
    if finding.status in DECIDED or (undecided and finding.observed is not None):
        return (finding,)
    return tuple(replace(one, note="; ".join(part for part in (one.note, finding.note) if part)) for one in nominated)
