"""The groups of nodes that a quantization may leave in floating point, found by their shape in the graph and not by name.

    layernorm  mean, difference, square, variance, root, quotient, scale, shift; or the one node that does it all
    gelu       x/sqrt(2), erf, +1, two products; or the one node
    residual   the sum that a layer normalization reads; or the node that fuses the two
    gather     the look-ups of embedding tables and the sums over them; or the node that fuses them
    softmax    the softmax and the sum that adds its mask; or the attention node that holds both

Decomposed or fused by whatever tool: a node belongs to a group when it does the group's arithmetic. Source of the groups:
the node exclusions of optimum's runs. Knows no quantizer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import onnx

LAYERNORMS = frozenset({"LayerNormalization", "SkipLayerNormalization", "EmbedLayerNormalization"})
GELUS = frozenset({"Gelu", "BiasGelu", "FastGelu", "QuickGelu"})
ATTENTIONS = frozenset({"Attention", "MultiHeadAttention", "PackedAttention", "PackedMultiHeadAttention"})
Nodes = list[onnx.NodeProto]


@dataclass(frozen=True)
class Graph:
    """A graph that can be walked both ways."""

    proto: onnx.GraphProto

    @cached_property
    def made_by(self) -> dict[str, onnx.NodeProto]:
        """Tensor -> the node that makes it."""
        return {name: node for node in self.proto.node for name in node.output if name}

    @cached_property
    def read_by(self) -> dict[str, Nodes]:
        """Tensor -> the nodes that read it."""
        readers: dict[str, Nodes] = {}
        for node in self.proto.node:
            for name in {name for name in node.input if name}:
                readers.setdefault(name, []).append(node)
        return readers

    @cached_property
    def constants(self) -> set[str]:
        """Tensors that no input reaches: weights, constants, and aliases of them."""
        found = {tensor.name for tensor in self.proto.initializer}
        for node in self.proto.node:  # in topological order, as ONNX demands
            if node.op_type == "Constant" or (node.op_type == "Identity" and node.input[0] in found):
                found |= set(node.output)
        return found

    def maker(self, tensor: str, operator: str) -> onnx.NodeProto | None:
        """The node that makes a tensor, if it is of this type."""
        node = self.made_by.get(tensor)
        return node if node is not None and node.op_type == operator else None

    def readers(self, node: onnx.NodeProto, operator: str) -> Nodes:
        """Nodes of this type that read the first output of a node."""
        return [reader for reader in self.read_by.get(node.output[0], []) if reader.op_type == operator]

    def computed(self, node: onnx.NodeProto) -> list[str]:
        """Inputs of a node that are not constants."""
        return [name for name in node.input if name and name not in self.constants]


def _decomposed_layernorms(graph: Graph) -> Iterator[tuple[str, Nodes]]:
    """(what is normalized, the nodes) of each (x - mean) / sqrt(mean((x - mean)^2) + eps) * scale + shift."""
    for quotient in graph.proto.node:
        if quotient.op_type != "Div":
            continue
        difference, root = graph.maker(quotient.input[0], "Sub"), graph.maker(quotient.input[1], "Sqrt")
        shifted = root and graph.maker(root.input[0], "Add")
        variances = [graph.maker(name, "ReduceMean") for name in graph.computed(shifted)] if shifted else []
        variance = variances[0] if variances else None
        square = variance and (graph.maker(variance.input[0], "Pow") or graph.maker(variance.input[0], "Mul"))
        mean = difference and graph.maker(difference.input[1], "ReduceMean")
        # Some exporters compute the difference twice, once for the quotient and once for the square.
        second = square and graph.maker(square.input[0], "Sub")
        if not (difference and root and shifted and variance and square and mean and second):
            continue
        if mean.input[0] != difference.input[0] or second.input[0] != difference.input[0]:
            continue
        nodes = [mean, difference, square, variance, shifted, root, quotient, *([second] if second is not difference else [])]
        scaled = graph.readers(quotient, "Mul")
        nodes += scaled + [
            shift for scale in scaled for shift in graph.readers(scale, "Add") if len(graph.computed(shift)) == 1
        ]
        yield difference.input[0], nodes


def layernorm(graph: Graph) -> Nodes:
    fused = [node for node in graph.proto.node if node.op_type in LAYERNORMS]
    return fused + [node for _, nodes in _decomposed_layernorms(graph) for node in nodes]


def gelu(graph: Graph) -> Nodes:
    nodes = [node for node in graph.proto.node if node.op_type in GELUS]
    for erf in (node for node in graph.proto.node if node.op_type == "Erf"):
        scaled = graph.maker(erf.input[0], "Div") or graph.maker(erf.input[0], "Mul")
        sums = graph.readers(erf, "Add")
        if not (scaled and sums):
            continue
        product = graph.readers(sums[0], "Mul")
        nodes += [scaled, erf, sums[0], *product]
        for one in product:
            # The factor 1/2 stands before the product with x, or after it.
            before = [graph.maker(name, "Mul") for name in one.input if name != sums[0].output[0]]
            nodes += [node for node in before if node and len(graph.computed(node)) == 1]
            nodes += [node for node in graph.readers(one, "Mul") if len(graph.computed(node)) == 1]
    return nodes


def residual(graph: Graph) -> Nodes:
    nodes = [node for node in graph.proto.node if node.op_type == "SkipLayerNormalization"]
    read = [tensor for tensor, _ in _decomposed_layernorms(graph)]
    read += [node.input[0] for node in graph.proto.node if node.op_type == "LayerNormalization"]
    embedded = {name for node in gather(graph) for name in node.output}
    sums = [graph.maker(tensor, "Add") for tensor in dict.fromkeys(read)]
    return nodes + [one for one in sums if one and len(graph.computed(one)) == 2 and one.output[0] not in embedded]


def gather(graph: Graph) -> Nodes:
    tables = {tensor.name for tensor in graph.proto.initializer if len(tensor.dims) == 2}
    nodes: Nodes = []
    looked_up: set[str] = set()
    for node in graph.proto.node:
        inputs = graph.computed(node)
        table = node.op_type == "Gather" and _origin(graph, node.input[0]) in tables
        over = node.op_type == "Add" and bool(inputs) and set(inputs) <= looked_up
        if table or over or node.op_type == "EmbedLayerNormalization":
            nodes.append(node)
            looked_up |= set(node.output)
    return nodes


def _origin(graph: Graph, tensor: str) -> str:
    """The tensor behind aliases."""
    while (node := graph.maker(tensor, "Identity")) is not None:
        tensor = node.input[0]
    return tensor


def softmax(graph: Graph) -> Nodes:
    nodes = [node for node in graph.proto.node if node.op_type in ATTENTIONS]
    for node in (node for node in graph.proto.node if node.op_type == "Softmax"):
        nodes.append(node)
        masked = graph.maker(node.input[0], "Add") or graph.maker(node.input[0], "Where")
        nodes += [masked] if masked else []
    return nodes


FINDERS: dict[str, Callable[[Graph], Nodes]] = {
    "layernorm": layernorm,
    "gelu": gelu,
    "residual": residual,
    "gather": gather,
    "softmax": softmax,
}
