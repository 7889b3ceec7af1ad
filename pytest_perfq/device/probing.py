"""The process that reads the machine beside a visit, and ends with its parent.

What it is told, and what it answers, one line of JSON each:

    {"do": "begin", "pid": 4711, "threads": 2, "cuda": false}    ->  {"readings": 1}
    {"do": "end"}                                                ->  {"readings": [...]}

Between visits it sleeps. Imports only what loads at once: it is started without site-packages, and a GPU's library is loaded
with the first visit on cuda.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from typing import TYPE_CHECKING, Any

from pytest_perfq.device import proc

if TYPE_CHECKING:
    from pytest_perfq.core.readings import Reading
    from pytest_perfq.device.nvml import NvmlProbe

# Between two readings. What matters on a CPU is counted by the system from the first reading to the last; a GPU's clocks are
# only known where somebody looks.
CPU_EVERY_S, GPU_EVERY_S = 0.25, 0.1
# A visit of hours keeps so many, further and further apart.
MOST_READINGS = 2000
# How often an idle process looks whether its parent still lives: a pipe that a forked child of the parent holds too stays open.
ORPHAN_EVERY_S = 2.0
# Both clocks are read again until they are read within this time, lest a pause between the two looks like a step.
CLOCKS_S, CLOCK_TRIES = 0.001, 20


class Watcher:
    """Reads the machine while a visit goes on."""

    def __init__(self) -> None:
        self.watching = False
        self._readings: list[Reading] = []
        self._cpu: proc.ProcProbe | None = None
        self._nvml: NvmlProbe | None = None
        self._gpu: NvmlProbe | None = None
        self._missing: list[str] = []
        self.every_s = CPU_EVERY_S

    def begin(self, pid: int, threads: int, cuda: bool) -> int:
        """A visit of process `pid` begins."""
        self._cpu = proc.ProcProbe(pid, threads)
        self._missing, self._gpu = self._cpu.missing(), None
        if cuda:
            self._open(pid)
        self.every_s = CPU_EVERY_S if self._gpu is None else GPU_EVERY_S
        self._readings, self.watching = [self._read(edge=True)], True
        return len(self._readings)

    def _open(self, pid: int) -> None:
        if self._nvml is None:
            from pytest_perfq.device import nvml

            self._nvml, missing = nvml.opened(pid)
            self._missing += missing
        if self._nvml is not None:
            self._nvml.begin(pid)
        self._gpu = self._nvml

    def tick(self) -> None:
        """One more reading in the middle of a visit."""
        self._readings.append(self._read(edge=False))
        if len(self._readings) >= MOST_READINGS:
            self._readings = [self._readings[0], *self._readings[1::2]]
            self.every_s *= 2

    def end(self) -> list[Reading]:
        """The visit has ended: all of its readings."""
        readings = [*self._readings, self._read(edge=True)]
        self._readings, self.watching = [], False
        return readings

    def _read(self, edge: bool) -> Reading:
        assert self._cpu is not None
        found: Reading = clocks()
        found["cpu"] = self._cpu.read(edge)
        missing = list(self._missing)
        if self._gpu is not None:
            found["gpu"] = self._gpu.read(edge)
            missing += self._gpu.missing()
        if missing:
            found["missing"] = missing
        return found


def clocks() -> Reading:
    """Both clocks at one moment, seconds."""
    for _ in range(CLOCK_TRIES):
        before, wall, after = time.monotonic(), time.time(), time.monotonic()
        if after - before < CLOCKS_S:
            break
    return {"monotonic_s": (before + after) / 2, "wall_s": wall}


def _answer(watcher: Watcher, line: bytes) -> dict[str, Any]:
    order = json.loads(line)
    if order.pop("do") == "end":
        return {"readings": watcher.end()}
    return {"readings": watcher.begin(**order)}


def main() -> None:
    """Serves until the pipe closes or the parent has ended."""
    parent = os.getppid()
    # What is timed comes first wherever the two meet.
    os.nice(19)
    watcher, pending = Watcher(), b""
    while os.getppid() == parent:
        ready, _, _ = select.select([0], [], [], watcher.every_s if watcher.watching else ORPHAN_EVERY_S)
        if not ready:
            if watcher.watching:
                watcher.tick()
            continue
        data = os.read(0, 65536)
        if not data:
            return
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            sys.stdout.write(json.dumps(_answer(watcher, line)) + "\n")
            sys.stdout.flush()
