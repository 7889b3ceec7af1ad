"""How far a program differs from itself here: A/A visits side by side in fresh processes. Judges nothing.

Two workers of one environment measure the same case, as two revisions would be, so the spread of their ratios is the spread
that a comparison meets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_perfq.core import stats
from pytest_perfq.core.rules import Rules
from pytest_perfq.core.trial import Stage
from pytest_perfq.trials.passes import Passes
from pytest_perfq.trials.sides import Workers


@dataclass(slots=True)
class AgainstItself(Passes[Workers]):
    """Passes that decide nothing: every case gets the same number of visits. visits: of each."""

    visits: int = 6

    def _open(self, stage: Stage) -> dict[str, int]:
        left = {one.name: self.visits - len(one.screen) for one in self.entries if not one.over}
        return {name: number for name, number in left.items() if number > 0} if stage == "screen" else {}

    def _nominated(self) -> list[str]:
        return []


def deviations(values: Mapping[str, Sequence[float]], rules: Rules) -> dict[str, float]:
    """SD of a visit by case name, ln, each moderated by the others'; cases with fewer than two visits have none."""
    own = {name: found for name, found in values.items() if len(found) > 1}
    total = sum(len(found) - 1 for found in own.values())
    squares = sum(stats.variance(found) * (len(found) - 1) for found in own.values())
    found = {}
    for name, mine in own.items():
        df = len(mine) - 1
        others = total - df
        prior = (squares - stats.variance(mine) * df) / others if others else 0.0
        variance, _ = stats.moderated(stats.variance(mine), df, prior, min(rules.prior_df, others))
        found[name] = max(math.sqrt(max(variance, 0.0)), rules.smallest_sd)
    return found
