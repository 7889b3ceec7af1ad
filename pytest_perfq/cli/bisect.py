"""`perfq bisect`: the commit that made a case worse, each step held side by side against the good revision."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_perfq.cli.given import budget_s, given, to_errors
from pytest_perfq.cli.storing import kept, opened
from pytest_perfq.core.rules import RULES, Rules
from pytest_perfq.core.verdict import Pair, Verdict
from pytest_perfq.errors import TrialError, UnknownName, UsageError
from pytest_perfq.report import comparison
from pytest_perfq.report.passing import Passing
from pytest_perfq.trials import revisions
from pytest_perfq.trials.bisection import Answer, Bisection, ends, subject
from pytest_perfq.trials.entry import Collected, Entry
from pytest_perfq.trials.environment import Environment
from pytest_perfq.trials.passes import STOPPED
from pytest_perfq.trials.running import Trials
from pytest_perfq.trials.sides import Sides, collect

if TYPE_CHECKING:
    from pytest_perfq.store import Store

# Of what the bad revision is slower by, a step must have at most this share to be good.
SHARE = 0.5
ANSWERS: dict[str, Answer] = {"pass": "good", "improved": "good", "regressed": "bad", "fail": "skip", "invalid": "skip"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked for. words: arguments for pytest. time: of every step, None without a bound."""

    case: str
    good: str
    bad: str
    words: Sequence[str] = ()
    time: str | None = None
    threads: int | None = None
    data: str | None = None
    cache: str | None = None
    pickle: bool = False
    install: str | None = None
    store: str = ""


@dataclass(slots=True)
class Held:
    """Holds commits against the good revision, for one case. found: what each was found to be. runs: of the store, one a
    commit that was measured."""

    base: Environment
    case: Collected
    given: dict[str, Any]
    words: Sequence[str]
    install: str | None
    time_s: float | None
    passing: Passing
    store: Store
    rules: Rules = RULES
    found: dict[str, tuple[Pair, Verdict]] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)

    def decide(self, commit: str) -> tuple[Answer, str]:
        """What a commit is, and why. What cannot be built, collected or measured is skipped."""
        self.passing.say(f"{commit[:10]} against {self.base.label}")
        try:
            here = revisions.environment(commit, Path.cwd(), Path(self.given["cache"]), self.install, self.passing.say)
            theirs = _case(collect(here, self.given, self.words), self.case.case.id)
            entry = Entry(self.case.nodeid, self.case.case, theirs.case, refused=self.case.refused or theirs.refused)
            trials = Trials([entry], Sides(self.base, here, self.given, self.words), self.rules, self.time_s)
            trials.screened = trials.explained = False
            trials.watch, trials.say = self.passing.watch, self.passing.say
            told = {"base": self.base.label, "candidate": here.label, "vs": None, "bisect": self.case.case.id}
            self.runs.append(kept(self.store, trials, told))
        except (TrialError, UsageError) as error:
            return "skip", str(error)
        except KeyboardInterrupt:
            return "undecided", STOPPED
        if entry.refused is not None:
            if entry.candidate.test is not None:  # by either side, unlike a case
                return "skip", entry.refused
            raise UsageError(entry.refused)
        pair, verdict = trials.pairs[entry.name], trials.verdicts[entry.name]
        self.found[commit] = pair, verdict
        worst = max(verdict.findings, key=lambda one: one.status == verdict.status)
        answer = ANSWERS.get(verdict.status, "undecided")
        return answer, self.told(commit) if answer in ("good", "bad") else worst.note

    def told(self, commit: str) -> str:
        """Such as `2.10 ms -> 2.95 ms, +40.1% [+39.0%, +41.2%]`."""
        pair, verdict = self.found[commit]
        _, was, now, change, interval, _ = comparison.row("", pair, verdict)
        return f"{was} -> {now}" + (f", {change} {interval}".rstrip() if change else "")

    def sharpen(self, commit: str, steps: int) -> None:
        """From now on a commit is good only where it lacks half of what this one is slower by; and the chance of a false
        alarm is shared out among all steps."""
        observed = max((one.observed or 0.0 for one in self.found[commit][1].findings), default=0.0)
        effect = min(RULES.effect, max(SHARE * observed, 1.5 * RULES.floor))
        self.rules = replace(RULES, effect=effect, alpha=RULES.alpha / max(1, steps))


def bisect(asked: Asked) -> tuple[str, int]:
    """The text and the exit status of looking for the commit: 0 where it was found, 2 where not."""
    passing = Passing(to_errors, sys.stderr.isatty())
    try:
        time_s = budget_s(asked.time)
        here = Path.cwd()
        root = revisions.root_of(here)
        good, bad = ends(root, asked.good, asked.bad)
        options = {name: getattr(asked, name) for name in ("data", "cache", "threads", "pickle")}
        how, words = given(asked.words, here, **options)
        base = revisions.environment(good, here, Path(how["cache"]), asked.install, passing.say)
        case = _case(collect(base, how, words), asked.case)
        with opened(asked.store) as store:
            held = Held(base, case, how, words, asked.install, time_s, passing, store)
            text, status = _looked(asked, Bisection(root, good, bad, _never), held)
        return f"{text}\n{_kept(held.runs)}", status
    finally:
        passing.close()


def _looked(asked: Asked, bisection: Bisection, held: Held) -> tuple[str, int]:
    answer, why = held.decide(bisection.bad)
    if answer == "skip":
        raise UsageError(f"{asked.bad} cannot be measured: {why}")
    if answer != "bad":
        told = "is not worse than" if answer == "good" else "cannot be told from"
        return f"{asked.bad} {told} {asked.good}: {why}", 2
    between = int(revisions.git(bisection.root, "rev-list", "--count", f"{bisection.good}..{bisection.bad}"))
    held.sharpen(bisection.bad, math.ceil(math.log2(between)) + 1)
    bisection.decide, bisection.told = held.decide, lambda step: held.passing.say(str(step))
    bisection.run()
    return report(bisection, held.told, held.case.case.id), 0 if bisection.first is not None else 2


def _kept(runs: Sequence[str]) -> str:
    """Where the measurements are."""
    many = f"run {runs[0]}" if len(runs) == 1 else f"runs {', '.join(runs)}"
    return f"kept as {many}; see one with: perfq report {runs[-1]}"


def report(bisection: Bisection, told: Callable[[str], str], case: str) -> str:
    """What was found, then the steps. told: both medians and the interval of a bad commit."""
    root = bisection.root
    if bisection.first is not None:
        lines = [f"first bad commit of {case}:", f"  {_named(root, bisection.first)}", f"  {told(bisection.first)}"]
    else:
        last = bisection.steps[-1] if bisection.steps else None
        why = "the commits in between cannot be measured" if last is None or last.answer == "skip" else last.why
        lines = [f"undecided: {why}", f"the first bad commit of {case} is one of {len(bisection.left)}:"]
        lines += [f"  {_named(root, commit)}" for commit in bisection.left]
    lines += ["steps:", f"  {'bad':<9} {_named(root, bisection.bad)}: {told(bisection.bad)}"]
    return "\n".join([*lines, *(f"  {step}" for step in bisection.steps)])


def _named(root: Path, commit: str) -> str:
    return f"{commit[:10]} {subject(root, commit)}"


def _case(collected: Sequence[Collected], name: str) -> Collected:
    for one in collected:
        if one.case.id == name or (one.case.test is not None and one.nodeid == name):
            return one
    raise UnknownName("case", name, [one.case.id for one in collected])


def _never(commit: str) -> tuple[Answer, str]:
    raise AssertionError(f"{commit} was asked for before the bad revision was measured")
