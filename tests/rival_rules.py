"""The rules by which other tools call a benchmark slower, each from its published definition, over recorded timings.

A rule is given a base and a candidate, both [N, P, R]: N comparisons, P fresh processes, R rounds each, ns; it answers with [N] bool:
called slower. What the tools do to gather rounds is not repeated here, only what they do with them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats
from recorded import Recorded

Array = Any


def benchmark_mean(base: Array, candidate: Array) -> Array:
    """pytest-benchmark's --benchmark-compare-fail=mean:5% (utils.PercentageRegressionCheck): the share over the base in per cent."""
    return candidate.mean((1, 2)) / base.mean((1, 2)) * 100 - 100 > 5


def benchmark_min(base: Array, candidate: Array) -> Array:
    """pytest-benchmark's --benchmark-compare-fail=min:5%."""
    return candidate.min((1, 2)) / base.min((1, 2)) * 100 - 100 > 5


def _mann_whitney(base: Array, candidate: Array) -> Array:
    flat = (one.reshape(len(one), -1) for one in (candidate, base))
    return scipy.stats.mannwhitneyu(*flat, axis=1, method="asymptotic").pvalue


def _median_ratio(base: Array, candidate: Array) -> Array:
    return np.median(candidate, (1, 2)) / np.median(base, (1, 2))


def mann_whitney(base: Array, candidate: Array) -> Array:
    """Two-sided U test at .05, slower by the medians: google-benchmark's tools/compare.py and Go's benchstat."""
    return (_mann_whitney(base, candidate) < 0.05) & (_median_ratio(base, candidate) > 1.0)


def asv_continuous(base: Array, candidate: Array) -> Array:
    """asv continuous: statistics.is_different (U test, p < .002) and the medians apart by its default factor of 1.1."""
    return (_mann_whitney(base, candidate) < 0.002) & (_median_ratio(base, candidate) > 1.1)


def pyperf_t(base: Array, candidate: Array) -> Array:
    """pyperf compare_to: Student's pooled t at 95 %, two-tailed (_utils.is_significant), of three values a process."""
    rounds = base.shape[2] // 3 * 3
    values = [one[:, :, :rounds].reshape(*one.shape[:2], 3, -1).mean(-1).reshape(len(one), -1) for one in (base, candidate)]
    t, p = scipy.stats.ttest_ind(values[1], values[0], axis=1)
    return (p < 0.05) & (t > 0)


def criterion(base: Array, candidate: Array) -> Array:
    """criterion.rs, analysis/compare.rs and report.rs: t test at .05, and the 95 % bootstrap interval of the ratio of means lies over the
    noise threshold of 1 %. 400 resamples stand for its 100,000."""
    base, candidate = (one.reshape(len(one), -1) for one in (base, candidate))
    dice, ratios = np.random.default_rng(5), []
    for _ in range(400):
        means = [one[:, dice.integers(0, one.shape[1], one.shape[1])].mean(1) for one in (base, candidate)]
        ratios.append(means[1] / means[0] - 1.0)
    different = scipy.stats.ttest_ind(candidate, base, axis=1, equal_var=False).pvalue < 0.05
    return different & (np.quantile(ratios, 0.025, axis=0) > 0.01)


@dataclass(frozen=True)
class Rival:
    """processes: fresh ones a side, as the tool's defaults have it."""

    name: str
    rule: Callable[[Array, Array], Array]
    processes: int = 1


RIVALS = (
    Rival("pytest-benchmark mean:5%", benchmark_mean),
    Rival("pytest-benchmark min:5%", benchmark_min),
    Rival("Mann-Whitney p < .05", mann_whitney),
    Rival("asv continuous", asv_continuous, 2),
    Rival("pyperf compare_to", pyperf_t, 20),
    Rival("criterion", criterion),
)


COMPARISONS = 1200
APART_S = 60.0


def shares(recorded: Recorded, rival: Rival, dice: np.random.Generator) -> tuple[float, float]:
    """Shares that a rule calls slower: of unchanged programs timed in fresh processes a minute apart or more, and of the same
    with every candidate 5 % slower."""
    base, candidate = [], []
    for _ in range(COMPARISONS):
        started, rounds = recorded.alone(int(dice.integers(len(recorded.names))))
        latest = np.searchsorted(started, started[-rival.processes] - APART_S) - rival.processes
        begin = int(dice.integers(latest))
        ready = int(np.searchsorted(started, started[begin + rival.processes - 1] + APART_S))
        other = int(dice.integers(ready, len(started) - rival.processes + 1))
        base.append(rounds[begin : begin + rival.processes])
        candidate.append(rounds[other : other + rival.processes])
    before, after = np.array(base, float), np.array(candidate, float)
    return float(rival.rule(before, after).mean()), float(rival.rule(before, after * 1.05).mean())
