"""`perfq calibrate`: what slow-downs of each case can be seen on this machine, found out by A/A visits and stored."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pytest_perfq import device
from pytest_perfq.cli.storing import opened
from pytest_perfq.core.fingerprint import Fingerprint
from pytest_perfq.core.rules import Rules
from pytest_perfq.core.visible import expected_suspects, visible
from pytest_perfq.errors import UsageError
from pytest_perfq.report.grid import Column, render
from pytest_perfq.report.passing import Passing
from pytest_perfq.report.seen import caught
from pytest_perfq.settings import default_cache
from pytest_perfq.store import Calibration
from pytest_perfq.trials.calibration import AgainstItself, deviations
from pytest_perfq.trials.entry import Entry
from pytest_perfq.trials.environment import Environment
from pytest_perfq.trials.sides import Sides, Workers, settings

COLUMNS = (
    Column("case", right=False, folds=True),
    Column("visits", spare=1),
    Column("SD"),
    Column("caught with 90 %"),
    Column("with 50 %", spare=2),
)
LEAST_VISITS = 4


def calibrate(words: Sequence[str], visits: int, store: str, threads: int | None, width: int) -> str:
    """Measures and stores the calibration of the cases that pytest finds with these words; the table of what can be seen."""
    if visits < LEAST_VISITS:
        raise UsageError(f"--visits is {visits}; fewer than {LEAST_VISITS} say little of how far visits differ")
    one = Environment(label="this environment", folder=Path.cwd())
    said = settings(one, words)
    given = {**said, "threads": threads or said["threads"] or device.available_threads()}
    given["cache"] = given["cache"] or str(default_cache().resolve())
    sides = Sides(one, replace(one, label="the same environment"), given, words)
    collected, _ = sides.collected(words)
    entries = [Entry(one.nodeid, one.case, one.case, one.limits) for one in collected if one.case.kind == "latency"]
    if not entries:
        raise UsageError(f"none of the {len(collected)} cases is a latency case; name suites that have some")
    machines: dict[str, str] = {}
    passing = Passing(_write, sys.stderr.isatty())

    def visited(entry: Entry, workers: Workers) -> None:
        on = entry.candidate.device
        if on not in machines:
            machines[on] = Fingerprint.from_json(workers.fingerprints(on)["b"]).key

    with opened(store) as stored:
        try:
            passes = AgainstItself(entries, sides.opened, kept=visited, watch=passing.watch, visits=visits)
            passes.run()
        finally:
            passing.close()
        found = _calibrations(entries, machines)
        stored.calibrate(found)
    return _table(found, entries, width)


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _calibrations(entries: Sequence[Entry], machines: dict[str, str]) -> list[Calibration]:
    now = time.time()
    spread = deviations({one.name: [visit.log_ratio for visit in one.screen] for one in entries}, Rules())
    visits = {one.name: one for one in entries}
    return [
        Calibration(
            recorded_s=now,
            machine=machines[visits[name].candidate.device],
            case_id=name,
            visits=len(visits[name].screen),
            deviation=deviation,
        )
        for name, deviation in spread.items()
    ]


def _table(found: Sequence[Calibration], entries: Sequence[Entry], width: int) -> str:
    if not found:
        why = next((one.trouble or one.refused for one in entries if one.trouble or one.refused), "no case was visited twice")
        raise UsageError(f"nothing was calibrated: {why}")
    suspects = expected_suspects(len(found))
    rows = [
        [
            one.case_id,
            str(one.visits),
            f"{one.deviation:.1%}",
            *(_percent(visible(one.deviation, chance, suspects)) for chance in (0.9, 0.5)),
        ]
        for one in found
    ]
    worst = max(found, key=lambda one: one.deviation)
    left = len(entries) - len(found)
    lines = [render(COLUMNS, rows, width), f"{worst.case_id}: {caught(worst.deviation, suspects)}"]
    if left:
        lines.append(f"{left} of {len(entries)} cases could not be visited twice, and are not calibrated")
    return "\n".join(lines)


def _percent(slowdown: float) -> str:
    return f"+{slowdown:.1%}" if math.isfinite(slowdown) else "none"
