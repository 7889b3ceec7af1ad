"""INT8 through onnxruntime.quantization, and a count of what it really did.

Static QDQ uses int8 for activations and weights: onnxruntime's defaults, and what optimum's runs used. Static QOperator uses
uint8 activations, because onnxruntime's x86 kernels for it want them. Dynamic activations can only be uint8. Weights are
never narrowed to 7 bits (reduce_range): on x86 CPUs without VNNI instructions sums of uint8 x int8 products may saturate,
which belongs to what is measured there; the fact `int8_dot_product` tells.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime import quantization as ort_quantization
from onnxruntime.quantization.registry import IntegerOpsRegistry, QDQRegistry, QLinearOpsRegistry
from onnxruntime.quantization.shape_inference import quant_pre_process

from pytest_perfq.backends._onnx.cache import Facts
from pytest_perfq.backends._onnx.exclude import excluded, name_nodes
from pytest_perfq.backends._onnx.optimize import census, quiet
from pytest_perfq.contracts import Batch
from pytest_perfq.core.quantization import Quantization
from pytest_perfq.errors import BuildError, PerfqError

METHODS = {
    "minmax": ort_quantization.CalibrationMethod.MinMax,
    "entropy": ort_quantization.CalibrationMethod.Entropy,
    "percentile": ort_quantization.CalibrationMethod.Percentile,
}
FORMATS = {"qdq": ort_quantization.QuantFormat.QDQ, "qoperator": ort_quantization.QuantFormat.QOperator}
INT8, UINT8 = ort_quantization.QuantType.QInt8, ort_quantization.QuantType.QUInt8
# Operator types that this version quantizes in one way or another.
KNOWN_OPERATORS = frozenset({*IntegerOpsRegistry, *QLinearOpsRegistry, *QDQRegistry})


def quantized_operators(wanted: Quantization) -> frozenset[str]:
    """The operator types that onnxruntime will look at."""
    if wanted.operators:
        return frozenset(wanted.operators)
    return frozenset(IntegerOpsRegistry if wanted.approach == "dynamic" else {*QLinearOpsRegistry, *QDQRegistry})


def data_key(batches: Sequence[Batch]) -> str:
    """Hex digest of calibration batches: names, shapes and values."""
    digest = hashlib.sha256()
    for batch in batches:
        for name, array in sorted(batch.arrays.items()):
            digest.update(f"{name}{array.shape}{array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:24]


class Reader(ort_quantization.CalibrationDataReader):  # type: ignore[misc]
    """Calibration batches one at a time, so that batches of several lengths can follow each other and none is kept."""

    def __init__(self, batches: Sequence[Batch], names: tuple[str, ...]) -> None:
        self._batches, self._names, self._left = batches, names, iter(batches)

    def __len__(self) -> int:
        return len(self._batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._left = iter(self._batches[start_index:end_index])

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._left, None)
        return None if batch is None else {name: batch.arrays[name] for name in self._names}


def quantize(
    source: Path, target: Path, wanted: Quantization, batches: Sequence[Batch], name: str, *, symbolic: bool = True
) -> Facts:
    """Writes the INT8 graph beside facts of it. batches: for static quantization. name: what messages call the model.
    symbolic: infer shapes symbolically; needed where the exporter left them out, and not able to read the newest operators.
    Raises UsageError for an `exclude` entry that matches nothing, BuildError where onnxruntime gives up."""
    prepared = target.with_name("prepared.onnx")
    try:
        # Shapes only, as onnxruntime recommends. Its graph optimization is left out: fusing is a choice of the case, made
        # before, and `exclude` speaks of the nodes as they were exported.
        with quiet():
            shapes = {"skip_symbolic_shape": not symbolic, "auto_merge": True}
            quant_pre_process(str(source), str(prepared), skip_optimization=True, **shapes)
        model = onnx.load(str(prepared))
        name_nodes(model.graph)
        lift_constants(model.graph)
        onnx.save(model, str(prepared))
        groups = excluded(model.graph, wanted.exclude, name)
        left_out = sorted({node for nodes in groups.values() for node in nodes})
        with quiet():
            _call(prepared, target, wanted, batches, left_out, tuple(value.name for value in model.graph.input))
        done = really_quantized(model.graph, onnx.load(str(target)).graph, quantized_operators(wanted), set(left_out))
    except (PerfqError, MemoryError):
        raise
    except Exception as error:  # onnxruntime's tools raise bare exceptions of every kind
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BuildError(f"onnxruntime cannot quantize {name} by {wanted.id}: {line}; {_advice(wanted)}") from error
    finally:
        prepared.unlink(missing_ok=True)
    activations, weights = _types(wanted)
    return {
        "quantized_nodes": sum(done.values()),
        "quantized": census(done),
        "excluded_nodes": len(left_out),
        "excluded": census(Counter({entry: len(nodes) for entry, nodes in groups.items()})),
        "activation_type": str(activations),
        "weight_type": str(weights),
    }


def _advice(wanted: Quantization) -> str:
    if wanted.approach == "static" and wanted.calibration != "minmax":
        return "histograms cannot hold ranges such as the attention mask's: use calibration minmax, or quantize MatMul only"
    return "try other operators or another opset"


def lift_constants(graph: onnx.GraphProto) -> None:
    """Turns Constant nodes in floating point into initializers, as onnxruntime's own optimization would: a constant has a
    known range, and histograms of one value cannot be made."""
    kept = []
    for node in graph.node:
        value = next((attribute.t for attribute in node.attribute if attribute.name == "value"), None)
        if node.op_type == "Constant" and value is not None and value.data_type == onnx.TensorProto.FLOAT:
            tensor = graph.initializer.add()
            tensor.CopyFrom(value)
            tensor.name = node.output[0]
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _types(wanted: Quantization) -> tuple[Any, Any]:
    """Integer types of activations and weights."""
    return (INT8 if wanted.approach == "static" and wanted.format == "qdq" else UINT8), INT8


def _call(
    source: Path, target: Path, wanted: Quantization, batches: Sequence[Batch], left_out: list[str], inputs: tuple[str, ...]
) -> None:
    activations, weights = _types(wanted)
    shared: dict[str, Any] = {
        "op_types_to_quantize": list(wanted.operators) or None,
        "nodes_to_exclude": left_out,
        "per_channel": wanted.per_channel,
        "reduce_range": False,
        "weight_type": weights,
    }
    if wanted.approach == "dynamic":
        ort_quantization.quantize_dynamic(source, target, **shared)
        return
    extra: dict[str, Any] = {"CalibStridedMinMax": 1}  # despite its name, batches at a time for every method
    if wanted.calibration == "percentile":
        extra["CalibPercentile"] = wanted.percentile
    ort_quantization.quantize_static(
        source,
        target,
        Reader(batches, inputs),
        quant_format=FORMATS[wanted.format],
        activation_type=activations,
        calibrate_method=METHODS[wanted.calibration],
        calibration_providers=["CPUExecutionProvider"],
        extra_options=extra,
        **shared,
    )


def really_quantized(
    before: onnx.GraphProto, after: onnx.GraphProto, operators: frozenset[str], left_out: set[str]
) -> Counter[str]:
    """Operator type -> nodes of `before` that compute on integers in `after`, be it through operators of their own
    (`<name>_quant`), through integer inputs, or between DequantizeLinear and QuantizeLinear."""
    nodes = {node.name: node for node in after.node}
    dequantized = {output for node in after.node if node.op_type == "DequantizeLinear" for output in node.output}
    floats = {tensor.name for tensor in before.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*before.value_info, *before.input, *before.output)}
    done: Counter[str] = Counter()
    for node in before.node:
        if node.op_type not in operators or node.name in left_out:
            continue
        inputs = [tensor for tensor in node.input if tensor in floats or kinds.get(tensor) == onnx.TensorProto.FLOAT]
        now = nodes.get(node.name)
        if now is None:
            done[node.op_type] += f"{node.name}_quant" in nodes
            continue
        behind = [now.input[index] for index, tensor in enumerate(node.input) if tensor in inputs]
        through = bool(behind) and all(tensor in dequantized for tensor in behind)
        integers = bool(behind) and behind[0].endswith("_quantized")
        done[node.op_type] += through or integers
    return +done


def collect(calibration: Callable[[], Iterator[Batch]], samples: int) -> list[Batch]:
    """All calibration batches. Raises BuildError when there are none."""
    batches = list(calibration())
    if not batches:
        raise BuildError(f"static quantization asked for {samples} calibration examples and was given none; check the split")
    return batches
