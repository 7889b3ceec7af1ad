"""The original: the transformers module as it was loaded, attention 'eager', nothing traced or compiled.

Every other backend is shown beside it. Computes in fp32; on cuda also in tf32, fp16 and bf16; on a CPU with bfloat16 units
also in bf16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pytest_perfq.backends import _declared, _torch
from pytest_perfq.contracts import Batch, Model, Resources
from pytest_perfq.core.case import Case


class Eager:
    name = "eager"

    def refuses(self, case: Case) -> list[str]:
        _declared.options(case.backend)
        return _torch.refusals(case)

    def build(
        self, case: Case, model: Model, resources: Resources, calibration: Callable[[], Iterator[Batch]]
    ) -> _torch.TorchProgram:
        module, device = _torch.place(model, case, resources)
        return _torch.TorchProgram(module, module, device, model, case)


BACKEND = Eager()
