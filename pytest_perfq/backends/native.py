"""The native encoder: `native` and, for INT8, `native[bits=w8a8]`, `native[bits=w8a7]` (the default), `native[bits=w7a7]`.

Padding is removed before the first layer and put back behind the last. fp32; bf16 on a CPU with avx512_bf16 (weights and what
they are multiplied with are rounded; sums, residual, attention and normalization stay fp32); and INT8 in two modes: v1 (what a
quantization without a mode means here too) keeps the residual in floating point and has one weight scale an output channel; v2
keeps it in INT8 and has one a tensor. per_channel changes neither, so a case that sets it is refused. Dynamic scales are those
of each token; static ones are calibrated. tp and pp run it over several processes. On a GPU it computes in fp32, tf32, fp16 or
bf16, INT8 beside each but tf32, with bits w8a8, and dynamic FP8 beside bf16; `native[graph=false]` leaves CUDA graphs out, and
`native[attention=ours]` or `[attention=torch]` chooses an attention. Here stands who is refused; `_native` makes the program,
and `kernels` computes.

What INT8 costs, in points of the metric on fine-tuned MiniLM (entity F1 on 1000 sentences of CoNLL-2003; accuracy on SST-2,
where 0.11 is one answer; + is better than fp32):

    dynamic                  w8a8 -0.02 -0.11    w8a7 -0.08  0.00    w7a7 +0.13  0.00
    static, minmax           w8a8 -0.03 -0.46    w8a7 -0.08 -0.11
    static, percentile                           w8a7 -0.10 -0.34
    static, entropy                              w8a7 -9.58 -0.46    cuts off the few large values that MiniLM needs
    static, minmax, v2       w8a8 -1.59 -1.15    w8a7 -9.10 -4.24    a residual of seven bits is too few
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

        return assembly.build(case, _declared.options(case.backend), model, resources, calibration)


BACKEND = Native()
