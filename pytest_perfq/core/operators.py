"""What moved between two profiles of one case: which operators vanished, came, or take longer. Pure: profiles nothing.

A profile is the operators of one forward pass by name, with their calls and the time they themselves take. What is told adds
up: the clauses, the operators that moved too little to be told, and what is in no operator are together what was measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

# name -> (calls, nanoseconds of the operator itself), of one forward pass.
Profile = Mapping[str, tuple[float, float]]

# Told in the sentence, the largest first; the table has more.
TOLD = 3
# Names within one clause.
NAMED = 4
# Rows of the table: what a person still reads.
ROWS = 10
# Of the largest movement; what moves by less is noise beside it.
SMALL_SHARE = 0.05
# Move data and compute nothing, by what their names hold: no computing operator can have become one of them.
MOVERS = ("memcpy", "memset", "reorder", "copy_", "to_copy")


@dataclass(frozen=True, slots=True)
class Moved:
    """One operator on both sides: calls and ns a forward pass, 0 where it is not."""

    name: str
    base_calls: float
    calls: float
    base_ns: float
    ns: float

    @property
    def moved_ns(self) -> float:
        """Positive: longer than before."""
        return self.ns - self.base_ns

    @property
    def more(self) -> float:
        """Calls more than before."""
        return self.calls - self.base_calls


@dataclass(frozen=True, slots=True)
class Clause:
    """A part of the sentence, and by how much its operators moved, ns."""

    text: str
    ns: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """difference_ns: of a forward pass, as it was timed. clauses: the largest first. others_ns: of the operators in no clause.
    operators: every one, the one that moved most first."""

    difference_ns: float
    clauses: tuple[Clause, ...]
    others_ns: float
    operators: tuple[Moved, ...]

    @property
    def outside_ns(self) -> float:
        """What was timed and is in no operator; negative where the profiled operators moved by more than what was timed."""
        return self.difference_ns - self.others_ns - sum(one.ns for one in self.clauses)


def explain(base: Profile, candidate: Profile, difference_ns: float) -> Explanation:
    """What moved from the base to the candidate. difference_ns: of a forward pass, as it was timed without a profiler."""
    found = sorted(_moved(base, candidate), key=lambda one: (-abs(one.moved_ns), one.name))
    largest = max((abs(one.moved_ns) for one in found), default=0.0)
    clauses = sorted(_clauses(found), key=lambda one: -abs(one.ns))
    told = [one for one in clauses if abs(one.ns) >= SMALL_SHARE * largest and one.ns][:TOLD]
    others = sum(one.moved_ns for one in found) - sum(one.ns for one in told)
    return Explanation(difference_ns, tuple(told), others, tuple(found))


def _moved(base: Profile, candidate: Profile) -> Iterable[Moved]:
    for name in dict.fromkeys((*base, *candidate)):
        (before, before_ns), (after, after_ns) = base.get(name, (0, 0)), candidate.get(name, (0, 0))
        yield Moved(name, before, after, before_ns, after_ns)


def _clauses(found: Sequence[Moved]) -> list[Clause]:
    """Operators with other calls than before are told together where some went and others came; the rest one by one."""
    lost = [one for one in found if one.more < 0]
    gained = [one for one in found if one.more > 0]
    made = [one for one in gained if not _moves_data(one)] if lost else []
    clauses = []
    if lost and made:
        text = f"{_names([_lost(one) for one in lost])} became {_names([f'{_count(one.more)} {one.name}' for one in made])}"
        clauses.append(Clause(text, sum(one.moved_ns for one in (*lost, *made))))
    else:
        clauses += [Clause(f"{_lost(one)} {'is' if one.more == -1 else 'are'} gone", one.moved_ns) for one in lost]
    for one in gained:
        if one not in made:
            clauses.append(Clause(f"{_count(one.more)} {'more' if one.base_calls else 'new'} {one.name}", one.moved_ns))
    same = [one for one in found if one.more == 0]
    return clauses + [Clause(one.name if one.calls == 1 else f"{_count(one.calls)} {one.name}", one.moved_ns) for one in same]


def _moves_data(one: Moved) -> bool:
    return any(part in one.name.lower() for part in MOVERS)


def _lost(one: Moved) -> str:
    if one.calls:
        return f"{_count(-one.more)} of {_count(one.base_calls)} {one.name}"
    return one.name if one.base_calls == 1 else f"{_count(one.base_calls)} {one.name}"


def _names(texts: Sequence[str]) -> str:
    rest = len(texts) - NAMED
    shown = [*texts[:NAMED], *([f"{rest} others"] if rest > 1 else texts[NAMED:])]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _count(calls: float) -> str:
    """Of a forward pass; a whole number unless passes differ."""
    return f"{calls:.3g}"


def milliseconds(ns: float) -> str:
    """With its sign: `+0.42 ms`, `-0.013 ms`."""
    value = ns / 1e6
    return f"{value:+.0f} ms" if abs(value) >= 1000 else f"{value:+.3g} ms" if abs(value) >= 100 else f"{value:+.2g} ms"


def sentence(found: Explanation) -> str:
    """Such as `+0.42 ms: FusedAttention became 3 MatMul (+0.3 ms), 2 new Memcpy (+0.1 ms), in no operator +0.02 ms`; what is
    a twentieth of the whole or less is left out."""
    parts = [f"{one.text} ({milliseconds(one.ns)})" for one in found.clauses]
    largest = max(abs(found.difference_ns), *(abs(one.ns) for one in found.clauses), 0.0)
    if abs(found.others_ns) > SMALL_SHARE * largest:
        parts.append(f"other operators {milliseconds(found.others_ns)}")
    if abs(found.outside_ns) > SMALL_SHARE * largest:
        # A part of what was timed; operators that moved the other way, or by more, were not what was timed.
        part = 0.0 <= found.outside_ns * found.difference_ns <= (1.0 + SMALL_SHARE) * found.difference_ns**2
        outside = "in no operator" if part else "the profiler's own and noise"
        parts.append(f"{outside} {milliseconds(found.outside_ns)}")
    return f"{milliseconds(found.difference_ns)}: {', '.join(parts) or 'no operator moved'}"


def table(found: Explanation) -> list[str]:
    """Lines of a table: calls and milliseconds of an operator on both sides, the one that moved most first."""
    shown = [one for one in found.operators if one.moved_ns or one.more][:ROWS]
    if not shown:
        return []
    rows = [
        [one.name, _count(one.base_calls), _count(one.calls), *(f"{ns / 1e6:.3g}" for ns in (one.base_ns, one.ns)),
         milliseconds(one.moved_ns).removesuffix(" ms")]
        for one in shown
    ]  # fmt: skip
    cells = [["operator", "calls", "now", "ms", "now", "moved"], *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))])
        for row in cells
    ]
