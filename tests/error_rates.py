"""How often our verdicts are wrong, and how often those of other tools on the same recorded timings. Seeded; part of `make speed`.

    python tests/error_rates.py

Two sources of noise: normal visits of a given SD, and visits of unchanged programs recorded on a machine that did little else (recorded.py), drawn
with replacement. What decides is pytest_perfq.core.stages itself, driven pass by pass as a run drives it. Figures join those of
speed.py in .perfq/speed.json.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lost_examples
import numpy as np
import stored
from recorded import KINDS, Recorded
from rival_rules import RIVALS, shares

from pytest_perfq.core.stages import RULES, confirm, screen
from pytest_perfq.trials.beforehand import OPEN
from pytest_perfq.trials.pace import VISIT_S

ROOT = Path(__file__).resolve().parents[1]
# Slower cases are two of each recorded program: ten would leave the two noisiest at half of their weight.
CASES, SLOWER = 200, 12
SUITES = 600
STORED_SUITES = 90
# What others spend on a configuration.
CONFIGURATION_S = 15.0
# Draws visits of a case: (case, how many) -> ln ratios.
Draw = Callable[[int, int], Any]


@dataclass
class Tally:
    """What became of the cases of many suites. alarmed: suites with any alarm on an unchanged case."""

    suites: int = 0
    alarmed: int = 0
    unchanged: int = 0
    undecided: int = 0
    visits: int = 0
    slower: int = 0
    caught: int = 0

    def add(self, statuses: list[str], visits: list[int], slower: int) -> None:
        clean = statuses[slower:]
        self.suites += 1
        self.alarmed += "regressed" in clean
        self.unchanged += len(clean)
        self.undecided += clean.count("inconclusive")
        self.visits += sum(visits[slower:])
        self.slower += slower
        self.caught += statuses[:slower].count("regressed")


def passes(draw: Draw, count: int) -> tuple[list[str], list[int]]:
    """Statuses and visits of a suite of `count` cases measured side by side."""
    statuses, visits = ["ok"] * count, [0] * count
    first, last = RULES.screen_visits
    drawn = {str(case): draw(case, last).tolist() for case in range(count)}
    values = {name: own[:first] for name, own in drawn.items()}
    found = screen(values)
    while undecided := [name for name, one in found.items() if not one.decided]:
        values.update({name: drawn[name][: len(values[name]) + 1] for name in undecided})
        found = screen(values)
    for name, one in found.items():
        statuses[int(name)], visits[int(name)] = one.status, one.visits
    suspects = [case for case in range(count) if statuses[case] == "suspect"]
    # Looks never see what comes after them, so that all visits can be drawn at once.
    fresh = {str(case): draw(case, RULES.noisy_looks[-1]).tolist() for case in suspects}
    for name, one in confirm(fresh, len(suspects)).items() if suspects else ():
        statuses[int(name)] = one.status
        visits[int(name)] += one.visits
    return statuses, visits


def normal(dice: np.random.Generator, sd: float, by: float = 0.0) -> Draw:
    """Visits of this SD; the first SLOWER cases slower by a fraction."""
    return lambda case, count: dice.normal(math.log1p(by) if case < SLOWER else 0.0, sd, count)


def resampled(dice: np.random.Generator, pools: list[Any], by: float = 0.0) -> Draw:
    """Recorded visits of unchanged programs, a pool of them for each case in turn."""
    return lambda case, count: dice.choice(pools[case % len(pools)], count) + (math.log1p(by) if case < SLOWER else 0.0)


def only(draw: Draw, cases: list[int]) -> Draw:
    """The same draws for a suite of some of its cases."""
    return lambda case, count: draw(cases[case], count)


def tally(draws: Callable[[int], Draw], suites: int, slower: int = 0) -> Tally:
    total = Tally()
    for suite in range(suites):
        statuses, visits = passes(draws(suite), CASES)
        total.add(statuses, visits, slower)
    return total


# ---- the table


@dataclass(frozen=True)
class Figure:
    """One row. goal: None for what is not ours."""

    name: str
    value: float
    unit: str
    goal: float | None
    better: str = "smaller"

    def line(self) -> str:
        """For a person."""
        shown = f"{self.name:<76}{self.value:>8.3f} {self.unit:<6}"
        if self.goal is None:
            return shown
        met = self.value >= self.goal if self.better == "larger" else self.value <= self.goal
        return f"{shown} goal {self.goal:g}{'' if met else '   MISSED'}"

    def plain(self) -> dict[str, object]:
        return {"name": self.name, "value": round(self.value, 5), "unit": self.unit, "better": self.better, "goal": self.goal}


def simulated(_: Recorded) -> list[Figure]:
    """Normal visits of SD 2.3 %."""
    found = []
    for by, goal in ((0.03, 0.8), (0.05, 0.95), (0.10, 1.0)):
        total = tally(lambda suite, by=by: normal(np.random.default_rng([1, suite]), 0.023, by), 60, SLOWER)  # type: ignore[misc]
        found.append(
            Figure(f"verdicts: +{by:.0%} caught, visit SD 2.3 %", total.caught / total.slower, "share", goal, "larger")
        )
    return found


# As kinds of visits are called here.
TITLES = {
    "one process": "one process",
    "one core": "two processes on one core",
    "all cores": "two processes on all cores",
    "any core": "two processes on any core",
}


def measured(recorded: Recorded) -> list[Figure]:
    """Recorded visits, as many suites of each kind."""
    found, alarmed, suites = [], 0, 0
    for kind in KINDS:
        title, pools = TITLES[kind], recorded.pools(kind)
        clean = tally(lambda suite, own=pools: resampled(np.random.default_rng([2, suite]), own), SUITES // len(KINDS))  # type: ignore[misc]
        alarmed, suites = alarmed + clean.alarmed, suites + clean.suites
        deviation = statistics.fmean(float(pool.std()) for pool in pools)
        found += [
            Figure(f"verdicts: SD of a recorded visit; {title}", 100 * deviation, "%", None),
            *_kind(recorded, title, clean),
        ]
        for by in (0.03, 0.05, 0.10):
            slow = tally(lambda suite, own=pools, by=by: resampled(np.random.default_rng([4, suite]), own, by), 20, SLOWER)  # type: ignore[misc]
            alarmed, suites = alarmed + slow.alarmed, suites + slow.suites
            found.append(Figure(f"verdicts: +{by:.0%} caught; {title}", slow.caught / slow.slower, "share", None, "larger"))
    return [Figure(f"verdicts: any false alarm in {CASES} cases, {suites} suites", 100 * alarmed / suites, "%", 1.0), *found]


def _kind(recorded: Recorded, title: str, clean: Tally) -> list[Figure]:
    visits = clean.visits / clean.unchanged
    undecided = Figure(f"verdicts: inconclusive unchanged cases; {title}", 100 * clean.undecided / clean.unchanged, "%", 2.0)
    return [
        undecided,
        Figure(f"verdicts: visits of a clean case; {title}", visits, "", None),
        Figure(
            f"verdicts: clean case over {CONFIGURATION_S:g} s, as recorded; {title}",
            visits * recorded.visit_s() / CONFIGURATION_S,
            "x",
            0.3,
        ),
        Figure(
            f"verdicts: clean case over {CONFIGURATION_S:g} s, of slow programs; {title}",
            visits * VISIT_S / CONFIGURATION_S,
            "x",
            0.3,
        ),
    ]


def against_stored(recorded: Recorded) -> list[Figure]:
    """Stored baselines: runs of two days, of which what is not cleared is confirmed side by side; and what they say alone."""
    one, both = recorded.pools("one process"), recorded.pools("one core")

    def confirmed(by: float) -> tuple[Tally, int]:
        total, open_cases = Tally(), 0
        for suite in range(STORED_SUITES):
            dice = np.random.default_rng([3, suite])
            slower = SLOWER if by else 0
            found = stored.statuses(dice, one, CASES, slower, by, days=1)
            nominated = [case for case, status in enumerate(found) if status in OPEN]
            statuses, visits = passes(only(resampled(dice, both, by), nominated), len(nominated))
            after, spent = ["pass"] * CASES, [0] * CASES
            for case, status, count in zip(nominated, statuses, visits, strict=True):
                after[case], spent[case] = status, count
            total.add(after, spent, slower)
            total.alarmed += "regressed" in found[slower:]
            open_cases += sum(case >= slower for case in nominated)
        return total, open_cases

    unchanged, nominated = confirmed(0.0)
    changed, _ = confirmed(0.05)
    alone = [
        stored.statuses(np.random.default_rng([5, suite]), one, CASES, 0, 0.0, run_sd=stored.UNLIKE_RUN_SD)
        for suite in range(STORED_SUITES)
    ]
    name = "verdicts: stored baseline"
    alarms, suites = unchanged.alarmed + changed.alarmed, 2 * STORED_SUITES
    share = 100 * nominated / unchanged.unchanged
    return [
        Figure(f"{name}, drift of +-8 %: suites of {suites} with a false alarm", alarms, "suites", 0.0),
        Figure(f"{name}, drift of +-8 %: +5 % caught after confirmation", changed.caught / changed.slower, "share", 0.8, "larger"),
        Figure(f"{name}, drift of +-8 %: unchanged cases that are confirmed", share, "%", None),
        # As many alarms as an anchor that is as unlike as it is taken to be leaves: one run in a hundred.
        Figure(
            f"{name}, same day, its anchor unlike: suites of {STORED_SUITES} with an alarm",
            sum("regressed" in one for one in alone), "suites", None,
        ),
    ]  # fmt: skip


def lost(_: Recorded) -> list[Figure]:
    """One example of 1,000 goes wrong and nothing else moves."""
    told, alarms = lost_examples.found()
    return [
        Figure("verdicts: one lost example of 1,000 told with its id", told, "share", 1.0, "larger"),
        Figure("verdicts: unchanged predictions called worse", alarms, "share", 0.0),
    ]


def rivals(recorded: Recorded) -> list[Figure]:
    """The same recorded timings under the rules of other tools."""
    found = []
    for rival in RIVALS:
        false, caught = shares(recorded, rival, np.random.default_rng(6))
        found += [
            Figure(f"other rules: {rival.name}: unchanged cases called slower", 100 * false, "%", None),
            Figure(f"other rules: {rival.name}: +5 % caught", caught, "share", None, "larger"),
        ]
    return found


def main() -> None:
    recorded, begin = Recorded.load(), time.perf_counter()
    figures = []
    for part in (simulated, measured, against_stored, lost, rivals):
        for one in part(recorded):
            figures.append(one)
            print(one.line(), flush=True)
    path = ROOT / ".perfq" / "speed.json"
    path.parent.mkdir(exist_ok=True)
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    kept = [one for one in before if not one["name"].startswith(("verdicts: ", "other rules: "))]
    path.write_text(json.dumps(kept + [one.plain() for one in figures], indent=1) + "\n", encoding="utf-8")
    print(f"written to {path.relative_to(ROOT)} in {time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
