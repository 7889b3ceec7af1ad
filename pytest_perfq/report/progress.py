"""Progress a person reads: a line that rewrites itself on a terminal, now and then a plain line anywhere else.

Knows no pytest: it is given a function that writes past the capture, and is told what happens.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable

# Plain logs get a line at most this often: enough to see life in CI, too few to bury the results.
PLAIN_EVERY_S = 20.0
CLEAR = "\r\x1b[2K"


def duration(seconds: float) -> str:
    """12 -> '12s', 150 -> '2m30s', 7300 -> '2h01m'."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


class Progress:
    """Of `total` cases: which is being measured, how many are done, how long the rest will take."""

    def __init__(
        self, total: int, write: Callable[[str], None], live: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total, self.write, self.live, self.clock = total, write, live, clock
        self.done = 0
        self._case = ""
        self._started = self._said = clock()

    def starting(self, case_id: str) -> None:
        """A case begins."""
        self._case = case_id
        self._say("")

    def step(self, what: str) -> None:
        """Something long inside the case, such as 'visit 2/3' or 'training synthetic:bert'."""
        self._say(what)

    def finished(self) -> None:
        """A case has ended."""
        self.done += 1
        if self.live:
            self.write(CLEAR)

    def close(self) -> None:
        """Leaves the terminal clean."""
        if self.live:
            self.write(CLEAR)

    def line(self, what: str) -> str:
        """The line as it stands, such as 'perfq 4/24 squad/bert/ort@cpu/fp32/b1/s32 visit 2/3, 1m10s left'."""
        elapsed = self.clock() - self._started
        left = f", {duration(elapsed / self.done * (self.total - self.done))} left" if self.done else ""
        return f"perfq {self.done + 1}/{self.total} {self._case}{' ' + what if what else ''}{left}"

    def _say(self, what: str) -> None:
        if self.live:
            columns = shutil.get_terminal_size().columns
            self.write(CLEAR + self.line(what)[: columns - 1])
        elif self.clock() - self._said >= PLAIN_EVERY_S:
            self._said = self.clock()
            self.write(f"\n{self.line(what)}\n")
