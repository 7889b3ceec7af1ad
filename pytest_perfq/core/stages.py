"""The two stages that decide regressions from ln ratios of visits: the screen nominates, the confirmation accuses.

Knows numbers by case name and the rules; no samples, no machine, no clock. A look happens after a visit, never inside one, and
decides from the visits up to it alone, over the whole suite: call between passes, when every open case has had the same
visits. Where one lags, since a visit of it was spoilt, what it says later changes what the others lean on: give back what
was decided, and no later call takes it back. Source of the moderated t: Smyth 2004.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pytest_perfq.core import stats
from pytest_perfq.core.rules import RULES, Rules

__all__ = ["RULES", "Rules", "Standing", "Status", "confirm", "pooled_sd", "screen", "tempered"]

Status = Literal["open", "ok", "suspect", "regressed", "improved", "inconclusive"]
Values = Mapping[str, Sequence[float]]
# The SD of normal values whose median distance from their median is one.
SD_OF_MAD = 1.4826


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a case stands, its visits tempered. Of a decided case everything is as it was at the look that decided.

    visits: counted so far. mean, interval (two-sided 95 %), mde: of the slow-down, ln. p: one-sided; in the screen of no
    slow-down, in the confirmation of none over the floor (or over the promise). mde: slow-down that so many visits,
    were they the last, show with 80 %. needed: visits until the next look, 0 once decided.
    """

    status: Status
    visits: int
    mean: float
    interval: tuple[float, float]
    p: float
    mde: float
    needed: int

    @property
    def decided(self) -> bool:
        return self.status != "open"


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What the first visits of a case say. bar, bound: what an alarm must exceed and an ok lie under, ln."""

    visits: int
    mean: float
    error: float
    df: float
    bar: float
    bound: float

    def slower(self, than: float) -> float:
        """p of a mean of at most `than`."""
        return stats.t_tail((self.mean - than) / self.error, self.df) if math.isfinite(self.error) else 1.0

    def faster(self, than: float) -> float:
        """p of a mean of at least `than`."""
        return stats.t_tail((than - self.mean) / self.error, self.df) if math.isfinite(self.error) else 1.0

    def half(self, tail: float) -> float:
        return stats.t_quantile(tail, self.df) * self.error if math.isfinite(self.error) else math.inf

    def nominated(self, rules: Rules) -> bool:
        """Worth confirming: over the bar, and hardly by chance if there were nothing (of a promise: nothing over it)."""
        return self.mean > self.bar and self.slower(self.bar - rules.bar()) < rules.screen_p

    def harmless(self, rules: Rules) -> bool:
        return self.mean + self.half(1.0 - rules.confidence) < self.bound

    def standing(self, status: Status, p: float, alpha: float, rules: Rules, needed: int = 0) -> Standing:
        """alpha: chance that the last look may spend on this case; what can be seen follows from it."""
        half = self.half((1.0 - rules.confidence) / 2.0)
        mde = self.bar + self.half(alpha) + self.half(1.0 - rules.power)
        return Standing(status, self.visits, self.mean, (self.mean - half, self.mean + half), p, mde, needed)


def _squares(values: Sequence[float]) -> tuple[float, int]:
    """Sum of squares about the mean, and its degrees of freedom."""
    df = max(0, len(values) - 1)
    return stats.variance(values) * df, df


def pooled_sd(values: Values, visits: int | None = None) -> float | None:
    """SD of a visit over the suite, ln, from the first `visits` (None: all); None where no case has two."""
    found = [_squares(own[:visits]) for own in values.values()]
    df = sum(one for _, one in found)
    return math.sqrt(math.fsum(one for one, _ in found) / df) if df else None


def _spread(values: Sequence[float]) -> tuple[float, float]:
    """The median of at least three values, and the median distance from it as the SD that normal values would have."""
    middle = stats.median(values)
    # Of an odd number the middle one has no distance from itself, which says nothing of the spread.
    distances = sorted(abs(value - middle) for value in values)[len(values) % 2 :]
    return middle, SD_OF_MAD * stats.median(distances)


def tempered(values: Values, rules: Rules = RULES) -> dict[str, Sequence[float]]:
    """The same visits, none farther from its case's median than rules.outlier SDs of the case or of the suite (the median
    case), whichever is larger."""
    spreads = {name: _spread(own) for name, own in values.items() if len(own) > 2}
    suite = stats.median([sd for _, sd in spreads.values()]) if spreads else 0.0
    found = dict(values)
    for name, (middle, sd) in spreads.items():
        limit = rules.outlier * max(sd, suite, rules.smallest_sd)
        if max(values[name]) - middle > limit or middle - min(values[name]) > limit:
            found[name] = [min(max(value, middle - limit), middle + limit) for value in values[name]]
    return found


def _gather(
    values: Values, visits: int | None, names: Iterable[str], rules: Rules, effects: Mapping[str, float]
) -> dict[str, _Evidence]:
    """The evidence of `names` from the first visits. A case's variance leans on that of the others: its own, counted a
    second time, would claim degrees of freedom that nobody measured."""
    values = tempered({name: own[:visits] for name, own in values.items()}, rules)
    found = {name: _squares(own) for name, own in values.items()}
    squares, total = math.fsum(one for one, _ in found.values()), sum(df for _, df in found.values())
    evidence = {}
    for name in names:
        own, (mine, df) = values[name], found[name]
        others = total - df
        prior = max(0.0, squares - mine) / others if others else 0.0
        variance, freedom = 0.0, 0.0
        if df or others:
            variance, freedom = stats.moderated(mine / df if df else 0.0, df, prior, min(rules.prior_df, others))
        known = bool(own) and freedom > 0.0
        error = max(math.sqrt(variance), rules.smallest_sd) / math.sqrt(len(own)) if known else math.inf
        mean = math.fsum(own) / len(own) if own else 0.0
        promise = effects.get(name)
        evidence[name] = _Evidence(len(own), mean, error, freedom, rules.bar(promise), rules.bound(promise))
    return evidence


def _checked(values: Values) -> None:
    for name, own in values.items():
        wrong = next((value for value in own if not math.isfinite(value)), None)
        if wrong is not None:
            raise ValueError(f"{name}: a visit's ln ratio is {wrong}; leave out visits that were not timed on both sides")


def _improved(look: Mapping[str, _Evidence], family: int, alpha: float, rules: Rules) -> set[str]:
    """Cases faster by more than the floor, by Holm over the suite: a gain to keep, never a reason to fail."""
    faster = {name: one.faster(-rules.bar()) for name, one in look.items() if one.mean < -rules.bar()}
    return {name for name, p in zip(faster, stats.holm(list(faster.values()), family), strict=True) if p < alpha}


def _kept(decided: Mapping[str, Standing] | None, values: Values) -> dict[str, Standing]:
    """What earlier calls decided of these cases."""
    return {name: one for name, one in (decided or {}).items() if one.decided and name in values}


def screen(
    values: Values,
    rules: Rules = RULES,
    effects: Mapping[str, float] | None = None,
    decided: Mapping[str, Standing] | None = None,
) -> dict[str, Standing]:
    """Standings by case name of ln(candidate / base) of visits in order: open, ok, improved, suspect or inconclusive.

    effects: the slow-down promised at most (fraction), of the cases that were promised one. decided: standings that earlier
    calls gave; those that were decided stay as they are. A suspect is accused of nothing: fresh visits, side by side, decide
    (`confirm`).
    """
    _checked(values)
    promised = effects or {}
    first, last = rules.screen_visits
    done = _kept(decided, values)
    for visits in range(first, last + 1):
        names = [name for name, own in values.items() if name not in done and len(own) >= visits]
        look = _gather(values, visits, names, rules, promised) if names else {}
        improved = _improved(look, len(values), rules.alpha / (last - first + 1), rules)
        for name, one in look.items():
            status: Status = "improved" if name in improved else "open"
            if one.nominated(rules):
                status = "suspect"
            elif status == "open" and one.harmless(rules):
                status = "ok"
            elif status == "open" and visits == last:
                status = "inconclusive"
            if status != "open":
                done[name] = one.standing(status, one.slower(one.bar - rules.bar()), rules.screen_p, rules)
    rest = _gather(values, None, [name for name in values if name not in done], rules, promised)
    for name, one in rest.items():
        p, needed = one.slower(one.bar - rules.bar()), max(1, first - one.visits)
        done[name] = one.standing("open", p, rules.screen_p, rules, needed)
    return {name: done[name] for name in values}


def confirm(
    values: Values,
    suspects: int,
    rules: Rules = RULES,
    effects: Mapping[str, float] | None = None,
    decided: Mapping[str, Standing] | None = None,
) -> dict[str, Standing]:
    """Standings by case name of suspects: open, ok, improved, regressed or inconclusive.

    values: ln(candidate / base) of fresh visits in order, none of them the screen's. suspects: how many the screen nominated
    in all; the chance of a false alarm is shared out among them, so that none may join later. effects, decided: as for
    `screen`.
    """
    if suspects < len(values):
        raise ValueError(f"{len(values)} cases are to be confirmed and {suspects} are suspects; count every suspect")
    _checked(values)
    promised = effects or {}
    noise = pooled_sd(values, rules.looks[0])
    looks = rules.noisy_looks if noise is not None and noise > rules.noisy_sd else rules.looks
    shares = [share * rules.alpha / max(1, suspects) for share in rules.spending]
    done = _kept(decided, values)
    for visits, alpha in zip(looks, shares, strict=True):
        names = [name for name, own in values.items() if name not in done and len(own) >= visits]
        look = _gather(values, visits, names, rules, promised) if names else {}
        improved = _improved(look, suspects, alpha * max(1, suspects), rules)
        for name, one in look.items():
            p = one.slower(one.bar)
            status = _confirmed(one, p, alpha, visits == looks[-1], rules)
            if status != "open":
                done[name] = one.standing(status, p, shares[-1], rules)
                if status == "ok" and name in improved:
                    done[name] = replace(done[name], status="improved")
    for name, one in _gather(values, None, [name for name in values if name not in done], rules, promised).items():
        ahead = next(look for look in looks if look > one.visits)
        done[name] = one.standing("open", one.slower(one.bar), shares[-1], rules, ahead - one.visits)
    return {name: done[name] for name in values}


def _confirmed(one: _Evidence, p: float, alpha: float, last: bool, rules: Rules) -> Status:
    """A case goes early only where it would not be nominated again: one that is slower by less than the effect would
    otherwise go at the first look, before there are visits enough to tell it from nothing."""
    if p <= alpha and alpha > 0.0:
        return "regressed"
    if one.harmless(rules) and (last or not one.nominated(rules)):
        return "ok"
    return "inconclusive" if last else "open"
