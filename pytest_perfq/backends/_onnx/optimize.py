"""Fusions for transformers and half precision, by onnxruntime's own tools. Checks no numbers."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnxruntime

from pytest_perfq.backends._onnx.cache import Facts
from pytest_perfq.contracts import Model
from pytest_perfq.errors import BuildError

# Of onnxruntime's logger, which cannot be asked for its present value; 2 is what it starts with.
SEVERITY_WARNING, SEVERITY_ERROR = 2, 3
# onnxruntime's own operators live in this domain; every one that the optimizer leaves in a graph is a fusion. So are these of
# ONNX itself, which newer opsets export as one node.
CONTRIB = "com.microsoft"
FUSED = frozenset({"Attention", "LayerNormalization", "Gelu"})


def census(counts: Counter[str]) -> str:
    """`Attention:6 BiasGelu:6`, by name; `none` when there is nothing to count."""
    return " ".join(f"{name}:{count}" for name, count in sorted(counts.items())) or "none"


def fuse(source: Path, target: Path, model: Model, device: str) -> Facts:
    """Fuses attention, layer normalization, GELU and embeddings. Raises BuildError when nothing could be fused."""
    from onnxruntime.transformers import optimizer

    # BERT's fusions are those of all encoders here; the optimizer has no other type for DistilBERT and ELECTRA. opt_level 0:
    # the session does onnxruntime's own optimizations later, at the level asked for.
    with quiet():
        fused = optimizer.optimize_model(
            str(source),
            model_type="bert",
            num_heads=int(getattr(model.config, "num_attention_heads", 0)),  # 0: the optimizer reads it off the graph
            hidden_size=int(getattr(model.config, "hidden_size", 0)),
            opt_level=0,
            use_gpu=device == "cuda",
        )
    counts = Counter(node.op_type for node in fused.model.graph.node if node.domain == CONTRIB or node.op_type in FUSED)
    if not counts:
        raise BuildError(
            f"onnxruntime's transformers optimizer found nothing to fuse in {model.source}; "
            "write ort[optimizer=false] to measure the graph without fusions"
        )
    fused.save_model_to_file(str(target))
    return {"fused_nodes": sum(counts.values()), "fused": census(counts)}


def halve(source: Path, target: Path) -> None:
    """fp16 weights, activations and logits; operators without half kernels keep fp32 behind casts."""
    import onnx
    from onnxruntime.transformers.onnx_model import OnnxModel

    with quiet():
        graph = OnnxModel(onnx.load(str(source)))
        graph.convert_float_to_float16(keep_io_types=False)
        graph.save_model_to_file(str(target))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """onnxruntime's tools log and print what facts say; what they skipped is counted instead."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    onnxruntime.set_default_logger_severity(SEVERITY_ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        onnxruntime.set_default_logger_severity(SEVERITY_WARNING)
