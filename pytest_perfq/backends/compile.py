"""The model compiled by torch.compile with Inductor. Option: mode (default, reduce-overhead, max-autotune,
max-autotune-no-cudagraphs).

Shapes are dynamic: one graph serves every batch over 1 and every length over 1, a second one batch 1 (a size of 1 is always
compiled for itself). Both are compiled and checked while the program is built, so warm-ups need not; facts say how many
graphs there were and how long they took. The whole model must be one graph: what cannot be compiled, or would be compiled
over and over, is an error and never runs eagerly instead.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch

from pytest_perfq.backends import _check, _declared, _torch
from pytest_perfq.contracts import Batch, Lack, Model, Resources
from pytest_perfq.core.case import Case
from pytest_perfq.errors import BuildError, PerfqError

# What Inductor's kernels need at least: a shared library, the C++ standard headers and OpenMP.
PROBE = (
    '#include <cmath>\n#include <omp.h>\nextern "C" double probe(double x) { return std::exp(x) * omp_get_max_threads(); }\n'
)
PROBE_TIMEOUT_S = 60
# Modes that replay CUDA graphs, and what each is without them.
GRAPH_MODES = {"reduce-overhead": "default", "max-autotune": "max-autotune-no-cudagraphs"}


class Compile:
    name = "compile"

    def refuses(self, case: Case) -> list[str]:
        _declared.options(case.backend)
        return _torch.refusals(case) + _compiler(case.device)

    def build(
        self, case: Case, model: Model, resources: Resources, calibration: Callable[[], Iterator[Batch]]
    ) -> _torch.TorchProgram:
        mode = str(_declared.options(case.backend)["mode"])
        module, device = _torch.place(model, case, resources)
        before, skipped, started = _graphs(), _left_out(), time.perf_counter_ns()
        compiled = torch.compile(module, mode=mode, dynamic=True, fullgraph=True)
        program = _torch.TorchProgram(compiled, module, device, model, case)
        try:
            advice = "report it to PyTorch, or use backend torchscript"
            gap = _check.faithful(model, program.predict, case.precision, "the compiled graph", advice)
        except PerfqError:
            raise
        except Exception as error:  # Dynamo's and Inductor's errors have no common type of their own
            line = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise BuildError(f"{model.source} cannot be compiled: {line}; use backend torchscript or eager") from error
        if device.type == "cuda" and mode in GRAPH_MODES and (left_out := _left_out() - skipped):
            raise BuildError(
                f"mode {mode} of backend compile promises CUDA graphs, and Inductor recorded none of {left_out} graphs; "
                f"use mode {GRAPH_MODES[mode]}, which promises none"
            )
        program.facts |= {
            "mode": mode,
            "compiled_graphs": _graphs() - before,
            "compile_ns": time.perf_counter_ns() - started,
            "compile_max_abs_difference": gap,
        }
        return program


def _graphs() -> int:
    """Graphs that Dynamo has captured in this process."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def _left_out() -> int:
    """Graphs that Inductor compiled in this process without a CUDA graph, though it was to record one."""
    return int(torch._dynamo.utils.counters["inductor"]["cudagraph_skips"])


def _compiler(device: str) -> list[str]:
    """Why Inductor cannot make kernels for `device`."""
    if device == "cuda" and find_spec("triton") is None:
        return [Lack("torch.compile on cuda needs triton, which is not installed: install triton or use backend torchscript")]
    # Inductor's own rule: CXX, else the platform's usual compiler.
    name = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    fault = _fault(name, os.environ.get("PATH", ""))
    if fault is None:
        return []
    return [Lack(f"torch.compile needs a C++ compiler: {fault}; install g++, set CXX, or use backend torchscript")]


@cache
def _fault(compiler: str, path: str) -> str | None:
    """What goes wrong when `compiler` builds a shared library with OpenMP, or None. path: of its look-up; part of the key."""
    program = shutil.which(compiler, path=path)
    if program is None:
        return f"{compiler} is not on the PATH"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.cpp")
        source.write_text(PROBE, encoding="ascii")
        command = [program, "-shared", "-fPIC", "-fopenmp", str(source), "-o", str(source.with_suffix(".so"))]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{program} does not run ({type(error).__name__})"
    if done.returncode == 0:
        return None
    return f"{program} fails ({(done.stderr.strip() or f'status {done.returncode}').splitlines()[0]})"


BACKEND = Compile()
