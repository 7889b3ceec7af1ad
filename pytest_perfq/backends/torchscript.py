"""The model traced by torch.jit.trace and frozen: weights become constants, Python is left out of the call.

Traced at one shape and checked at others, padding included. torch.jit.optimize_for_inference is left out: on a BERT of 4
layers its median was within the noise of the frozen graph's, and it changes the numbers. PyTorch calls TorchScript
deprecated; what is measured here is what people still deploy.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

from pytest_perfq.backends import _check, _declared, _torch
from pytest_perfq.contracts import Batch, Model, Resources
from pytest_perfq.core.case import Case
from pytest_perfq.errors import BuildError


class TorchScript:
    name = "torchscript"

    def refuses(self, case: Case) -> list[str]:
        _declared.options(case.backend)
        return _torch.refusals(case)

    def build(
        self, case: Case, model: Model, resources: Resources, calibration: Callable[[], Iterator[Batch]]
    ) -> _torch.TorchProgram:
        module, device = _torch.place(model, case, resources)
        started = time.perf_counter_ns()
        frozen = _trace(module, device, model)
        names = model.inputs
        program = _torch.TorchProgram(lambda **feed: frozen(*(feed[name] for name in names)), module, device, model, case)
        advice = "tracing has frozen a branch or a size; use backend compile"
        gap = _check.faithful(model, program.predict, case.precision, "the traced graph", advice)
        program.facts |= {"trace_max_abs_difference": gap, "trace_ns": time.perf_counter_ns() - started}
        return program


def _trace(module: Any, device: torch.device, model: Model) -> Any:
    """The frozen graph, traced with padding in the batch: a full one would let transformers leave the mask out."""
    batch = _check.check_batches(model)[1]
    example = tuple(torch.from_numpy(batch.arrays[name]).to(device) for name in model.inputs)
    with warnings.catch_warnings(), torch.no_grad():
        # Deprecations of TorchScript, and notices of Python branches, which the check at other shapes decides about.
        warnings.simplefilter("ignore")
        try:
            # strict=False lets transformers' output objects pass; check_trace would run the trace again at the same shape.
            traced = torch.jit.trace(_torch.Head(module, model).eval(), example, strict=False, check_trace=False)
            return torch.jit.freeze(traced)
        except (RuntimeError, TypeError, ValueError) as error:
            line = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise BuildError(f"{model.source} cannot be traced: {line}; use backend compile or eager") from error


BACKEND = TorchScript()
