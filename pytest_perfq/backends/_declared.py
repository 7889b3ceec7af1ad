"""What backends say of themselves before they are imported: the options they take and the operators they quantize.

Read while cases are collected, so that a mistake is told before anything is built: it imports no framework, and knows only
what holds on every machine. What depends on the machine is a refusal, and each backend's own. A backend without a row in
OPTIONS is first asked when a case of it is measured.
"""

from __future__ import annotations

from pytest_perfq.core.case import Case
from pytest_perfq.core.options import Option, read
from pytest_perfq.core.spec import Spec, Value
from pytest_perfq.errors import UnknownName
from pytest_perfq.kernels.bits import BITS, DEFAULT_BITS

# Option of ort -> onnxruntime's name.
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
DEFAULT_OPSET = 17  # attention, layer normalization and GELU fuse, and LayerNormalization is one node even where nothing does
OLDEST_OPSET = 11  # the oldest that torch exports; the newest depends on its version
ATTENTIONS = ("auto", "ours", "torch")
INDUCTOR_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")

OPTIONS: dict[str, dict[str, Option]] = {
    "eager": {},
    "torchscript": {},
    "compile": {"mode": Option("default", among=INDUCTOR_MODES)},
    "ort": {
        "opset": Option(DEFAULT_OPSET, least=OLDEST_OPSET),
        "level": Option(99, among=(0, 1, 2, 99)),
        "optimizer": Option(True),
        "provider": Option("", among=tuple(PROVIDERS)),
        "graph": Option(False),
    },
    "native": {
        "bits": Option(DEFAULT_BITS, among=tuple(BITS)),
        "graph": Option(True),
        "attention": Option("auto", among=ATTENTIONS),
    },
}
# What people call a backend -> its name. Where a name is unknown, the sentence asks whether that was meant.
ALIASES = {
    "onnx": "ort", "onnxruntime": "ort", "torch": "eager", "pytorch": "eager", "transformers": "eager", "jit": "torchscript",
    "inductor": "compile", "dynamo": "compile",
}  # fmt: skip
# ONNX operator types that a backend can quantize at all, of those that quantize. ort: the registries of onnxruntime 1.32.
OPERATORS: dict[str, frozenset[str]] = {
    "ort": frozenset(
        "Add ArgMax Attention AveragePool BatchNormalization Clip Concat Conv ConvTranspose CumSum EmbedLayerNormalization"
        " Flatten Gather GatherElements Gemm GlobalAveragePool InstanceNormalization LSTM LayerNormalization LeakyRelu MatMul"
        " MaxPool Mul Pad Relu Reshape Resize Sigmoid Slice Softmax Split Squeeze TopK Transpose Unsqueeze Where".split()
    )
}


def options(backend: Spec) -> dict[str, Value]:
    """The options of a backend over their defaults. Raises UnknownName and UsageError."""
    return read("backend", backend, OPTIONS.get(backend.name, {}))


def check(case: Case) -> None:
    """Raises UnknownName and UsageError for options that the case's backend does not take and operators that it cannot
    quantize on any machine."""
    name = case.backend.name
    if name in OPTIONS:
        options(case.backend)
    if name in OPERATORS and case.quantization is not None:
        UnknownName.check(f"operator to quantize by {name}", case.quantization.operators, OPERATORS[name])
