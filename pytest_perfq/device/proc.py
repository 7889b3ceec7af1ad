"""Readings of the CPUs from /proc and /sys, as core.readings describes them. Every file is below a root folder, for tests.

Runs inside the sampler's process: imports nothing that takes time to load, and knows no GPU.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_perfq.core.readings import Reading

# Units of CPU time in /proc: always 100 a second, whatever the kernel's own tick.
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# Reading a clock may interrupt the CPU that it is of.
CLOCKS_EVERY_S = 1.0
# Enough to tell how the clocks are, on a machine with hundreds.
MOST_CLOCKS = 16
SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _names(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []


class ProcProbe:
    """Reads the CPUs that process `pid` may run on; it and its children are the visit's own. threads: of them that compute at
    once, which the readings only pass on."""

    def __init__(self, pid: int, threads: int, root: str = "/") -> None:
        self._pid, self._threads, self._root = pid, threads, root.rstrip("/")
        self._cpus = sorted(self._allowed())
        every = -(-len(self._cpus) // MOST_CLOCKS)
        self._clocks = self._cpus[::every]
        self._sensors = [*self._temperatures()]
        self._groups = [*self._control_files()]
        self._next_clocks_s = 0.0

    def read(self, edge: bool) -> Reading:
        """One reading, with the counters where it is an `edge`: the first or the last of a visit."""
        found: Reading = {"cpus": len(self._cpus), "threads": self._threads, "load_1min": self._load()}
        now_s = time.monotonic()
        # The edges are for short visits: between them nobody else's rest is mistaken for a low clock.
        if edge or now_s >= self._next_clocks_s:
            found |= self._mhz()
            self._next_clocks_s = 0.0 if edge else now_s + CLOCKS_EVERY_S
        degrees = [int(text) / 1000.0 for text in map(_text, self._sensors) if text.strip().lstrip("-").isdigit()]
        found["temperature_c"] = max(degrees, default=None)
        if edge:
            found |= self._used() | self._throttled() | {"own_s": self._own_s(), "pressure_s": self._pressure_s()}
        return found

    def missing(self) -> list[str]:
        """What this system does not tell, one sentence."""
        if _text(f"{self._root}/proc/stat"):
            return []
        return ["this system has no /proc/stat: steal and what other processes take of the CPUs cannot be sampled"]

    def _allowed(self) -> Iterable[int]:
        try:
            return os.sched_getaffinity(self._pid)
        except (AttributeError, OSError):  # no such call on this system, or no such process any more
            return range(os.cpu_count() or 1)

    @staticmethod
    def _load() -> float | None:
        return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None

    def _mhz(self) -> Reading:
        folder = f"{self._root}/sys/devices/system/cpu"
        texts = [_text(f"{folder}/cpu{cpu}/cpufreq/scaling_cur_freq").strip() for cpu in self._clocks]
        if texts and all(text.isdigit() for text in texts):
            return {"mhz": [int(text) / 1000.0 for text in texts], "mhz_source": "cpufreq"}
        clocks, number = {}, -1
        for line in _text(f"{self._root}/proc/cpuinfo").splitlines():
            if line.startswith("processor"):
                number = int(line.partition(":")[2])
            elif line.startswith("cpu MHz"):
                clocks[number] = float(line.partition(":")[2])
        mhz = [clocks[cpu] for cpu in self._clocks if cpu in clocks]
        return {"mhz": mhz, "mhz_source": "cpuinfo"} if mhz else {}

    def _used(self) -> Reading:
        """CPU time of these CPUs by everybody, and what a hypervisor kept of it, seconds. Fields: proc(5)."""
        busy = steal = 0
        known = False
        wanted = {f"cpu{cpu}" for cpu in self._cpus}
        for line in _text(f"{self._root}/proc/stat").splitlines():
            name, *values = line.split()
            if name in wanted and len(values) >= 8:
                user, nice, system, _idle, _iowait, irq, softirq, stolen = map(int, values[:8])
                busy += user + nice + system + irq + softirq
                steal += stolen
                known = True
        return {"busy_s": busy / TICKS_PER_S, "steal_s": steal / TICKS_PER_S} if known else {}

    def _own_s(self) -> float | None:
        """CPU time of the process and all below it, seconds. A child that ended is counted by its parent, which waited for
        it, and one that lives by itself: nothing is counted twice."""
        known = processes(self._root)
        return sum(known[pid][1] for pid in below(self._pid, known)) / TICKS_PER_S if self._pid in known else None

    def _pressure_s(self) -> float | None:
        for line in _text(f"{self._root}/proc/pressure/cpu").splitlines():
            if line.startswith("some") and "total=" in line:
                return int(line.rpartition("total=")[2]) / 1e6
        return None

    def _temperatures(self) -> Iterator[str]:
        folder = f"{self._root}/sys/class/hwmon"
        for name in _names(folder):
            if _text(f"{folder}/{name}/name").strip() in SENSORS:
                files = _names(f"{folder}/{name}")
                yield from (f"{folder}/{name}/{file}" for file in files if file.startswith("temp") and file.endswith("_input"))

    def _control_files(self) -> Iterator[str]:
        """cpu.stat of the process's cgroup and of all above it, of version 2 and of version 1."""
        mount = f"{self._root}/sys/fs/cgroup"
        for line in _text(f"{self._root}/proc/{self._pid}/cgroup").splitlines():
            _, controllers, group = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            for top in (f"{mount}/cpu",) if controllers else (mount, f"{mount}/unified"):
                folder = f"{top}{group.rstrip('/')}"
                while folder.startswith(top):
                    if "nr_throttled" in _text(f"{folder}/cpu.stat"):
                        yield f"{folder}/cpu.stat"
                    folder = folder.rpartition("/")[0]

    def _throttled(self) -> Reading:
        if not self._groups:
            return {}
        times, seconds = 0, 0.0
        for path in self._groups:
            values = dict(line.split() for line in _text(path).splitlines() if len(line.split()) == 2)
            times += int(values.get("nr_throttled", 0))
            seconds += int(values.get("throttled_usec", 0)) / 1e6 + int(values.get("throttled_time", 0)) / 1e9
        return {"throttled": times, "throttled_s": seconds}


def processes(root: str = "") -> dict[int, tuple[int, int]]:
    """Process -> its parent, and its CPU time with that of the children it waited for, in ticks. Source: proc(5)."""
    found = {}
    for name in _names(f"{root}/proc"):
        if name.isdigit():
            fields = _text(f"{root}/proc/{name}/stat").rpartition(")")[2].split()
            if len(fields) > 14:
                found[int(name)] = int(fields[1]), sum(map(int, fields[11:15]))
    return found


def below(pid: int, known: dict[int, tuple[int, int]]) -> set[int]:
    """The process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for child, (parent, _) in known.items():
        children.setdefault(parent, []).append(child)
    found, waiting = set(), [pid]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += children.get(one, [])
    return found
