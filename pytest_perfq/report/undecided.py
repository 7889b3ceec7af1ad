"""Why cases are not decided, each reason once: alike reasons are one line with the ranges of their numbers.

18 cases: inconclusive: slow-down from the baseline, at most +5.0%; ...; a slowdown under 24% to 65% cannot be seen ...
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from pytest_perfq.core.budget import LATENCY_RULES
from pytest_perfq.core.finding import FAILED, SEVERITY, Finding, Verdict
from pytest_perfq.report.explain import line

# Rules about the case's own timing, told with what was measured.
SEEN = LATENCY_RULES - {"max_slowdown"}
# Lines under the tables; an export has the rest.
SHOWN_REASONS = 8
# A number that stands alone: not one in a name (b8), in a version (2.13.0) or in quotes; a ratio (1.50x) is one.
NUMBER = re.compile(r"(?<![\w.'\"+-])[-+]?\d+(?:\.\d+)?(?:(?=x\b)|(?![\w'\"]|\.\d))")

# What a disturbed visit is called where it is not the same one in all cases, see core.validity.
DISTURBED = re.compile(r"visit \d+ to \d+ of (\d+(?: to \d+)?) was disturbed")


def _general(finding: Finding) -> str:
    """The finding without what differs from case to case and stands in the tables. What was measured beside a promise stays:
    a limit without it reads as if nothing was known."""
    observed = finding.observed if finding.rule in SEEN else None
    return line(replace(finding, observed=observed, interval=None, examples=()))


def _merged(texts: Sequence[str]) -> str:
    """Texts that differ in their numbers alone as one, with the range of each number."""
    columns = [sorted(dict.fromkeys(numbers), key=float) for numbers in zip(*map(NUMBER.findall, texts), strict=True)]
    ranges = iter(one[0] if len(one) == 1 else f"{one[0]} to {one[-1]}" for one in columns)
    # The unit stands after the last number only: `24 to 65%`.
    text = NUMBER.sub(lambda match: next(ranges), texts[0])
    # Which visit it was differs from case to case, and of each it was one.
    return DISTURBED.sub(r"one visit of \1 was disturbed", text)


def _worst(verdict: Verdict) -> list[Finding]:
    """The findings that are as bad as the verdict; of those with the same reason, such as a disturbed visit, the first."""
    status = max((one.status for one in verdict.findings), key=SEVERITY.__getitem__)
    found: dict[str, Finding] = {}
    for one in verdict.findings:
        if one.status == status:
            found.setdefault(one.note or one.rule, one)
    return list(found.values())


def undecided(verdicts: Sequence[Verdict], more: str = "`perfq export` has every one") -> list[str]:
    """One line a reason, with how many cases share it, or the case itself where it is alone; of a case all that are as bad as
    its status. Failures have texts of their own. more: where to read the reasons that are too many to show."""
    found: dict[tuple[str, str], list[tuple[str, Finding, str]]] = {}
    for verdict in verdicts:
        if verdict.status in ("pass", "improved", *FAILED):
            continue
        for worst in _worst(verdict):
            # Numbers of two promises are never one range.
            promise, text = f"{worst.rule} {worst.limit} {worst.entry}", _general(worst)
            found.setdefault((promise, NUMBER.sub("#", text)), []).append((verdict.case_id, worst, text))
    lines = []
    for group in found.values():
        if len(group) == 1:
            lines.append(f"{group[0][0]}: {line(group[0][1])}")
        else:
            lines.append(f"{len(group)} cases: {_merged([text for _, _, text in group])}")
    rest = len(lines) - SHOWN_REASONS
    if rest > 0:
        lines[SHOWN_REASONS:] = [f"and {rest} more {'reason' if rest == 1 else 'reasons'}; {more}"]
    return lines
