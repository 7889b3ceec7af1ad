"""How surely one lost example is found, for tests/error_rates.py: seeded baselines of 1,000 examples, one of which goes wrong."""

import random
from dataclasses import replace

from making import accuracy

from pytest_perfq.core.verdict import judge

EXAMPLES, TRIALS = 1000, 200
# What an A/A prediction of a deterministic program shows.
STILL = {"n": EXAMPLES, "flips": 0, "margin_noise": 0.0}


def baseline(dice):
    right = [int(dice.random() < 0.9) for _ in range(EXAMPLES)]
    return accuracy(right, margins=[dice.uniform(0.01, 6.0) for _ in right], churn=STILL)


def without(measurement, at):
    """The same measurement with the example at this place wrong, by a hair."""
    was = measurement.outcomes
    margins = tuple(0.01 if place == at else margin for place, margin in enumerate(was.margins))
    predictions = tuple("no" if place == at else word for place, word in enumerate(was.predictions))
    right = tuple(0.0 if place == at else value for place, value in enumerate(was.right))
    outcomes = replace(was, margins=margins, predictions=predictions, columns={"right": right})
    score = replace(measurement.scores[0], value=sum(right) / EXAMPLES)
    return replace(measurement, outcomes=outcomes, scores=(score,))


def found(seed=0):
    """(share of lost examples that are told with their id, share of unchanged measurements that alarm)."""
    dice = random.Random(seed)
    told = alarms = 0
    for _ in range(TRIALS):
        before = baseline(dice)
        at = dice.choice([place for place, value in enumerate(before.outcomes.right) if value])
        verdict = judge(without(before, at), (), before)
        told += verdict.status == "regressed" and verdict.findings[0].examples == (before.outcomes.ids[at],)
        alarms += judge(replace(before), (), before).failed
    return told / TRIALS, alarms / TRIALS
