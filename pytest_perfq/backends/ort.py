"""onnxruntime: `ort` on cpu and cuda, `ort[provider=tensorrt]` on cuda.

Options: opset (11 to what torch exports; 17), level (graph optimization 0, 1, 2, 99; 99), optimizer (fuse with onnxruntime's
transformers optimizer; true), provider (cpu, cuda, tensorrt; empty: that of the device), graph (time a CUDA graph, of a
session made for the batch and length at hand; false). Here stands what is refused; `_onnx` makes the files and the program.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec

from pytest_perfq.backends import _refusals
from pytest_perfq.backends._declared import DEFAULT_OPSET, OLDEST_OPSET
from pytest_perfq.backends._onnx import options
from pytest_perfq.contracts import Batch, Lack, Model, Program, Resources
from pytest_perfq.core.case import Case
from pytest_perfq.errors import UnknownName, UsageError

PER_CHANNEL_OPSET = 13
NEEDED = ("onnxruntime", "onnx", "onnxscript", "sympy")


class Ort:
    name = "ort"

    def refuses(self, case: Case) -> list[str]:
        asked = options.read(case)
        missing = [name for name in NEEDED if find_spec(name) is None]
        if missing:
            extra = "onnxruntime" if case.device == "cpu" else "onnxruntime-gpu"
            return [Lack(f"backend ort needs {', '.join(missing)}: pip install 'pytest-perfq[{extra}]'")]
        _check_opset(asked)
        return _refusals.one_device(case) + _provider(case, asked) + _precision(case, asked) + _quantization(case, asked)

    def build(self, case: Case, model: Model, resources: Resources, calibration: Callable[[], Iterator[Batch]]) -> Program:
        from pytest_perfq.backends._onnx import pipeline

        return pipeline.build(pipeline.Walk(case, options.read(case), model, resources, calibration))


def _check_opset(asked: options.Options) -> None:
    if asked.opset == DEFAULT_OPSET:
        return  # the common case loads no framework
    from pytest_perfq.backends._onnx.export import newest_opset

    if asked.opset > newest_opset():
        raise UsageError(f"opset of backend ort is {asked.opset}; torch exports {OLDEST_OPSET} to {newest_opset()} here")


def _provider(case: Case, asked: options.Options) -> list[str]:
    import onnxruntime

    needed = options.DEVICE_OF[asked.provider]
    if needed != case.device:
        return [f"provider {asked.provider} runs on device {needed}, and the case has {case.device}: set device to {needed}"]
    if asked.graph and asked.provider == "cpu":
        return ["graph=true replays a CUDA graph, and provider cpu has no CUDA: set device to cuda or graph to false"]
    available = onnxruntime.get_available_providers()
    if asked.provider_name in available:
        return [] if asked.provider == "cpu" else _refusals.nvidia_driver()
    return [
        Lack(
            f"onnxruntime {onnxruntime.__version__} has no {asked.provider_name}, only {', '.join(available)}: "
            "install onnxruntime-gpu with its libraries, or use device cpu"
        )
    ]


def _precision(case: Case, asked: options.Options) -> list[str]:
    if case.precision == "bf16":
        return ["onnxruntime has no bf16 kernels for these models: use precision fp16 on cuda, or fp32"]
    if asked.provider == "cpu":
        return _refusals.cpu_precision(case)
    if asked.provider == "tensorrt" and case.precision == "fp32" and os.environ.get("NVIDIA_TF32_OVERRIDE") != "0":
        # TensorRT builds with TF32 on, and onnxruntime has no option that turns it off.
        return ["TensorRT computes fp32 in TF32: use precision tf32, or set NVIDIA_TF32_OVERRIDE=0 for true fp32"]
    return []


def _quantization(case: Case, asked: options.Options) -> list[str]:
    wanted = case.quantization
    if wanted is None:
        return []
    reasons = []
    if wanted.approach == "aware":
        reasons.append("onnxruntime quantizes after training and cannot train: use approach static or dynamic")
    if wanted.type != "int8":
        reasons.append(f"ort quantizes to int8 and the case asks for {wanted.type}: use type int8, or backend native on a GPU")
    if wanted.mode is not None:
        reasons.append(f"mode {wanted.mode} belongs to native INT8 kernels, and ort has none: leave mode out")
    if case.precision != "fp32":
        reasons.append(f"ort quantizes fp32 models and the case asks for {case.precision}: use precision fp32")
    if asked.provider != "cpu":
        name = asked.provider_name
        reasons.append(
            f"{name} has no kernels for onnxruntime's INT8 operators, which would fall back to the CPU: use device cpu"
        )
    if wanted.per_channel and wanted.approach == "static" and asked.opset < PER_CHANNEL_OPSET:
        reasons.append(
            f"static per-channel scales need opset {PER_CHANNEL_OPSET}, where DequantizeLinear has an axis; "
            f"the case asks for {asked.opset}: raise opset or set per_channel=False"
        )
    if wanted.operators:
        from pytest_perfq.backends._onnx.quantize import KNOWN_OPERATORS

        UnknownName.check(
            "operator to quantize by ort", wanted.operators, KNOWN_OPERATORS
        )  # of the installed version, which may know fewer
    return reasons


BACKEND = Ort()
