"""A table of texts, fitted to a width: columns nobody filled are left out, then those that matter least, then text folds.

Knows no measurement. Rendered to a string without colours, so that pytest, a file and a pipe print the same.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

# Blanks between two columns.
GAP = 3
# Narrower than this a folding column is no use to anyone.
LEAST_FOLD = 32


@dataclass(frozen=True, slots=True)
class Column:
    """title: of the column. right: numbers stand at the right. spare: left out when there is no room, the largest first;
    0 stays. folds: takes the room that is left and breaks its text."""

    title: str
    right: bool = True
    spare: int = 0
    folds: bool = False


def _needed(columns: Sequence[Column], rows: Sequence[Sequence[str]], index: int) -> int:
    widest = max([len(columns[index].title), *(len(row[index]) for row in rows)])
    return min(widest, LEAST_FOLD) if columns[index].folds else widest


def fitting(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """Indices of the columns to show."""
    shown = [index for index in range(len(columns)) if any(row[index] for row in rows)]
    while sum(_needed(columns, rows, index) + GAP for index in shown) > width:
        spare = max(shown, key=lambda index: columns[index].spare, default=None)
        if spare is None or not columns[spare].spare:
            break
        shown.remove(spare)
    return shown


def render(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int, title: str = "") -> str:
    """The table as lines of at most `width` characters."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD, title=title or None, title_justify="left", title_style="", pad_edge=False, show_edge=False
    )
    shown = fitting(columns, rows, width)
    for index in shown:
        column = columns[index]
        table.add_column(column.title, justify="right" if column.right else "left", overflow="fold", no_wrap=not column.folds)
    for row in rows:
        # Text, not markup: brackets are part of names here.
        table.add_row(*(Text(row[index]) for index in shown))
    text = io.StringIO()
    Console(file=text, width=width, color_system=None, force_terminal=False, legacy_windows=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
