"""Accuracy against a baseline: both predicted the same examples, so every example is its own control. Knows no budget.

Two ways to be sure of a loss. Where the machine and the software are the same and a repeated prediction says how far the
program differs from itself, any net loss of examples beyond that is real. Otherwise each metric is tested: exact McNemar
for means of ones and zeros, sign-swap permutation for the rest, each helped by a paired t test of margins, which sees a
model weaken before many examples flip. The suite's p values are adjusted together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from pytest_perfq.core import permutation, stats
from pytest_perfq.core.finding import Finding
from pytest_perfq.core.measurement import Measurement, Outcomes, Score
from pytest_perfq.core.rules import RULES
from pytest_perfq.core.slowdown import stack_differences

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# A margin that moved by more than this many times the program's difference from itself has moved.
NOISE_TIMES = 8.0
# Margins are rounded through float16: half a step is 2^-11 of the value, and both sides carry one.
MARGIN_ROUNDING = 2.0**-10
POWER = 0.8


@dataclass(frozen=True, slots=True)
class Loss:
    """One metric tested. drop: baseline - candidate. p: one-sided, in the direction of the drop; None where the metric has
    no formula and cannot be tested. deviation: of the drop under the null hypothesis. smallest: net flips that could be seen
    at a given alpha are at least log2(1/alpha) examples, each worth this much; 0.0 where a flip has no fixed worth."""

    metric: str
    drop: float
    n: int
    p: float | None
    deviation: float = 0.0
    smallest: float = 0.0


@dataclass(frozen=True, slots=True)
class Pairing:
    """A candidate beside its baseline. certain: findings that need no test. losses: metrics to test with the suite."""

    certain: tuple[Finding, ...] = ()
    losses: tuple[Loss, ...] = field(default=())
    worse: tuple[str, ...] = ()
    better: int = 0


def _same_examples(mine: Outcomes, theirs: Outcomes) -> Finding | None:
    if mine.ids == theirs.ids:
        return None
    shared = len({*mine.ids} & {*theirs.ids})
    return Finding(
        rule="accuracy",
        status="invalid",
        note=f"{len(mine.ids)} examples here, {len(theirs.ids)} in the baseline, {shared} shared and in one order: "
        "not the same examples; measure both with the same samples and data",
    )


def _metrics_gone(candidate: Measurement, baseline: Measurement) -> tuple[Finding, ...]:
    """What of the baseline is not measured now, and so cannot be worse: never to be passed over."""
    here, there = ([score.metric for score in one.scores] for one in (candidate, baseline))
    gone = [metric for metric in there if metric not in here]
    if not gone and there:
        return ()
    note = (
        f"the baseline has {', '.join(gone) or 'no metric'}, and here is measured {', '.join(here) or 'none'}; "
        "measure the same metrics, or save a new baseline"
    )
    return (Finding(rule="accuracy", status="invalid", metric=gone[0] if len(gone) == 1 else None, note=note),)


def _noise(candidate: Measurement, baseline: Measurement) -> float | None:
    """The furthest that a margin moved in a repeated prediction, where one was made and nothing but the revision differs. None
    too where predictions flipped and no margin moved: those who measured it did not look how far a flip goes."""
    churns = [churn for churn in (candidate.churn, baseline.churn) if churn is not None]
    mine, theirs = candidate.fingerprint, baseline.fingerprint
    if not churns or mine.identity != theirs.identity or stack_differences(mine, theirs):
        return None
    if any(churn["flips"] and not churn["margin_noise"] for churn in churns):
        return None
    return max(churn["margin_noise"] for churn in churns)


def moves(mine: Outcomes, theirs: Outcomes) -> Array:
    """How far each margin moved, [n]: for a changed prediction the way down to the border and up on the other side."""
    import numpy as np

    same = np.asarray([one == other for one, other in zip(mine.predictions, theirs.predictions, strict=True)])
    now, was = np.asarray(mine.margins), np.asarray(theirs.margins)
    moved: Array = np.where(same, np.abs(now - was), np.abs(now) + np.abs(was))
    return moved


def pair(candidate: Measurement, baseline: Measurement) -> Pairing:
    """What the paired outcomes of an accuracy case say, before the suite is taken into account."""
    mine, theirs = candidate.outcomes, baseline.outcomes
    if mine is None or theirs is None:
        return Pairing()
    other_examples = _same_examples(mine, theirs)
    if other_examples is not None:
        return Pairing((other_examples,))
    gone = _metrics_gone(candidate, baseline)
    if mine is theirs or mine == theirs:
        return Pairing(gone, tuple(Loss(one.metric, 0.0, one.n, 1.0) for one in candidate.scores))
    import numpy as np

    moved, noise = moves(mine, theirs), _noise(candidate, baseline)
    change = np.asarray(mine.right) - np.asarray(theirs.right)
    worse = tuple(mine.ids[index] for index in np.flatnonzero(change < 0))
    better = int(np.sum(change > 0))
    certain = gone
    if noise is not None:
        real = moved > NOISE_TIMES * noise if noise > 0 else np.ones(len(moved), dtype=bool)
        certain += _real_flips(mine, change * real, noise)
    losses = tuple(
        _loss(score, was, mine, theirs, moved, noise or 0.0)
        for score in candidate.scores
        if (was := baseline.score(score.metric)) is not None
    )
    return Pairing(certain, losses, worse, better)


def _real_flips(mine: Outcomes, change: Array, noise: float) -> tuple[Finding, ...]:
    import numpy as np

    lost = tuple(mine.ids[index] for index in np.flatnonzero(change < 0))
    net = len(lost) - int(np.sum(change > 0))
    if net == 0:
        return ()
    known = f"whose margins moved over {NOISE_TIMES:g} times {noise:.3g}" if noise else "and a repeated prediction had no flip"
    return (
        Finding(
            rule="flips",
            status="regressed" if net > 0 else "improved",
            observed=float(net),
            limit=0.0,
            note=f"{len(lost)} of {len(mine.ids)} examples went wrong and {len(lost) - net} right, {known}: "
            "on the same machine and software this is not chance",
            examples=lost if net > 0 else (),
        ),
    )


def _loss(score: Score, was: Score, mine: Outcomes, theirs: Outcomes, moved: Array, noise: float) -> Loss:
    drop = was.value - score.value
    if drop == 0.0 or score.formula is None or score.formula != was.formula:
        return Loss(score.metric, drop, score.n, 1.0 if drop == 0.0 else None)
    before, after = (theirs, mine) if drop > 0 else (mine, theirs)
    by_flips, deviation, smallest = _flip_test(score.formula, before, after)
    by_margins = _margin_test(before, after, moved, noise)
    # Two looks at the same question: Bonferroni.
    return Loss(score.metric, drop, score.n, min(1.0, 2.0 * min(by_flips, by_margins)), deviation, smallest)


def _flip_test(formula: str, before: Outcomes, after: Outcomes) -> tuple[float, float, float]:
    """p of a drop from before to after, its deviation under the null, and what one flip is worth."""
    import numpy as np

    kind, _, name = formula.partition(":")
    if kind == "mean":
        change = np.asarray(after.columns[name]) - np.asarray(before.columns[name])
        if np.all(np.isin(change, (-1.0, 0.0, 1.0))):
            worse, better, n = int(np.sum(change < 0)), int(np.sum(change > 0)), len(change)
            return stats.mcnemar(worse, better), math.sqrt(worse + better) / n, 1.0 / n
    p, deviation = permutation.swap_test(formula, before.columns, after.columns)
    return p, deviation, 0.0


def _margin_test(before: Outcomes, after: Outcomes, moved: Array, noise: float) -> float:
    """One-sided p of margins moving against the truth: a wrong prediction counts with a negative margin, and moves within
    the noise or the rounding count as none."""
    import numpy as np

    was = np.where(np.asarray(before.right) > 0, 1.0, -1.0) * np.abs(before.margins)
    now = np.where(np.asarray(after.right) > 0, 1.0, -1.0) * np.abs(after.margins)
    real = moved > np.maximum(NOISE_TIMES * noise, MARGIN_ROUNDING * np.maximum(np.abs(was), np.abs(now)))
    differences = (was - now)[real]
    return stats.paired_t(differences.tolist(), len(was)) if np.all(np.isfinite(differences)) else 1.0


def conclude(loss: Loss, p: float, pairing: Pairing, family: int) -> Finding:
    """The finding of one metric, its p adjusted for the suite. family: tests in the suite."""
    note = f"{len(pairing.worse)} examples went wrong and {pairing.better} right of {loss.n}"
    if loss.drop == 0.0:
        status = "pass"
    elif loss.p is not None and p < RULES.alpha:
        status = "regressed" if loss.drop > 0 else "improved"
    elif loss.drop < 0:
        status = "pass"
    else:
        status = "inconclusive"
        note += f"; {_minimal(loss, family)}"
    return Finding(
        rule="accuracy",
        status=status,
        observed=loss.drop,
        metric=loss.metric,
        note=note,
        # Also where the score did not fall: those that went right may have made up for them.
        examples=pairing.worse,
    )


def _minimal(loss: Loss, family: int) -> str:
    if loss.p is None:
        return "this metric has no formula over examples, so that a drop cannot be tested"
    alpha = RULES.alpha / max(1, family) / 2.0
    normal = NormalDist()
    effect = (normal.inv_cdf(1.0 - alpha) + normal.inv_cdf(POWER)) * loss.deviation
    effect = max(effect, loss.smallest * math.ceil(math.log2(1.0 / alpha)))
    return f"of as many other examples, a drop under {effect:.4f} could as well be chance"
