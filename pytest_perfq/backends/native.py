"""The native encoder: `native` and, for INT8, `native[bits=w8a8]`, `native[bits=w8a7]` (the default), `native[bits=w7a7]`.

Padding is removed before the first layer and put back behind the last. fp32, and INT8 in two modes: v1 (what a quantization
without a mode means here too) keeps the residual in floating point and has one weight scale an output channel; v2 keeps it in
INT8 and has one a tensor. Dynamic scales are those of each token; static ones are calibrated. tp and pp run it over several
processes. Here stands who is refused; `_native` makes the program, and `kernels` computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pytest_perfq.backends import _declared
from pytest_perfq.backends._native import refusals
from pytest_perfq.contracts import Batch, Model, Program, Resources
from pytest_perfq.core.case import Case


class Native:
    name = "native"

    def refuses(self, case: Case) -> list[str]:
        _declared.options(case.backend)
        return refusals.machine(case) + refusals.quantization(case)

    def build(self, case: Case, model: Model, resources: Resources, calibration: Callable[[], Iterator[Batch]]) -> Program:
        from pytest_perfq.backends._native import assembly

        bits = str(_declared.options(case.backend)["bits"])
        return assembly.build(case, bits, model, resources, calibration)


BACKEND = Native()
