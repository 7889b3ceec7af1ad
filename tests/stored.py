"""Runs held against a stored baseline, simulated: what the product's own judging says of cases whose noise is known.

A visit's noise is drawn from visits recorded of two sides in one process, since case and anchor share one. Besides, each case
has a shift of its own in every run, which its visits share and cannot see, and on another day the whole suite moves by what the
anchor does not see.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pytest_perfq.core.case import Case
from pytest_perfq.core.fingerprint import Fingerprint
from pytest_perfq.core.measurement import Measurement, Samples, Visit
from pytest_perfq.core.rules import RULES
from pytest_perfq.core.slowdown import ALIKE_RUN_SD
from pytest_perfq.core.spec import Spec
from pytest_perfq.core.verdict import Pair, judge_suite

DRIFT = 0.08
# Beside an anchor of other operators: the middle of what the procedure's measurements gave.
UNLIKE_RUN_SD = 0.10
DAY_S = 24 * 3600.0
MACHINE = Fingerprint({"cpu_model": "simulated"}, {}, {})
ANCHOR = Samples((10_000_000,) * 3)


def _measured(number: int, values: Any, started_s: float) -> Measurement:
    """A case whose visits lie so far from the anchor's, ln."""
    case = Case(
        task=Spec("question-answering"), dataset="synthetic", model="simulated", model_name="simulated", backend=Spec("eager"),
        batch_size=1 + number, seq_len=32,
    )  # fmt: skip
    visits = tuple(Visit(Samples((round(1e7 * math.exp(value)),) * 3, (), started_s), None, ANCHOR) for value in values)
    return Measurement(case=case, fingerprint=MACHINE, visits=visits)


def statuses(
    dice: np.random.Generator,
    pools: list[Any],
    cases: int,
    slower: int,
    by: float,
    *,
    run_sd: float = ALIKE_RUN_SD,
    days: int = 0,
) -> list[str]:
    """What a run says of each case against a baseline so many days older; the first `slower` are slower by a fraction."""
    visits = RULES.screen_visits[0]
    drift = dice.uniform(-DRIFT, DRIFT) if days else 0.0
    pairs = {}
    for number in range(cases):
        level = math.log1p(by) if number < slower else 0.0
        mine, theirs = (dice.choice(pools[number % len(pools)], visits) + dice.normal(0.0, run_sd) for _ in range(2))
        now, then = _measured(number, mine + drift + level, days * DAY_S), _measured(number, theirs, 0.0)
        pairs[str(number)] = Pair(now, (), then)
    found = judge_suite(pairs, against=True)
    return [found[str(number)].status for number in range(cases)]
