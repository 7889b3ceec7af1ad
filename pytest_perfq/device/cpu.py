"""The CPU and the memory that this process may use, and which cores it is held to. Reads /proc and /sys; every reader takes the
root folder, for tests.

Knows no GPU and no framework.
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from pathlib import Path

GIB = 1024**3
# Instruction sets that decide which kernels a library picks, strongest first; the first found names the CPU's class.
ISA = (
    "amx_int8",
    "avx512_bf16",
    "avx512_vnni",
    "avx512f",
    "avx_vnni",
    "avx2",
    "avx",
    "sve2",
    "sve",
    "i8mm",
    "asimddp",
    "asimd",
)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def cpuinfo(root: Path = Path("/")) -> dict[str, str]:
    """Fields of the first CPU in /proc/cpuinfo; empty where there is none."""
    fields: dict[str, str] = {}
    for line in (_text(root / "proc/cpuinfo") or "").splitlines():
        name, separator, value = line.partition(":")
        if not separator:
            if fields:
                break
            continue
        fields[name.strip()] = value.strip()
    return fields


def cpu_model(root: Path = Path("/")) -> str:
    """What the CPU calls itself: a marketing name on x86, implementer and part on Arm."""
    fields = cpuinfo(root)
    if "model name" in fields:
        return fields["model name"]
    if "CPU part" in fields:
        return f"Arm {fields.get('CPU implementer', '?')} {fields['CPU part']}"
    return platform.processor() or platform.machine()


def cpu_isa(root: Path = Path("/")) -> str:
    """The strongest instruction set of ISA that the CPU has, or 'base'."""
    fields = cpuinfo(root)
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    return next((name for name in ISA if name in flags), "base")


def affinity() -> set[int]:
    """Logical CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def by_core(cpus: Iterable[int], root: Path = Path("/")) -> list[list[int]]:
    """These logical CPUs, the hyperthreads of one core together; lowest first."""
    cores: dict[object, list[int]] = {}
    for cpu in sorted(cpus):
        topology = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        package, die, core = (_text(topology / name) for name in ("physical_package_id", "die_id", "core_id"))
        cores.setdefault((package, die, core) if core is not None else cpu, []).append(cpu)
    return list(cores.values())


def physical_cores(cpus: Iterable[int], root: Path = Path("/")) -> int:
    """Cores behind these logical CPUs; hyperthreads of one core count once."""
    return len(by_core(cpus, root))


def cores_for(threads: int, turn: int, root: Path = Path("/")) -> list[int]:
    """Where a program of so many threads is held while it is timed: one logical CPU of as many cores, the first for its main
    thread, which is another one each turn. Empty where there are fewer cores than threads, or where the system holds no
    process to a core."""
    cores = by_core(affinity(), root)
    if threads > len(cores) or not hasattr(os, "sched_setaffinity"):
        return []
    return [cores[(turn + number) % len(cores)][0] for number in range(threads)]


def hold(cpus: Collection[int]) -> None:
    """Moves this process to these logical CPUs, with the threads that it has: what a build started must not stay behind."""
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):  # one that ended meanwhile
            os.sched_setaffinity(int(thread), cpus)


def lead(cpus: Sequence[int]) -> None:
    """Gives the calling thread the first of these logical CPUs and the process's other threads the rest, so that what one
    thread does alone meets one core. For pools that are there: a thread started afterwards inherits that core."""
    hold(cpus[1:] or cpus)
    os.sched_setaffinity(0, cpus[:1])


def _limits(root: Path, name: str) -> list[str]:
    """The texts of a control file in this process's cgroup and all above it (version 2), then at version 1's root."""
    own = next((line[3:] for line in (_text(root / "proc/self/cgroup") or "").splitlines() if line.startswith("0::")), "/")
    mount = root / "sys/fs/cgroup"
    folder = mount / own.lstrip("/")
    folders = [folder, *(parent for parent in folder.parents if mount in (parent, *parent.parents))]
    return [text for text in (_text(one / name) for one in folders) if text]


def cpu_quota(root: Path = Path("/")) -> float | None:
    """CPUs' worth of time that cgroups allow this process, or None without a limit."""
    quotas = []
    for text in _limits(root, "cpu.max"):
        quota, _, period = text.partition(" ")
        if quota != "max":
            quotas.append(int(quota) / int(period or 100_000))
    old = root / "sys/fs/cgroup/cpu"
    quota_us, period_us = _text(old / "cpu.cfs_quota_us"), _text(old / "cpu.cfs_period_us")
    if quota_us and period_us and int(quota_us) > 0:
        quotas.append(int(quota_us) / int(period_us))
    return min(quotas) if quotas else None


def memory_bytes(root: Path = Path("/")) -> int:
    """Memory of the machine, or less where a cgroup allows less."""
    sizes = [int(text) for text in _limits(root, "memory.max") if text != "max"]
    old = _text(root / "sys/fs/cgroup/memory/memory.limit_in_bytes")
    sizes += [int(old)] if old else []
    for line in (_text(root / "proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            sizes.append(int(line.split()[1]) * 1024)
    if not sizes:
        import psutil

        sizes.append(int(psutil.virtual_memory().total))
    return min(sizes)


@cache
def available_threads() -> int:
    """Threads that can compute at full speed at once: physical cores in the affinity mask, at most the cgroup's quota."""
    cores, quota = physical_cores(affinity()), cpu_quota()
    return max(1, cores if quota is None else min(cores, int(quota)))


def frequency_mhz(root: Path = Path("/")) -> float | None:
    """Mean clock of all CPUs right now; jitters, so it is never part of an identity."""
    lines = (_text(root / "proc/cpuinfo") or "").splitlines()
    clocks = [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
    return round(sum(clocks) / len(clocks), 1) if clocks else None
