"""`perfq ab`: two revisions, environments or configurations side by side, one verdict a case, one exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_perfq.cli.compare import exit_status
from pytest_perfq.cli.given import budget_s, given, to_errors
from pytest_perfq.cli.storing import kept, opened
from pytest_perfq.core.budget import about
from pytest_perfq.core.finding import Verdict
from pytest_perfq.core.fingerprint import Fingerprint
from pytest_perfq.core.rules import Rules
from pytest_perfq.core.verdict import Pair
from pytest_perfq.errors import TrialError, UsageError
from pytest_perfq.report import comparison
from pytest_perfq.report.apart import Apart, few
from pytest_perfq.report.passing import Passing
from pytest_perfq.report.seen import range_seen
from pytest_perfq.store import Store
from pytest_perfq.trials import revisions
from pytest_perfq.trials.calibrated import Calibrated
from pytest_perfq.trials.entry import Entry, matched, tell_refused, varied
from pytest_perfq.trials.environment import Environment
from pytest_perfq.trials.running import Trials
from pytest_perfq.trials.sides import Sides

# Ids named in a sentence about cases of one side only.
SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked for. words: revisions, then arguments for pytest. time: of the latency part, None without a bound.
    subset: cases that only the base has were left out on purpose."""

    words: Sequence[str]
    env: Sequence[str] = ()
    vs: str | None = None
    time: str | None = None
    threads: int | None = None
    data: str | None = None
    cache: str | None = None
    pickle: bool = False
    install: str | None = None
    only: str | None = None
    subset: bool = False
    store: str = ""


def ab(asked: Asked, how: str, everything: bool, width: int) -> tuple[str, int]:
    """The text and the exit status of holding two sides against each other."""
    passing = Passing(to_errors, sys.stderr.isatty())
    try:
        time_s = budget_s(asked.time)
        sides, words = _sides(asked, passing.say)
        entries, apart = _entries(sides, asked, words, passing.say)
        trials, run = _held(entries, sides, asked, time_s, passing)
    finally:
        passing.close()
    text = _text(how, trials.pairs, trials.verdicts, apart, everything, width)
    if how == "table":
        text += f"\n{sides.candidate.label} beside {sides.base.label if asked.vs is None else asked.vs}; kept as run {run}"
    status = exit_status(trials.verdicts)
    # A case that the change took away cannot be found worse: somebody has to say that it was meant.
    return text, 2 if status == 0 and apart.base and not asked.subset else status


def _sides(asked: Asked, say: Callable[[str], None]) -> tuple[Sides, list[str]]:
    """Both environments, and the arguments for pytest. Where nothing is said on the command line, the ini files of the
    project here say how to measure, on both sides alike."""
    here = Path.cwd()
    revised = asked.vs is None and not asked.env
    _check(asked, here)
    words = list(asked.words[2:] if revised else asked.words)
    how, words = given(words, here, data=asked.data, cache=asked.cache, threads=asked.threads, pickle=asked.pickle)
    if asked.vs is not None:
        one = other = Environment(label="this environment", folder=here)
    elif asked.env:
        one, other = (Environment(label=python, python=python, folder=here) for python in asked.env)
    else:
        one, other = (revisions.environment(name, here, Path(how["cache"]), asked.install, say) for name in asked.words[:2])
    return Sides(one, other, how, words), words


def _check(asked: Asked, here: Path) -> None:
    """Raises UsageError where it is not clear what the two sides are, before anything is started."""
    if asked.vs is not None and asked.env:
        raise UsageError("--vs compares two configurations in this environment and --env two environments; give one of them")
    what = "--vs" if asked.vs is not None else "--env"
    if (asked.vs is not None or asked.env) and (named := _revision(asked.words, here)) is not None:
        raise UsageError(
            f"{named} is a revision, and with {what} both sides are of the tree as it is; leave out the revisions, or {what}"
        )
    if asked.env and len(asked.env) != 2:
        often = "once" if len(asked.env) == 1 else f"{len(asked.env)} times"
        raise UsageError(f"--env is given {often}; give the base's Python and the candidate's")
    if asked.env and asked.env[0] == asked.env[1]:
        raise UsageError(f"--env is {asked.env[0]} twice; give two environments, or --vs for two configurations in one")
    if asked.vs is None and not asked.env and len(asked.words) < 2:
        raise UsageError(
            "two revisions are needed, the base first, such as `perfq ab main .`; or give --env twice, or --vs AXIS=VALUE"
        )
    if asked.vs is None and not asked.env:
        root = revisions.root_of(here, ", or compare two environments with --env")
        one, other = (name if name == revisions.WORKING_TREE else revisions.commit_of(name, root) for name in asked.words[:2])
        if one == other:
            raise UsageError(f"{asked.words[0]} and {asked.words[1]} are the same revision {one}; give two")


def _revision(words: Sequence[str], here: Path) -> str | None:
    """The first word, where it is a revision and no path of tests; None where it is not."""
    if not words or words[0].startswith("-") or (here / words[0].partition("::")[0]).exists():
        return None
    try:
        revisions.check(words[0], here)
    except (TrialError, UsageError):
        return None
    return words[0]


def _entries(sides: Sides, asked: Asked, words: Sequence[str], say: Callable[[str], None]) -> tuple[list[Entry], Apart]:
    """What is to be compared, and what only one side has."""
    base, candidate = sides.collected(words)
    apart = Apart()
    if asked.vs is not None:
        entries = varied(candidate, asked.vs)
    else:
        entries, gone, new = matched(base, candidate)
        apart = _apart(gone, new, {one.case.id: one.case.kind for one in (*base, *candidate)}, asked.only)
        meant = "" if asked.subset else "; give --subset where that is meant"
        for names, label, step in ((apart.base, sides.base.label, meant), (apart.candidate, sides.candidate.label, "")):
            if names:
                say(f"{_cases(len(names))} only in {label}, and not compared: {few(names, SHOWN)}{step}")
        if not entries:
            raise UsageError(f"{sides.base.label} and {sides.candidate.label} share no case; name suites that both have")
    wanted = [one for one in entries if asked.only in (None, one.candidate.kind)]
    if not wanted:
        raise UsageError(f"none of the {len(entries)} cases is a {asked.only} case; take --only away")
    unheld = [one for one in wanted if _promises_speedup(one) and one.base != one.candidate.original()]
    if unheld:
        say(
            f"min_speedup is promised of {len(unheld)} of {len(wanted)} cases and not held here, where no original is timed; "
            "pytest holds it, or `perfq ab --vs original`"
        )
    return wanted, apart


def _apart(gone: Sequence[str], new: Sequence[str], kinds: Mapping[str, str], only: str | None) -> Apart:
    """Of the kind that was asked for."""
    base, candidate = (tuple(one for one in names if only in (None, kinds[one])) for names in (gone, new))
    return Apart(base, candidate)


def _promises_speedup(entry: Entry) -> bool:
    return any(limit.rule == "min_speedup" and about(limit.rule, entry.candidate) for limit in entry.limits)


def _held(entries: list[Entry], sides: Sides, asked: Asked, time_s: float | None, passing: Passing) -> tuple[Trials, str]:
    """The trials, run and stored."""
    trials = Trials(entries, sides, Rules(), time_s, watch=passing.watch, say=passing.say)
    if sides.base.revision is not None and asked.words[0] != revisions.WORKING_TREE:
        trials.age_s = revisions.age_s(sides.base.revision, sides.base.folder)
    _refuse_too_fine(entries, sides, asked.store)
    with opened(asked.store) as store:
        run = kept(store, trials, {"base": sides.base.label, "candidate": sides.candidate.label, "vs": asked.vs})
        if (seen := _seen(trials.pairs, store)) is not None:
            passing.say(seen)
    tell_refused(entries, passing.say)
    if trials.ended is not None:
        passing.say(f"{trials.ended}; what was measured is kept as run {run}, and says how far it came")
    return trials, run


def _refuse_too_fine(entries: Sequence[Entry], sides: Sides, store: str) -> None:
    """No time is spent on a promise that nobody could see broken on this machine, as calibration found."""

    def machine(device: str) -> str:
        with sides.opened() as workers:
            return Fingerprint.from_json(workers.fingerprints(device)["b"]).key

    calibrated = Calibrated(store, machine)
    for entry in entries:
        if not entry.over:
            entry.trouble = calibrated.too_fine(entry.candidate, entry.limits)


def _seen(pairs: Mapping[str, Pair], store: Store) -> str | None:
    """What slow-downs can be seen here, where cases were calibrated."""
    timed = {name: one.candidate.fingerprint.key for name, one in pairs.items() if one.candidate and one.candidate.visits}
    known = {machine: store.calibrations(machine) for machine in set(timed.values())}
    found = [known[machine][name].deviation for name, machine in timed.items() if name in known[machine]]
    return range_seen(found, len(timed)) if found else None


def _cases(number: int) -> str:
    return "1 case is" if number == 1 else f"{number} cases are"


def _text(how: str, pairs: dict[str, Pair], verdicts: dict[str, Verdict], apart: Apart, everything: bool, width: int) -> str:
    if how == "json":
        return comparison.as_json(verdicts, apart)
    if how == "markdown":
        return comparison.markdown(pairs, verdicts, everything, apart)
    return comparison.table(pairs, verdicts, width, everything, apart)
