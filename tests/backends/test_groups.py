"""Groups of nodes against graphs whose groups are known: by the architecture, and by construction."""

from __future__ import annotations

from collections import Counter

import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_models import LAYERS, make_model

from pytest_perfq.backends._onnx import exclude, export, groups, optimize
from pytest_perfq.core.quantization import GROUPS
from pytest_perfq.errors import UsageError


def found(graph: onnx.GraphProto) -> dict[str, dict[str, int]]:
    walk = groups.Graph(graph)
    return {name: dict(Counter(node.op_type for node in finder(walk))) for name, finder in groups.FINDERS.items()}


def test_every_named_group_has_a_finder():
    assert set(groups.FINDERS) == set(GROUPS)


@pytest.mark.parametrize(("family", "tables"), [("bert", 3), ("distilbert", 2), ("electra", 3)])
def test_the_decomposed_graph_of_opset_11(family, tables, tmp_path):
    export.export(make_model(family, "question-answering"), 11, tmp_path / "model.onnx")
    norms = 1 + 2 * LAYERS  # one over the embeddings, two a layer
    assert found(onnx.load(str(tmp_path / "model.onnx")).graph) == {
        # mean and variance; epsilon and shift
        "layernorm": {"ReduceMean": 2 * norms, "Add": 2 * norms, **dict.fromkeys(["Sub", "Pow", "Sqrt", "Div", "Mul"], norms)},
        "gelu": {"Div": LAYERS, "Erf": LAYERS, "Add": LAYERS, "Mul": 2 * LAYERS},
        "residual": {"Add": 2 * LAYERS},
        "gather": {"Gather": tables, "Add": tables - 1},
        "softmax": {"Softmax": LAYERS, "Add": LAYERS},
    }


def test_the_graph_that_the_optimizer_fused(tmp_path):
    model = make_model("bert", "question-answering")
    export.export(model, 17, tmp_path / "model.onnx")
    facts = optimize.fuse(tmp_path / "model.onnx", tmp_path / "fused.onnx", model, "cpu")
    assert facts["fused"] == "Attention:2 BiasGelu:2 EmbedLayerNormalization:1 SkipLayerNormalization:4"
    assert found(onnx.load(str(tmp_path / "fused.onnx")).graph) == {
        "layernorm": {"EmbedLayerNormalization": 1, "SkipLayerNormalization": 4},
        "gelu": {"BiasGelu": 2},
        "residual": {"SkipLayerNormalization": 4},
        "gather": {"EmbedLayerNormalization": 1},
        "softmax": {"Attention": 2},
    }


def by_hand() -> onnx.GraphProto:
    """x + (x W), normalized with the difference computed twice and squared by a product; then 0.5 x (1 + erf(x / sqrt 2))
    with the half before the product; then a sum with a constant and a sum of two that nothing normalizes."""
    two = numpy_helper.from_array
    import numpy as np

    constants = {name: np.float32(value) for name, value in {"eps": 1e-6, "root": 1.4142, "one": 1.0, "half": 0.5}.items()}
    weights = {"w": np.eye(4, dtype=np.float32), "scale": np.ones(4, np.float32), "shift": np.zeros(4, np.float32)}
    steps = [
        ("MatMul", "x w", "dense"), ("Add", "dense x", "sum"),
        ("ReduceMean", "sum", "mean"), ("Sub", "sum mean", "centred"), ("Sub", "sum mean", "again"),
        ("Mul", "again again", "square"), ("ReduceMean", "square", "variance"), ("Add", "variance eps", "safe"),
        ("Sqrt", "safe", "deviation"), ("Div", "centred deviation", "normal"), ("Mul", "normal scale", "scaled"),
        ("Add", "scaled shift", "out"),
        ("Mul", "out half", "halved"), ("Div", "out root", "small"), ("Erf", "small", "erf"), ("Add", "erf one", "bell"),
        ("Mul", "halved bell", "gelu"), ("Add", "gelu shift", "biased"), ("Add", "biased x", "y"),
    ]  # fmt: skip
    nodes = [helper.make_node(kind, inputs.split(), [output], name=output) for kind, inputs, output in steps]
    initializers = [two(np.asarray(value), name) for name, value in {**constants, **weights}.items()]
    shape = ["n", 4]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    return helper.make_graph(nodes, "by hand", ends[:1], ends[1:], initializers)


def test_other_spellings_of_the_same_arithmetic():
    names = {group: {node.name for node in finder(groups.Graph(by_hand()))} for group, finder in groups.FINDERS.items()}
    assert names["layernorm"] == set("mean centred again square variance safe deviation normal scaled out".split())
    assert names["gelu"] == set("halved small erf bell gelu".split())
    assert names["residual"] == {"sum"}
    assert names["gather"] == names["softmax"] == set()


def test_entries_are_groups_names_and_globs():
    chosen = exclude.excluded(by_hand(), ("residual", "dense", "s*e"), "a model")
    assert chosen == {"residual": ["sum"], "dense": ["dense"], "s*e": ["square", "safe"]}


def test_an_entry_that_matches_nothing_names_what_is_near():
    with pytest.raises(UsageError) as caught:
        exclude.excluded(by_hand(), ("vaiance",), "tiny:hand")
    assert str(caught.value).startswith(
        "exclude entry 'vaiance' matches none of the 19 nodes of tiny:hand; near names: variance"
    )
    with pytest.raises(UsageError) as caught:
        exclude.excluded(by_hand(), ("softmax",), "tiny:hand")
    assert str(caught.value) == (
        "exclude entry 'softmax' matches none of the 19 nodes of tiny:hand; groups that it has: layernorm, gelu, residual"
    )


def test_nodes_without_a_name_get_one_each():
    graph = by_hand()
    for node in graph.node:
        node.name = "" if node.op_type == "Add" else node.name
    exclude.name_nodes(graph)
    names = [node.name for node in graph.node]
    assert len(set(names)) == len(names) == 19
    assert "Add_1" in names and "dense" in names
