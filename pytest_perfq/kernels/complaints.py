"""What nvcc and the host's compiler complain of, as one sentence with the next step. Knows no source."""

from __future__ import annotations

import re

from pytest_perfq.kernels.cuda_toolkit import Toolkit

HEADER = re.compile(r"fatal error: ((?:cuda|cub|crt|cooperative|mma|device_)[\w./-]*): No such file")
PROGRAM = re.compile(r"\b(cicc|ptxas|fatbinary|nvlink|cudafe\+\+)\b.*(?:not found|No such file)")
ARCHIVE = re.compile(r"cannot find -l(cudart_static|cudadevrt)")


def complaint(what: str, said: list[str], tools: Toolkit, linking: bool) -> str:
    """what: the file that was being made; said: the lines of the tool that failed."""
    if unsupported := next((line for line in said if "unsupported" in line and "version" in line), None):
        return (
            f"the native CUDA kernels cannot be built: {tools.version} does not take {tools.host_version} as its host "
            f"compiler ({unsupported.partition('#error')[2].strip(' -') or unsupported}); name an older one in CXX"
        )
    for pattern in (HEADER, PROGRAM, ARCHIVE):
        for line in said:
            if missing := pattern.search(line):
                return (
                    f"the native CUDA kernels cannot be built: the CUDA toolkit of {tools.nvcc} lacks {missing[1]}; "
                    "install the whole toolkit or name another's folder in CUDA_HOME"
                )
    bad = [line for line in said if re.search(r"\b(error|fatal)\b", line)]
    line = said[0] if linking or not bad else bad[0]
    return f"the native CUDA kernels cannot be built: {what}: {line}; this was {tools.version} with {tools.host_version}"
