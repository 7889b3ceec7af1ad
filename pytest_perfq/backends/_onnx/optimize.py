"""Fusions for transformers and half precision, by onnxruntime's own tools. Checks no numbers."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

from pytest_perfq.backends._onnx.cache import Facts
from pytest_perfq.contracts import Model
from pytest_perfq.errors import BuildError

# onnxruntime's own operators live in this domain; every one that the optimizer leaves in a graph is a fusion.
CONTRIB = "com.microsoft"


def census(counts: Counter[str]) -> str:
    """`Attention:6 BiasGelu:6`, by name; `none` when there is nothing to count."""
    return " ".join(f"{name}:{count}" for name, count in sorted(counts.items())) or "none"


def fuse(source: Path, target: Path, model: Model, device: str) -> Facts:
    """Fuses attention, layer normalization, GELU and embeddings. Raises BuildError when nothing could be fused."""
    from onnxruntime.transformers import optimizer

    # BERT's fusions are those of all encoders here; the optimizer has no other type for DistilBERT and ELECTRA. opt_level 0:
    # the session does onnxruntime's own optimizations later, at the level asked for.
    with _silent():
        fused = optimizer.optimize_model(
            str(source),
            model_type="bert",
            num_heads=int(model.config.num_attention_heads),
            hidden_size=int(model.config.hidden_size),
            opt_level=0,
            use_gpu=device == "cuda",
        )
    counts = Counter(node.op_type for node in fused.model.graph.node if node.domain == CONTRIB)
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

    with _silent():
        graph = OnnxModel(onnx.load(str(source)))
        graph.convert_float_to_float16(keep_io_types=False)
        graph.save_model_to_file(str(target))


class _silent:
    """onnxruntime's tools log what facts say; their warnings of skipped fusions are counted instead."""

    def __enter__(self) -> None:
        self.before = logging.root.manager.disable
        logging.disable(logging.WARNING)

    def __exit__(self, *_: Any) -> None:
        logging.disable(self.before)
