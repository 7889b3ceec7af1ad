"""`perfq calibrate`: what slow-downs of each case can be seen on this machine, found out by A/A visits and stored."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pytest_perfq import device
from pytest_perfq.cli.given import to_errors
from pytest_perfq.cli.storing import opened
from pytest_perfq.core.fingerprint import Fingerprint
from pytest_perfq.core.rules import Rules
from pytest_perfq.core.visible import expected_suspects, visible
from pytest_perfq.device.sampler import sampler
from pytest_perfq.errors import UsageError
from pytest_perfq.report.grid import Column, render
from pytest_perfq.report.passing import Passing
from pytest_perfq.report.seen import caught
from pytest_perfq.settings import default_cache
from pytest_perfq.store import Calibration
from pytest_perfq.trials.calibration import AgainstItself, deviations
from pytest_perfq.trials.entry import Entry, matched
from pytest_perfq.trials.environment import Environment
from pytest_perfq.trials.sides import Sides, Workers, settings

COLUMNS = (
    Column("case", right=False, folds=True),
    Column("visits", spare=1),
    Column("SD"),
    Column("caught with 90 %"),
    Column("with 50 %", spare=2),
)
# Fewer visits say little of how far they differ.
LEAST_VISITS = 4


def calibrate(words: Sequence[str], visits: int, store: str, threads: int | None, width: int) -> tuple[str, int]:
    """Measures and stores the calibration of the cases that pytest finds with these words; the table of what can be seen, and
    the exit status: 2 where it was stopped before all was measured."""
    if visits < LEAST_VISITS:
        raise UsageError(f"--visits is {visits}; fewer than {LEAST_VISITS} say little of how far visits differ")
    one = Environment(label="this environment", folder=Path.cwd())
    said = settings(one, words)
    given = {**said, "threads": threads or said["threads"] or device.available_threads()}
    given["cache"] = given["cache"] or str(default_cache().resolve())
    sides = Sides(one, replace(one, label="the same environment"), given, words)
    collected, _ = sides.collected(words)
    timed = [one for one in collected if one.case.kind == "latency"]
    entries, _, _ = matched(timed, timed)
    if not entries:
        raise UsageError(f"none of the {len(collected)} cases is a latency case; name suites that have some")
    machines: dict[str, str] = {}

    def visited(entry: Entry, workers: Workers) -> None:
        on = entry.candidate.device
        if on not in machines:
            machines[on] = Fingerprint.from_json(workers.fingerprints(on)["b"]).key

    passing = Passing(to_errors, sys.stderr.isatty())
    passes = AgainstItself(entries, sides.opened, kept=visited, watch=passing.watch, say=passing.say, visits=visits)
    with opened(store) as stored:
        passes.watcher, passes.threads = sampler(), int(given["threads"])
        try:
            passes.run()
        finally:
            passes.watcher.close()
            passing.close()
        found = _calibrations(entries, machines)
        stored.calibrate(found)
    text = _text(found, entries, passes.ended, width)
    if passes.ended is None:
        return text, 0
    return f"{text}\n{passes.ended} before every case had its {visits} visits; calibrate again for the rest", 2


def _calibrations(entries: Sequence[Entry], machines: dict[str, str]) -> list[Calibration]:
    """Of those that have visits enough to say anything."""
    now = time.time()
    entries = [one for one in entries if len(one.screen) >= LEAST_VISITS]
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


def _text(found: Sequence[Calibration], entries: Sequence[Entry], ended: str | None, width: int) -> str:
    """The table, what it says of the worst case, and why others are not in it. ended: why it was stopped, where it was."""
    left = [one for one in entries if one.name not in {calibrated.case_id for calibrated in found}]
    why = next((one.trouble or one.refused for one in left if one.over), ended)
    if not found:
        raise UsageError(f"nothing was calibrated: {why}")
    suspects = expected_suspects(len(found))
    worst = max(found, key=lambda one: one.deviation)
    lines = [_table(found, suspects, width), f"{worst.case_id}: {caught(worst.deviation, suspects)}"]
    if left:
        has = "has" if len(left) == 1 else "have"
        lines.append(f"{len(left)} of {len(entries)} cases {has} fewer than {LEAST_VISITS} visits and no calibration: {why}")
    return "\n".join(lines)


def _table(found: Sequence[Calibration], suspects: int, width: int) -> str:
    rows = [
        [
            one.case_id,
            str(one.visits),
            f"{one.deviation:.1%}",
            *(_percent(visible(one.deviation, chance, suspects)) for chance in (0.9, 0.5)),
        ]
        for one in found
    ]
    return render(COLUMNS, rows, width)


def _percent(slowdown: float) -> str:
    return f"+{slowdown:.1%}" if math.isfinite(slowdown) else "none"
