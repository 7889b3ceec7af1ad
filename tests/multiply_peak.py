"""What the AVX2 multipliers of this core give at this moment: the ceiling of an INT8 product, timed right beside it.

A core of a virtual machine is often one of two threads of a real one, and the neighbour comes and goes within seconds; a share
of what the core would give alone then tells of the neighbour.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from pytest_perfq.kernels.toolchain import compiler

PAIRS = 5
# Of a measurement: about half a millisecond.
TURNS = 320_000
# vpmaddubsw and vpmaddwd multiply for the same ports at the same rate; here nothing depends on anything.
PAIR = '    "vpmaddubsw %%ymm14, %%ymm15, %%ymm{0}\\n\\tvpmaddwd %%ymm14, %%ymm15, %%ymm{1}\\n\\t"\n'
SOURCE = f"""
extern "C" void turns(long n) {{
  asm volatile("1:\\n\\t"
{"".join(PAIR.format(2 * at, 2 * at + 1) for at in range(PAIRS))}    "dec %0\\n\\tjnz 1b"
    : "+r"(n) : : "cc", {", ".join(f'"xmm{at}"' for at in range(2 * PAIRS))});
}}
"""


class MultiplyPeak:
    """clock: seconds. Raises KernelsUnavailable without a compiler, OSError or CalledProcessError where it makes no AVX2."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        with tempfile.TemporaryDirectory() as folder:
            source, library = Path(folder) / "turns.cpp", Path(folder) / "turns.so"
            source.write_text(SOURCE)
            subprocess.run([*compiler(), "-O1", "-mavx2", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
            self._turns = ctypes.CDLL(str(library)).turns
        self._turns.argtypes, self._turns.restype = [ctypes.c_long], None

    def gops(self) -> float:
        """Billions of operations a second of INT8 products, at three multiplies for 64 products, that is 128 operations."""
        start = self._clock()
        self._turns(TURNS)
        return 2 * PAIRS * TURNS / (self._clock() - start) / 3 * 128e-9
