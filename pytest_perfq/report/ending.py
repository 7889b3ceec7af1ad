"""What a run says at its end of the baseline that it was held against, of the one that it saved, and how long ago cases were
timed that it could not. Knows no store."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from pytest_perfq.core.finding import FAILED, Verdict
from pytest_perfq.core.measurement import Measurement
from pytest_perfq.report.apart import is_new, unheld

DAY_S = 86400.0


def new(records: Sequence[tuple[Measurement, Verdict]], baseline: str, run: str, saving: bool) -> list[str]:
    """A sentence where measured cases are not in the baseline, with the next step; none where all are. run: its id. saving:
    whether this run is saved already."""
    measured = (verdict for one, verdict in records if one.unmeasured is None)
    names = list(dict.fromkeys(verdict.case_id for verdict in measured if is_new(verdict)))
    if not names:
        return []
    right = "it is" if len(names) == 1 else "they are"
    step = f"; once {right} right, save the suite with --perf-save, or this run with: perfq accept {run} {baseline} --overwrite"
    return [unheld(names, f"the baseline {baseline}") + ("" if saving else step)]


def unjudged(judged: Collection[str], known: Collection[str], baseline: str, again: str) -> list[str]:
    """A sentence where cases of the baseline had no verdict in this run. Whether they were left out, refused or taken away it
    does not know. judged, known: ids, of this run and of the baseline. again: the run as `perfq compare` is told it."""
    held = sum(name in judged for name in known)
    if held == len(known):
        return []
    return [
        f"{held} of the {len(known)} cases of the baseline {baseline} were judged; the others are named by: "
        f"perfq compare {baseline} {again}"
    ]


def aged(ages_s: Iterable[float]) -> list[str]:
    """A sentence where cases without a valid timing had their last one a day ago or longer. ages_s: of those last ones."""
    days = sorted(age / DAY_S for age in ages_s if age >= DAY_S)
    if not days:
        return []
    least, most = round(days[0]), round(days[-1])
    span = f"{most} {'day' if most == 1 else 'days'}" if least == most else f"{least} to {most} days"
    whose = "1 case without a valid timing had its" if len(days) == 1 else f"{len(days)} cases without a valid timing had their"
    return [f"{whose} last one {span} ago"]


def resumed(kept: int, judged: int, found: bool) -> str:
    """What of a run that was to be resumed was there. found: whether there was one."""
    if not found:
        return "there was no unfinished run to resume in this store, so all was measured, as a new run"
    return f"resumed: {kept} of {judged} {'case' if judged == 1 else 'cases'} had been measured before, and stand as they were"


def saved(verdicts: Sequence[Verdict], folder: str | Path) -> str:
    """The sentence about a baseline that was saved. verdicts: of a case measured twice the last counts, as in the baseline."""
    last = {verdict.case_id: verdict for verdict in verdicts}
    bad = sum(verdict.status in (*FAILED, "invalid") for verdict in last.values())
    bare = sum(_unmeasured(verdict) for verdict in last.values())
    what = "case" if len(last) == 1 else "cases"
    doubts = [f"{bad} of which {'fails or is' if bad == 1 else 'fail or are'} invalid"] if bad else []
    doubts += [f"{bare} of which {'was' if bare == 1 else 'were'} not measured"] if bare else []
    doubt = f", {' and '.join(doubts)}" if doubts else ""
    return f"saved {len(last)} {what} as {folder}{doubt}; hold a run against it with --perf-against={folder}"


def _unmeasured(verdict: Verdict) -> bool:
    """Whether nothing is known of the case but its name: nobody had the machine or the time."""
    return any(one.rule == "measured" and one.status in ("unmeasured", "inconclusive") for one in verdict.findings)
