"""From pytest's items to what is measured before them. Imports pytest; measures nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_perfq import collecting, device, suite
from pytest_perfq.core.finding import Finding, Verdict
from pytest_perfq.report.passing import Passing
from pytest_perfq.trials import refusing
from pytest_perfq.trials.ahead import Ahead
from pytest_perfq.trials.beforehand import Beforehand, given, held_against
from pytest_perfq.trials.calibrated import Calibrated
from pytest_perfq.trials.environment import Environment
from pytest_perfq.trials.sides import collect

Keep = Callable[[str, dict[str, Any]], None]

if TYPE_CHECKING:
    from pytest_perfq.core.measurement import Measurement
    from pytest_perfq.settings import Settings
    from pytest_perfq.trials.entry import Collected


def check(session: pytest.Session, settings: Settings) -> None:
    """Raises PerfqError for what this session's latency items cannot be held against, before a run is begun for them. The
    controller of xdist has no items yet, and begins no run before it has."""
    _check([one for item in session.items if (one := collecting.collected(item)) is not None], session.config, settings)


def _check(items: Sequence[Collected], config: pytest.Config, settings: Settings) -> None:
    timed = [one for one in items if one.case.kind == "latency"]
    if not timed:
        return
    folder, target = Path(config.invocation_params.dir), suite.target_of(config)
    beside = [one for one in held_against(settings, timed, folder) if target.unmeasured(one.candidate) is None]
    if settings.vs is not None and beside:
        refusing.check(beside, Environment(label="this run", folder=folder), given(settings), settings.vs)


def measure(session: pytest.Session, settings: Settings, passing: Passing, keep: Keep) -> Ahead | None:
    """What was measured ahead of this session's latency items; None where there are none to time here. Raises PerfqError.
    keep: told of the record of an item after each of its visits: a run that is killed before its items keeps what it has."""
    config = session.config
    here, arguments = Path(config.invocation_params.dir), selection(config)
    if session.items:
        items = [one for item in session.items if (one := collecting.collected(item)) is not None]
    else:
        # The controller of xdist collects nothing itself; its workers' items are not to be had before they run.
        items = collect(Environment(label="this run", folder=here), {"cache": str(settings.cache)}, arguments, none=True)
        _check(items, config, settings)
    target = suite.target_of(config)
    # Of pytest-benchmark's tests, those that this run judges at all.
    items = [one for one in items if one.case.test is None or (settings.benchmarks and one.refused is None)]
    timed = [one for one in items if one.case.kind == "latency" and target.unmeasured(one.case) is None]
    done = _done(settings)
    timed = [one for one in timed if one.nodeid not in done or not done[one.nodeid].whole(settings.passes)]
    # Their items refuse them, whatever would be measured.
    threads = settings.threads or device.available_threads()
    calibrated = Calibrated(settings.store, lambda on: device.fingerprint(on, threads, l2=settings.l2).key)
    timed = [one for one in timed if one.case.test is not None or calibrated.too_fine(one.case, one.limits) is None]
    if not timed:
        return None
    begun = {one.case.id: done[one.nodeid].measurement for one in timed if one.nodeid in done}

    def kept(measurement: Measurement) -> None:
        for one in timed:
            if one.case == measurement.case:
                keep(one.nodeid, _cut_off(measurement, one, settings.passes))

    return Beforehand(settings, timed, arguments, here, watch=passing.watch, say=passing.say, kept=kept, begun=begun).run()


def _cut_off(measurement: Measurement, one: Collected, passes: int) -> dict[str, Any]:
    """The record of an item, should its run end before it is judged."""
    note = f"cut off before it was judged, after {len(measurement.visits)} of {passes} visits"
    verdict = Verdict(one.case.id, (Finding(rule="measured", status="inconclusive", note=note),), one.limits)
    return {"measurement": measurement.to_json(), "verdict": verdict.to_json(), "resumed": False, "attempt": 1}


@dataclass(frozen=True, slots=True)
class _Done:
    """What a run that is resumed has of an item. judged: whether it lived to hold its promises, which is after what is timed
    side by side."""

    measurement: Measurement
    judged: bool

    def whole(self, passes: int) -> bool:
        return self.judged and len(self.measurement.visits) >= passes


def _done(settings: Settings) -> dict[str, _Done]:
    """By nodeid, of a run that is resumed; nothing of another."""
    if not settings.resume:
        return {}
    from pytest_perfq.core.measurement import Measurement
    from pytest_perfq.store import Store

    with Store.open(settings.store, readonly=True) as store:
        run = store.last_unfinished_run()
        done = {} if run is None else store.done(run.id)
    return {nodeid: _Done(Measurement.from_json(one.measurement), one.judged) for nodeid, one in done.items()}


def selection(config: pytest.Config) -> list[str]:
    """Arguments by which pytest selects the same items in another tree of the same project: paths from where it was started,
    and the options that choose. What writes files, spreads or measures is left out."""
    here = Path(config.invocation_params.dir)
    found: list[str] = []
    for argument in config.args:
        path, separator, name = argument.partition("::")
        resolved = (here / path).resolve()
        inside = resolved.relative_to(here.resolve()) if resolved.is_relative_to(here.resolve()) else Path(path)
        found.append(f"{inside}{separator}{name}")
    for option, value in (("-k", config.option.keyword), ("-m", config.option.markexpr)):
        found += [option, value] if value else []
    for value in config.option.deselect or ():
        found += ["--deselect", value]
    settings = config.stash[suite.SETTINGS]
    return [*found, f"--perf-gpu={settings.gpu}", *([f"--perf-only={settings.only}"] if settings.only else [])]
