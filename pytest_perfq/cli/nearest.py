"""What somebody may have meant by the id of a case that the store does not know. Knows ids alone."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from pytest_perfq.errors import UsageError
from pytest_perfq.report.order import natural

# Ids offered; `perfq list cases` has all.
SHOWN_CASES = 5
# Comparing long ids letter by letter is slow: only those that share most of their parts are.
COMPARED_CASES = 200
# As UnknownName has it: less alike than this is a guess in the dark.
LEAST_ALIKE = 0.5


def nearest(case: str, known: Collection[str]) -> list[str]:
    """The ids most alike, the best first: those that have the text in them, or those that share the most parts and letters."""
    within = [name for name in known if case in name]
    if within:
        return sorted(within, key=natural)[:SHOWN_CASES]
    parts = set(case.split("/"))
    alike = sorted(known, key=lambda name: (-len(parts.intersection(name.split("/"))), natural(name)))
    return difflib.get_close_matches(case, alike[:COMPARED_CASES], n=SHOWN_CASES, cutoff=LEAST_ALIKE)


def unknown_case(case: str, known: Collection[str], store: str) -> UsageError:
    """The sentence about a case that is not in the store. store: as messages name it."""
    if not known:
        return UsageError(
            f"unknown case {case!r}: the store {store} holds no case yet; a run of pytest over a suite brings them"
        )
    found = [repr(name) for name in nearest(case, known)]
    meant = f"; did you mean {' or '.join(filter(None, [', '.join(found[:-1]), found[-1]]))}?" if found else ";"
    number = f"the store has {len(known)} {'case' if len(known) == 1 else 'cases'}"
    return UsageError(f"unknown case {case!r}{meant} {number}: see `perfq list cases`")
