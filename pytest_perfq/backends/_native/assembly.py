"""From a model to its native program: weights, scales, packing, each held against eager by `crosscheck`.

Knows no rule about what may be asked for: native.py has refused what cannot be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch

from pytest_perfq.backends._native import crosscheck
from pytest_perfq.backends._native import machine as machines
from pytest_perfq.backends._native.machine import Machine
from pytest_perfq.backends._native.program import NativeProgram
from pytest_perfq.contracts import Batch, Model, Resources
from pytest_perfq.core.case import Case
from pytest_perfq.core.spec import Value
from pytest_perfq.kernels import calibrate, encoder, graphs, ops, packing, parallel, weights
from pytest_perfq.kernels.bits import BITS

GPU_BITS = "w8a8"  # tensor cores have no int16 to spare sums in, so fewer bits would gain nothing
Calibration = Callable[[], Iterator[Batch]]


def build(
    case: Case, options: Mapping[str, Value], model: Model, resources: Resources, calibration: Calibration
) -> NativeProgram:
    """The program of the case. options: bits, attention, graph. Raises BuildError, and KernelsUnavailable where the kernels do
    not compile."""
    torch.set_num_threads(resources.threads)
    whole = weights.read(model)
    ops.load(resources.cache, resources.progress)
    eager = crosscheck.eager(model)
    if case.numeric != "fp32":  # else the program itself is held to as much
        crosscheck.same_weights(whole, eager)
    machine = Machine(case.device, case.precision, str(options["attention"]))
    bits = GPU_BITS if machine.cuda else str(options["bits"])
    recipe = _recipe(case, bits, model, resources, calibration)
    parallel.check(whole, recipe, case.tp, case.pp)
    processes = case.tp * case.pp
    made: encoder.Encoder | None = None
    if processes == 1:
        made = machine.encoder(whole, recipe, resources.cache, resources.progress)
        program = _alone(made, machine, bool(options["graph"]), model)
    else:
        program = _several(case, whole, recipe, model, resources, machine)
    try:
        program.facts |= _facts(recipe, case.precision) | {
            "padding": "removed",
            "processes": processes,
            "threads": max(1, resources.threads // processes),
        }
        # A quantized model is meant to be another one.
        distances = crosscheck.distances(program.predict, eager, case.precision if case.quantization is None else None)
        resources.progress(crosscheck.line(_name(case, recipe), distances))
        program.facts |= distances
        program.facts |= _where(machine, made, graph=bool(options["graph"]))
    except BaseException:
        program.close()
        raise
    return program


def _alone(made: encoder.Encoder, machine: Machine, graph: bool, model: Model) -> NativeProgram:
    if not machine.cuda:
        return NativeProgram(made, made.weights.bytes, model)
    call = graphs.Graphs(made, graphs.CudaCapture()) if graph else made
    return NativeProgram(call, made.weights.bytes, model, device=machine.place(), tf32=machine.precision == "tf32")


def _several(
    case: Case, whole: weights.Weights, recipe: packing.Recipe, model: Model, resources: Resources, machine: Machine
) -> NativeProgram:
    from pytest_perfq.backends._native.workers import Workers

    workers = Workers(whole, recipe, case.tp, case.pp, resources, machine)
    return NativeProgram(workers.forward, workers.bytes, model, workers.close)


def _recipe(case: Case, bits: str, model: Model, resources: Resources, calibration: Calibration) -> packing.Recipe:
    wanted = case.quantization
    if wanted is None:
        # On a GPU the packed weights become bfloat16 with all else; see Gpu.encoder.
        return packing.BF16 if case.device == "cpu" and case.precision == "bf16" else packing.FP32
    if wanted.type == "fp8":
        return packing.F8
    if wanted.approach == "dynamic":
        return packing.Recipe(bits)
    resources.progress(f"calibrating {model.source} for {case.backend} ({case.numeric})")
    scales = calibrate.calibrate(model, calibration, wanted, BITS[bits].activation)
    return packing.Recipe(bits, scales, int8_residual=wanted.mode == "v2")


def _where(machine: Machine, made: encoder.Encoder | None, graph: bool) -> machines.Facts:
    """Of the device, and of what its encoder ran; made: None where other processes have it."""
    found: machines.Facts = {"isa": ops.select_isa("auto")} if made is None and not machine.cuda else {}
    if made is not None:
        found |= machines.facts(made)
    if machine.cuda:
        # Processes that share a forward pass run it without graphs.
        found |= {"torch_device_name": torch.cuda.get_device_name(), "graph": graph and made is not None}
    return found


def _name(case: Case, recipe: packing.Recipe) -> str:
    """How it computes, such as 'w8a7' or 'fp8'."""
    return recipe.bits or ("fp8" if recipe.f8 else case.precision)


def _facts(recipe: packing.Recipe, precision: str) -> dict[str, str | int | float | bool]:
    if recipe.bits is None and not recipe.f8:
        return {}
    return {
        **({} if recipe.bits is None else {"bits": recipe.bits}),
        "weight_scales": "tensor" if recipe.int8_residual else "channel",
        "activation_scales": "token" if recipe.scales is None else "tensor",
        "residual": "int8" if recipe.int8_residual else precision,
    }
