"""A table of texts, fitted to a width: columns nobody filled are left out, then those that matter least, then a name folds.

Knows no measurement. Rendered to a string without colours, so that pytest, a file and a pipe print the same.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytest_perfq.report.folding import fold

# Blanks between two columns.
GAP = 3
# A program of most sweeps stands in so much: columns that may leave do so before it folds.
LEAST_FOLD = 40
# Narrower than this it is of none: the table then is wider than its width.
SMALLEST_FOLD = 12


@dataclass(frozen=True, slots=True)
class Column:
    """title: of the column. right: numbers stand at the right. spare: left out when there is no room, the largest first;
    0 stays. folds: takes the room that is left and breaks its text at the joints of a name; at most one column does.
    beside: the column leaves once the one that folds has less room than so many characters. spans: an empty cell belongs to
    the one above, whose further lines stand there."""

    title: str
    right: bool = True
    spare: int = 0
    folds: bool = False
    beside: int = LEAST_FOLD
    spans: bool = False


def _widest(columns: Sequence[Column], rows: Sequence[Sequence[str]], index: int) -> int:
    return max([len(columns[index].title), *(len(row[index]) for row in rows)])


def _needed(columns: Sequence[Column], rows: Sequence[Sequence[str]], index: int, least: int) -> int:
    widest = _widest(columns, rows, index)
    return min(widest, least) if columns[index].folds else widest


def fitting(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """Indices of the columns to show."""
    shown = [index for index in range(len(columns)) if any(row[index] for row in rows)]
    while spares := [index for index in shown if columns[index].spare]:
        spare = max(spares, key=lambda index: columns[index].spare)
        if sum(_needed(columns, rows, index, columns[spare].beside) + GAP for index in shown) - GAP <= width:
            break
        shown.remove(spare)
    return shown


def _lines(column: Column, folding: int, rows: Sequence[Sequence[str]], room: int) -> Iterator[list[str]]:
    """The rows as lines. What a folded cell needs beyond its row goes into the rows it spans, then into lines of its own."""
    waiting: list[str] = []
    for row in rows:
        if row[folding] or not column.spans:
            yield from (["" if at != folding else line for at in range(len(row))] for line in waiting)
            waiting = fold(row[folding], room)
        yield [text if at != folding else waiting.pop(0) if waiting else "" for at, text in enumerate(row)]
    yield from (["" if at != folding else line for at in range(len(rows[0]))] for line in waiting)


def render(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int, title: str = "") -> str:
    """The table as lines of at most `width` characters, under its title."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = fitting(columns, rows, width)
    folding = next((index for index in shown if columns[index].folds), None)
    if folding is not None:
        others = sum(_widest(columns, rows, index) + GAP for index in shown if index != folding)
        rows = list(_lines(columns[folding], folding, rows, max(width - others, SMALLEST_FOLD)))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index in shown:
        column = columns[index]
        table.add_column(column.title, justify="right" if column.right else "left", overflow="crop", no_wrap=True)
    for row in rows:
        # Text, not markup: brackets are part of names here.
        table.add_row(*(Text(row[index]) for index in shown))
    text = io.StringIO()
    needed = max(width, sum(_widest(columns, rows, index) + GAP for index in shown))
    Console(file=text, width=needed, color_system=None, force_terminal=False, legacy_windows=False).print(table)
    heading = fold(title, width) if title else []
    return "\n".join([*heading, *(line.rstrip() for line in text.getvalue().splitlines())])
