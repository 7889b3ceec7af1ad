"""`make kernels-cuda`: the CUDA library for several architectures, built, measured by ptxas and loaded, with no GPU."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pytest_perfq.errors import KernelsUnavailable
from pytest_perfq.kernels.build_cuda import AHEAD, WHAT, about, cuda_library, recipe_cuda
from pytest_perfq.kernels.ptxas import table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pytest_perfq.kernels.build_cuda")
    parser.add_argument("cache", type=Path)
    parser.add_argument("--arch", type=int, nargs="+", default=AHEAD, help="75 is sm_75")
    asked = parser.parse_args()
    try:
        made_from = recipe_cuda([divmod(one, 10) for one in asked.arch])
        path = cuda_library(asked.cache, print, made_from)
        print(*table(about(path.parent).kernels), sep="\n")
        ops = loaded(asked.cache, path)
    except KernelsUnavailable as error:
        sys.exit(str(error))
    print(f"the native CUDA kernels are in {path}; they load beside the CPU kernels: {len(ops)} ops, none run on a GPU here")


def loaded(cache: Path, library: Path) -> list[str]:
    """Loads the CPU library, then this one; the ops that have a CUDA implementation now, sorted. Raises KernelsUnavailable."""
    import torch

    from pytest_perfq.kernels import ops

    ops.load(cache)
    ops.attach(library, WHAT)
    found = sorted(name for name in torch._C._dispatch_get_registrations_for_dispatch_key("CUDA") if name.startswith("perfq::"))
    if dangling := [line for line in torch._C._dispatch_find_dangling_impls() if "perfq::" in line]:
        raise KernelsUnavailable(
            f"the native CUDA kernels implement what no schema names: {dangling[0].splitlines()[0]}; add it to csrc/schema.cpp"
        )
    return found
