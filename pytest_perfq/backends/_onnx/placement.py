"""Which provider every node of a session runs on, and whether that is what was asked for.

`session.disable_cpu_ep_fallback` alone cannot say: onnxruntime deliberately computes shapes on the CPU, so with that key it
refuses nearly every transformer with a free batch or length. Nodes on the CPU are therefore held against what they compute:
integers and truth values derived from shapes may be there, anything in floating point may not.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from pytest_perfq.backends._onnx.optimize import census
from pytest_perfq.errors import BuildError

CPU = "CPUExecutionProvider"
# What shape arithmetic is made of. Membership is necessary, not sufficient: Gather also reads embeddings.
SHAPE_OPERATORS = frozenset(
    "Shape Size Gather Unsqueeze Squeeze Concat Slice Range Cast Add Sub Mul Div Mod Equal Less LessOrEqual Greater"
    " GreaterOrEqual And Or Not Where ConstantOfShape Reshape Expand Identity Constant Min Max ReduceProd Flatten"
    " Transpose".split()
)
FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE})


def assignment(session: Any) -> dict[str, list[tuple[str, str]]]:
    """Provider -> (operator, node name) of the optimized graph. Needs `session.record_ep_graph_assignment_info`."""
    nodes: dict[str, list[tuple[str, str]]] = {}
    for part in session.get_provider_graph_assignment_info():
        nodes.setdefault(part.ep_name, []).extend((node.op_type, node.name) for node in part.get_nodes())
    return nodes


def share(nodes: dict[str, list[tuple[str, str]]], provider: str) -> float:
    """The part of all nodes that is on `provider`, 0 to 1."""
    total = sum(len(part) for part in nodes.values())
    return len(nodes.get(provider, ())) / total if total else 0.0


def float_tensors(graph: onnx.GraphProto) -> set[str]:
    """Names of the tensors of a graph that are, or may be, in floating point: those whose type is unknown count."""
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output, *graph.value_info)}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    named = {name for node in graph.node for name in (*node.input, *node.output) if name}
    return {name for name in named if types.get(name, TensorProto.FLOAT) in FLOATS}


def not_shapes(graph: onnx.GraphProto, on_cpu: list[tuple[str, str]]) -> Counter[str]:
    """Operators among `on_cpu` that do more than shape arithmetic. graph: the optimized one, as the session runs it."""
    floats = float_tensors(graph)
    by_name = {(node.op_type, node.name): node for node in graph.node}
    found: Counter[str] = Counter()
    for operator, name in on_cpu:
        node = by_name.get((operator, name))
        touches = node is None or bool(floats & {*node.input, *node.output})
        # Shape reads the shape of a float tensor and none of its values.
        if operator not in SHAPE_OPERATORS or (touches and operator not in ("Shape", "Size")):
            found[operator] += 1
    return found


def verify(session: Any, provider: str, optimized: Path) -> dict[str, str | int | float | bool]:
    """Facts of the placement. Raises BuildError when a provider other than the CPU leaves it more than shape arithmetic.
    optimized: the graph that the session wrote after its optimizations."""
    nodes = assignment(session)
    facts: dict[str, str | int | float | bool] = {"provider_node_share": round(share(nodes, provider), 4)}
    if provider == CPU:
        return facts
    on_cpu = nodes.get(CPU, [])
    facts["cpu_nodes"] = census(Counter(operator for operator, _ in on_cpu))
    others = set(nodes) - {provider, CPU}
    if others:
        raise BuildError(f"{provider} was asked for and {', '.join(sorted(others))} took nodes of the graph; ask for that one")
    work = not_shapes(onnx.load(str(optimized), load_external_data=False).graph, on_cpu) if on_cpu else Counter()
    if work:
        raise BuildError(
            f"{provider} was asked for and {sum(work.values())} nodes fell back to the CPU ({census(work)}), "
            f"{share(nodes, provider):.0%} of the graph is on it; use another opset or device cpu"
        )
    return facts
