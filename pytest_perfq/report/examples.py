"""Examples that went wrong, as people read them: text, what is predicted, what was. Fetches no text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pytest_perfq.core.finding import FAILED, SEVERITY, Finding, Verdict
from pytest_perfq.core.measurement import Outcomes
from pytest_perfq.report.order import parts

# Examples shown with their text under a failed verdict; the store has the ids of all.
SHOWN_TEXTS = 5
# Where no text is shown, and of how many cases whose score did not fall.
SHOWN_IDS, SHOWN_CASES = 10, 8
# Of an example's text; enough to recognize it.
SHOWN_CHARACTERS = 80


class Listed:
    """Examples that a text has listed already: a case that lost the same ones names the first that did."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, tuple[str, ...]], tuple[str, tuple[str, ...]]] = {}

    def add(self, case_id: str, *findings: Finding) -> None:
        """These of a case were told, with the lines under them."""
        for one in findings:
            if one.examples:
                name, lines = self._first.get(_key(case_id, one), (case_id, ()))
                if name == case_id:
                    self._first[_key(case_id, one)] = name, (*lines, *one.details)

    def same(self, case_id: str, finding: Finding) -> str:
        """Whose examples these are, such as `the same 3 examples as NAME`; empty where they have to be listed."""
        name, _ = self._first.get(_key(case_id, finding), (case_id, ()))
        return "" if name == case_id else _same(len(finding.examples), name)

    def new(self, case_id: str, finding: Finding) -> tuple[str, ...]:
        """The lines under a finding that were not told of the first case: another program may answer the same example
        otherwise."""
        name, lines = self._first.get(_key(case_id, finding), (case_id, ()))
        return finding.details if name == case_id else tuple(one for one in finding.details if one not in lines)


def _key(case_id: str, finding: Finding) -> tuple[str, tuple[str, ...]]:
    """Of examples wherever they are lost: ids are unique within a data set."""
    return parts(case_id)[0], finding.examples


def _same(number: int, name: str) -> str:
    return f"the same {'example' if number == 1 else f'{number} examples'} as {name}"


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
    found, listed = [], Listed()
    for verdict in verdicts:
        kept = [
            one for one in verdict.findings if one.rule == "accuracy" and one.status in ("pass", "improved") and one.examples
        ]
        if kept and verdict.status not in FAILED:
            rest = len(kept[0].examples) - SHOWN_IDS
            ids = ", ".join(kept[0].examples[:SHOWN_IDS]) + (f" and {rest} more" if rest > 0 else "")
            ids = listed.same(verdict.case_id, kept[0]) or ids
            listed.add(verdict.case_id, kept[0])
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
