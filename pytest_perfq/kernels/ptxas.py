"""What ptxas -v says of each kernel on each architecture: registers, shared memory, spills. Knows no build and no source."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

ENTRY = re.compile(r"Compiling entry function '(\S+)' for 'sm_(\d+)a?'")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")


@dataclass(frozen=True, slots=True)
class Usage:
    """One kernel on one architecture. shared_bytes: static shared memory, what a launch asks for not counted. Spills: bytes
    that a thread stores to and loads from local memory because it has no registers left."""

    kernel: str
    architecture: int
    registers: int
    shared_bytes: int
    spill_stores_bytes: int
    spill_loads_bytes: int

    @property
    def spills(self) -> bool:
        return bool(self.spill_stores_bytes or self.spill_loads_bytes)


def usages(lines: Iterable[str]) -> list[Usage]:
    """Every kernel that ptxas tells of, in its order. The spills of functions that it calls count as its own. Raises ValueError
    where a kernel is begun and its registers or its spills are not told."""
    parts: list[list[str]] = []
    for line in lines:
        if ENTRY.search(line):
            parts.append([])
        if parts:
            parts[-1].append(line)
    return [_usage(part) for part in parts]


def _usage(part: list[str]) -> Usage:
    begun = ENTRY.search(part[0])
    spilled = [found for line in part if (found := SPILLS.search(line))]
    used = [(found, line) for line in part if (found := USED.search(line))]
    if begun is None or not spilled or not used:
        raise ValueError(
            f"ptxas does not tell the registers and spills of a kernel; it says {part[0]!r} and {len(part) - 1} lines"
        )
    registers, line = used[0]
    shared = SHARED.search(line)
    stores, loads = (sum(int(found[which]) for found in spilled) for which in (2, 3))
    return Usage(begun[1], int(begun[2]), int(registers[1]), int(shared[1]) if shared else 0, stores, loads)


def readable(names: list[str]) -> list[str]:
    """Mangled names as a person writes them, without parameters, by c++filt; where it is not installed, as they are."""
    if not names or shutil.which("c++filt") is None:
        return names
    done = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True)
    return [_short(line) for line in done.stdout.splitlines()]


def _short(name: str) -> str:
    name = name.replace("(anonymous namespace)::", "").replace("perfq::cuda::", "").removeprefix("void ")
    depth = 0
    for at, letter in enumerate(name):
        depth += (letter == "<") - (letter == ">")
        if letter == "(" and not depth:
            return name[:at]
    return name


def table(found: Iterable[Usage]) -> list[str]:
    """A line a kernel: registers on each architecture, the most static shared memory, and its spills (or none)."""
    kernels: dict[str, list[Usage]] = {}
    for usage in found:
        kernels.setdefault(usage.kernel, []).append(usage)
    lines = []
    for name, each in zip(readable(list(kernels)), kernels.values(), strict=True):
        registers = ", ".join(f"{one.registers} on sm_{one.architecture}" for one in each)
        shared, spilled = max(one.shared_bytes for one in each), sum(one.spills for one in each)
        spills = f"spills on {spilled} architectures" if spilled else "no spills"
        lines.append(f"{name}: registers {registers}; {shared} bytes of static shared memory; {spills}")
    return lines
