"""Progress of a run of trials: pass, stage, suspects, how long it will take. Knows no worker: it is told where things stand."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import Protocol

from pytest_perfq.report.progress import CLEAR, PLAIN_EVERY_S, duration


class Standing(Protocol):
    """See pytest_perfq.trials.passes.Moment."""

    @property
    def stage(self) -> str: ...
    @property
    def number(self) -> int: ...
    @property
    def done(self) -> int: ...
    @property
    def total(self) -> int: ...
    @property
    def suspects(self) -> int: ...
    @property
    def case(self) -> str: ...
    @property
    def left_s(self) -> float | None: ...


class Passing:
    """A line that rewrites itself on a terminal, now and then a plain line anywhere else."""

    def __init__(self, write: Callable[[str], None], live: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self.write, self.live, self.clock = write, live, clock
        self._said = -PLAIN_EVERY_S

    def watch(self, moment: Standing) -> None:
        """A case begins."""
        if self.live:
            self.write(CLEAR + line(moment)[: shutil.get_terminal_size().columns - 1])
        elif self.clock() - self._said >= PLAIN_EVERY_S:
            self._said = self.clock()
            self.write(f"{line(moment)}\n")

    def say(self, sentence: str) -> None:
        """A sentence that stays."""
        self.write(f"{CLEAR if self.live else ''}perfq: {sentence}\n")

    def close(self) -> None:
        """Leaves the terminal clean."""
        if self.live:
            self.write(CLEAR)


def line(moment: Standing) -> str:
    """Such as 'perfq pass 2, screen, case 4 of 38, 1m10s left: squad/bert/ort@cpu/fp32/b1/s32'."""
    told = [f"pass {moment.number}"] if moment.number else []
    told += [moment.stage, f"case {moment.done + 1} of {moment.total}"]
    if moment.suspects:
        told.append(f"{moment.suspects} {'suspect' if moment.suspects == 1 else 'suspects'}")
    if moment.left_s is not None:
        told.append(f"{duration(moment.left_s)} left")
    return f"perfq {', '.join(told)}: {moment.case}"
