"""A transformers model as an ONNX graph with free batch and length.

Up to opset 20 through the TorchScript exporter with attention 'eager', which onnxruntime's optimizer knows how to fuse;
above through the dynamo exporter with attention 'sdpa', which becomes one Attention node from opset 23 on. Checks no numbers.
"""

from __future__ import annotations

import contextlib
import copy
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import torch
from torch.onnx import _constants

from pytest_perfq.backends import _check, _torch
from pytest_perfq.contracts import Model
from pytest_perfq.errors import BuildError

# The newest opset that the TorchScript exporter has symbolic functions for.
TRACED_OPSET: int = getattr(_constants, "ONNX_TORCHSCRIPT_EXPORTER_MAX_OPSET", 17)


def newest_opset() -> int:
    """The newest opset that both the installed torch exports and the installed onnx defines."""
    return min(int(getattr(_constants, "ONNX_MAX_OPSET", 20)), int(onnx.defs.onnx_opset_version()))


def export(model: Model, opset: int, path: Path) -> None:
    """Writes the graph in one file: int64 inputs [batch, seq] and logits under the model's names. Raises BuildError."""
    batch = _check.check_batches(model)[1]
    inputs = tuple(torch.from_numpy(batch.arrays[name]) for name in model.inputs)
    traced = opset <= TRACED_OPSET
    free = {0: "batch", 1: "seq"}
    options: dict[str, Any] = {"input_names": list(model.inputs), "output_names": list(model.outputs), "opset_version": opset}
    if traced:
        per_token = {name: dict(free) for name in (*model.inputs, *_per_token(model))}
        options |= {"dynamo": False, "dynamic_axes": {name: {0: "batch"} for name in model.outputs} | per_token}
    else:
        dimension = torch.export.Dim.DYNAMIC
        options |= {
            "dynamo": True,
            "dynamic_shapes": ((dict.fromkeys(free, dimension),) * len(inputs),),
            "external_data": False,
        }
    with _quiet(), torch.no_grad(), _module(model, traced) as module:
        try:
            torch.onnx.export(_torch.Head(module, model).eval(), inputs, str(path), **options)
        except Exception as error:  # the exporters raise types of their own, by version
            line = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise BuildError(f"{model.source} cannot be exported at opset {opset}: {line}; try another opset") from error


def _per_token(model: Model) -> list[str]:
    outputs = _check.reference(model, _check.check_batches(model)[1])
    return [name for name in model.outputs if outputs[name].ndim == 3 or name in ("start_logits", "end_logits")]


@contextlib.contextmanager
def _module(model: Model, traced: bool) -> Iterator[Any]:
    """The module with the attention that its exporter wants; a copy where that is not the loaded one's."""
    if traced:
        yield model.module
        return
    module = copy.deepcopy(model.module)
    module.set_attn_implementation("sdpa")
    yield module


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporters print progress and warn of branches that the check batches then decide."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
