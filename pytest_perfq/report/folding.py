"""Breaking texts that are longer than a line: names at their joints, sentences at blanks. Knows no table.

    squad/bert/ort@cpu/int8-static[MatMul]-x[gather,gelu]/b8/s128
          1st     1st                    2nd            1st

A name is broken at a slash or a blank where what follows then fits a line, else at a comma or a bracket, else at a hyphen.
"""

from __future__ import annotations

import itertools
import re
import textwrap

# The second line of a name stands in a little, so that it cannot be read as a name of its own.
INDENT = "  "
# Where a name may be broken, the best first: each match ends where the next line begins.
JOINTS = (re.compile(r"[/ ]"), re.compile(r",|\](?!/)"), re.compile(r"[-_.]"))


def _cut(text: str, room: int, next_room: int) -> int:
    """How much of a text that is longer than the room goes on this line."""
    found = [[match.end() for match in joint.finditer(text)] for joint in JOINTS]
    # A blank at the end of a line takes no room.
    fitting = [[end for end in ends if len(text[:end].rstrip()) <= room] for ends in found]
    if fitting[0]:
        start = fitting[0][-1]
        stop = next((end for end in found[0] if end > start), len(text))
        if len(text[start:stop].rstrip()) <= next_room:
            return start
    return max(itertools.chain(fitting[0], fitting[1]), default=0) or max(fitting[2], default=0) or room


def fold(name: str, room: int) -> list[str]:
    """The lines of a name, each of at most `room` characters (at least 4)."""
    lines, rest, indent = [], name, ""
    while len(indent) + len(rest) > room:
        cut = _cut(rest, room - len(indent), room - len(INDENT))
        lines.append(indent + rest[:cut].rstrip())
        rest, indent = rest[cut:].lstrip(), INDENT
    return [*lines, indent + rest]


def wrap(sentence: str, width: int, indent: str | None = None) -> list[str]:
    """The lines of a sentence, broken at blanks alone, the later ones set in: ids and paths in it can still be copied, and
    one that is longer than a line stands alone on it. indent: of the later lines, a little more than the first by default."""
    if indent is None:
        indent = sentence[: len(sentence) - len(sentence.lstrip())] + INDENT
    return textwrap.wrap(sentence, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False) or [""]
