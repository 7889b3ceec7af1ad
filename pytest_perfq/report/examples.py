"""Examples that went wrong, as people read them: text, what is predicted, what was. Fetches no text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pytest_perfq.core.finding import FAILED, SEVERITY, Finding, Verdict
from pytest_perfq.core.measurement import Outcomes

# Examples shown with their text under a failed verdict; the store has the ids of all.
SHOWN_TEXTS = 5
# Where no text is shown, and of how many cases whose score did not fall.
SHOWN_IDS, SHOWN_CASES = 10, 8
# Of an example's text; enough to recognize it.
SHOWN_CHARACTERS = 80


def to_read(verdict: Verdict) -> tuple[str, ...]:
    """Ids of the examples that are to be shown with their text; none where the case does not fail for examples."""
    finding = _blamed(verdict)
    return () if finding is None else finding.examples[:SHOWN_TEXTS]


def read(verdict: Verdict, texts: Mapping[str, str], now: Outcomes, was: Outcomes | None) -> Verdict:
    """The verdict with a line for each of those under the finding that is about them. texts: by id; an example without one has
    no line. now, was: outcomes of the case, and of what it is held against, where there is any."""
    finding = _blamed(verdict)
    if finding is None:
        return verdict
    new = dict(zip(now.ids, now.predictions, strict=True))
    old = {} if was is None else dict(zip(was.ids, was.predictions, strict=True))
    lines = tuple(line(one, texts[one], new[one], old.get(one)) for one in to_read(verdict) if one in texts)
    told = replace(finding, details=(*finding.details, *lines))
    return replace(verdict, findings=tuple(told if one is finding else one for one in verdict.findings))


def made_up_for(verdicts: Sequence[Verdict]) -> list[str]:
    """A sentence for each case whose score did not fall although examples went wrong: others went right in their place, and its
    score alone would hide the change."""
    found = []
    for verdict in verdicts:
        kept = [
            one for one in verdict.findings if one.rule == "accuracy" and one.status in ("pass", "improved") and one.examples
        ]
        if kept and verdict.status not in FAILED:
            rest = len(kept[0].examples) - SHOWN_IDS
            ids = ", ".join(kept[0].examples[:SHOWN_IDS]) + (f" and {rest} more" if rest > 0 else "")
            found.append(
                f"{verdict.case_id}: {kept[0].note.removeprefix('side by side, ')}, so the score did not fall; wrong now: {ids}"
            )
    rest = len(found) - SHOWN_CASES
    if rest > 0:
        found[SHOWN_CASES:] = [f"and {rest} more {'case' if rest == 1 else 'cases'}, whose examples `perfq export` has"]
    return found


def line(name: str, text: str, now: str, was: str | None) -> str:
    """One example that went wrong, such as `q7 'no good' -> 'bad', was 'good'`."""
    cut = text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
    return f"{name} {cut!r} -> {now!r}" + ("" if was is None else f", was {was!r}")


def _blamed(verdict: Verdict) -> Finding | None:
    """The worst finding that is about examples, by which they are listed."""
    about = [one for one in verdict.findings if one.examples and one.status in FAILED]
    return max(about, key=lambda one: SEVERITY[one.status], default=None)
