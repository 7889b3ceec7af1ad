"""What the CUDA half is compiled with: nvcc and the host compiler that it drives, or the one sentence that says what is
missing. Knows no source and no flag, and imports no torch."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pytest_perfq.errors import KernelsUnavailable
from pytest_perfq.kernels.toolchain import compiler, compiler_version, torch_package

DEFAULT_HOME = Path("/usr/local/cuda")
TORCH_CUDA = re.compile(r"^cuda\b[^=]*=\s*'([^']+)'", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Toolkit:
    """nvcc: its file; version: what it says of itself. host: the C++ compiler's command, with host_version."""

    nvcc: str
    version: str
    host: tuple[str, ...]
    host_version: str


def toolkit() -> Toolkit:
    """Raises KernelsUnavailable."""
    found, host = nvcc(), compiler()
    return Toolkit(found, _nvcc_version(found), host, compiler_version(host))


def nvcc() -> str:
    """The file of nvcc: on the path, in CUDA_HOME/bin, in /usr/local/cuda/bin. Raises KernelsUnavailable."""
    home = os.environ.get("CUDA_HOME", "")
    folders = [Path(home) / "bin"] * bool(home) + [DEFAULT_HOME / "bin"]
    for found in (shutil.which("nvcc"), *(shutil.which("nvcc", path=str(folder)) for folder in folders)):
        if found:
            return found
    where = " nor in ".join(map(str, folders))
    unset = "" if home else ", and CUDA_HOME is not set"
    raise KernelsUnavailable(
        f"the native CUDA kernels need nvcc, which is neither on the path nor in {where}{unset}; "
        "install the CUDA toolkit or name its folder in CUDA_HOME"
    )


def torch_cuda() -> str | None:
    """The version of CUDA that the installed torch was built with, None for a CPU build; torch is not imported. Raises
    KernelsUnavailable."""
    found = TORCH_CUDA.search((torch_package()[1] / "version.py").read_text(encoding="utf-8"))
    return found[1] if found else None


def host_arguments(host: tuple[str, ...]) -> list[str]:
    """How nvcc is told its host compiler: it takes one program, so a launcher such as ccache is left out, and arguments go
    behind -Xcompiler."""
    program, *rest = host
    if rest and not rest[0].startswith("-"):
        program, *rest = rest
    return ["-ccbin", program, *(part for argument in rest for part in ("-Xcompiler", argument))]


def _nvcc_version(file: str) -> str:
    done = subprocess.run([file, "--version"], capture_output=True, text=True, errors="replace")
    release = next((line.strip() for line in done.stdout.splitlines() if "release" in line), None)
    if done.returncode or release is None:
        raise KernelsUnavailable(
            f"{file!r} does not say which nvcc it is (--version: exit status {done.returncode}); "
            "put another on the path or name the toolkit's folder in CUDA_HOME"
        )
    return release
