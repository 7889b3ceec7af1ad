"""The fingerprint of a measurement: three tiers, read from the CPU, the GPU, the installed packages and git.

Identity and stack are read once a process; volatile readings are fresh. Clocks are volatile: they jitter, and a jittering
key splits a history.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from functools import cache
from importlib import metadata
from typing import Any

from pytest_perfq import __version__
from pytest_perfq.core.fingerprint import Fact, Fingerprint
from pytest_perfq.device import cpu, gpu
from pytest_perfq.kernels import isas

# Distributions whose version changes what is measured; onnxruntime has two names.
PACKAGES = ("torch", "transformers", "onnxruntime", "onnxruntime-gpu", "onnx", "numpy", "optimum", "tokenizers", "triton")


def fingerprint(device: str, threads: int, library: Any | None = None, *, l2: str = "warm") -> Fingerprint:
    """What a measurement on 'cpu' or 'cuda' with `threads` was made on. library: stands for pynvml in tests. l2: whether the L2
    of a GPU was 'warm' or 'cold' when a call began; part of the identity, so that one is never held against the other."""
    identity, stack, volatile = dict(_identity(threads)), dict(_stack()) | _isas(), _volatile()
    if device == "cuda":
        identity |= {**gpu.identity(library), "gpu_l2": l2}
        stack["driver"] = gpu.driver(library)
        volatile |= gpu.volatile(library)
    return Fingerprint(identity, stack, volatile)


@cache
def _identity(threads: int) -> dict[str, Fact]:
    cpus = cpu.affinity()
    return {
        "cpu": cpu.cpu_model(),
        "cpu_isa": cpu.cpu_isa(),
        "architecture": platform.machine(),
        "physical_cores": cpu.physical_cores(cpus),
        "logical_cpus": len(cpus),
        "cpu_quota": cpu.cpu_quota(),
        "threads": threads,
        "memory_gib": round(cpu.memory_bytes() / cpu.GIB),
    }


@cache
def _stack() -> dict[str, Fact]:
    facts: dict[str, Fact] = {"python": platform.python_version(), "pytest_perfq": __version__}
    for name in PACKAGES:
        try:
            facts[name.replace("-", "_")] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    facts["os"] = f"{platform.system()} {platform.release()}"
    return facts | torch_facts() | git_facts()


def _isas() -> dict[str, Fact]:
    """The native kernels' set of instructions, where a variable holds them back from this processor's best: a case named
    `native` is another program then. Else nothing, since the processor itself stands in the identity."""
    best = isas.held_back()
    return {} if best is None else {"native_isa": f"{best}, by {isas.CHOICE}"}


def torch_facts() -> dict[str, Fact]:
    """CUDA, cuDNN and BLAS of the installed PyTorch; empty without one."""
    try:
        import torch
    except ImportError:
        return {}
    text = torch.__config__.show()
    blas = re.search(r"BLAS_INFO=(\w+)", text)
    mkl = re.search(r"Math Kernel Library Version (\S+)", text)
    name = f"{blas[1] if blas else 'unknown'}{f' {mkl[1]}' if mkl else ''}"
    facts: dict[str, Fact] = {"blas": name, "cuda": torch.version.cuda}
    if torch.version.cuda is not None:
        facts["cudnn"] = torch.backends.cudnn.version()
    return facts


def git_facts(folder: str | None = None) -> dict[str, Fact]:
    """Revision of the repository around `folder` (default: the working directory) and whether it has uncommitted changes;
    empty outside of one."""

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(("git", *words), cwd=folder, capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    revision = git("rev-parse", "HEAD")
    if revision is None:
        return {}
    changes = git("status", "--porcelain", "--untracked-files=no")
    return {"revision": revision, "dirty": None if changes is None else bool(changes)}


def _volatile() -> dict[str, Fact]:
    import psutil

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "hostname": platform.node(),
        "load_1min": None if load is None else round(load, 2),
        "cpu_mhz": cpu.frequency_mhz(),
        "memory_available_bytes": int(psutil.virtual_memory().available),
        "cpu_temperature_c": _temperature(),
    }


def _temperature() -> float | None:
    """The hottest CPU sensor in degrees Celsius, or None where the system shows none."""
    import psutil

    read = getattr(psutil, "sensors_temperatures", None)
    sensors = read() if read else {}
    cores = [one.current for name in ("coretemp", "k10temp", "zenpower") for one in sensors.get(name, ())]
    return max(cores) if cores else None
