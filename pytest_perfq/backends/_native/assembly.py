"""From a model to its native program: weights, scales, packing, and the check against eager.

Knows no rule about what may be asked for: native.py has refused what cannot be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch

from pytest_perfq.backends import _check
from pytest_perfq.backends._native.program import NativeProgram
from pytest_perfq.contracts import Batch, Model, Resources
from pytest_perfq.core.case import Case
from pytest_perfq.errors import BuildError
from pytest_perfq.kernels import calibrate, encoder, ops, packing, parallel, weights
from pytest_perfq.kernels.bits import BITS

Calibration = Callable[[], Iterator[Batch]]


def build(case: Case, bits: str, model: Model, resources: Resources, calibration: Calibration) -> NativeProgram:
    """The program of the case. Raises BuildError, and KernelsUnavailable where the kernels do not compile."""
    torch.set_num_threads(resources.threads)
    whole = weights.read(model)
    ops.load(resources.cache, resources.progress)
    recipe = _recipe(case, bits, model, resources, calibration)
    parallel.check(whole, recipe, case.tp, case.pp)
    processes = case.tp * case.pp
    program = _alone(whole, recipe, model) if processes == 1 else _several(case, whole, recipe, model, resources)
    try:
        program.facts |= _facts(recipe) | {
            "isa": ops.select_isa("auto"),
            "padding": "removed",
            "processes": processes,
            "threads": max(1, resources.threads // processes),
        }
        program.facts |= _held_against_eager(case, model, program)
    except BaseException:
        program.close()
        raise
    return program


def _alone(whole: weights.Weights, recipe: packing.Recipe, model: Model) -> NativeProgram:
    packed = packing.pack(whole, ops, recipe)
    return NativeProgram(encoder.Encoder(packed, ops), packed.bytes, model)


def _several(case: Case, whole: weights.Weights, recipe: packing.Recipe, model: Model, resources: Resources) -> NativeProgram:
    from pytest_perfq.backends._native.workers import Workers

    workers = Workers(whole, recipe, case.tp, case.pp, resources)
    return NativeProgram(workers.forward, workers.bytes, model, workers.close)


def _recipe(case: Case, bits: str, model: Model, resources: Resources, calibration: Calibration) -> packing.Recipe:
    wanted = case.quantization
    if wanted is None:
        return packing.FP32
    if wanted.approach == "dynamic":
        return packing.Recipe(bits)
    resources.progress(f"calibrating {model.source} for {case.backend} ({case.numeric})")
    scales = calibrate.calibrate(model, calibration, wanted, BITS[bits].activation)
    return packing.Recipe(bits, scales, int8_residual=wanted.mode == "v2")


def _facts(recipe: packing.Recipe) -> dict[str, str | int | float | bool]:
    if recipe.bits is None:
        return {}
    return {
        "bits": recipe.bits,
        "weight_scales": "tensor" if recipe.int8_residual else "channel",
        "activation_scales": "token" if recipe.scales is None else "tensor",
        "residual": "int8" if recipe.int8_residual else "fp32",
    }


def _held_against_eager(case: Case, model: Model, program: NativeProgram) -> dict[str, str | int | float | bool]:
    """Absolute differences of the logits from eager's over the check batches; judged unless it is INT8, which is meant to be
    another model."""
    if case.quantization is None:
        _check.faithful(model, program.predict, case.precision, "the native encoder", "use backend eager and report the model")
    found = [
        difference
        for batch in _check.check_batches(model)
        for difference in encoder.differences(
            program.predict(batch), _check.reference(model, batch), batch.arrays["attention_mask"]
        ).values()
    ]
    if not all(math.isfinite(one.mean) for one in found):
        raise BuildError(f"the INT8 encoder of {model.source} gives logits that are no numbers; use bits=w8a8 or fp32")
    return {
        "max_abs_difference": max(one.max for one in found),
        "mean_abs_difference": sum(one.mean for one in found) / len(found),
        "min_abs_difference": min(one.min for one in found),
    }
