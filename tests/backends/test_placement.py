"""Where nodes run: shape arithmetic may stay on the CPU, work may not, and no other provider may step in."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from pytest_perfq.backends._onnx import export, placement, session
from pytest_perfq.errors import BuildError


class Part:
    """A subgraph as onnxruntime reports it."""

    def __init__(self, provider, *nodes):
        self.ep_name, self._nodes = provider, nodes

    def get_nodes(self):
        return self._nodes


class Session:
    def __init__(self, *parts):
        self._parts = parts

    def get_provider_graph_assignment_info(self):
        return self._parts


def mixed(tmp_path):
    """x [n, 4] floats -> its shape -> a length; and a look-up in a float table."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"], name="shape"),
        helper.make_node("Gather", ["shape", "zero"], ["rows"], name="rows"),
        helper.make_node("Gather", ["table", "rows"], ["looked_up"], name="look up"),
        helper.make_node("Add", ["x", "looked_up"], ["y"], name="sum"),
    ]
    initializers = [
        helper.make_tensor("zero", TensorProto.INT64, [], [0]),
        helper.make_tensor("table", TensorProto.FLOAT, [2, 4], [0.0] * 8),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy"]
    between = [
        helper.make_tensor_value_info("shape", TensorProto.INT64, [2]),
        helper.make_tensor_value_info("rows", TensorProto.INT64, []),
    ]
    path = tmp_path / "optimized.onnx"
    onnx.save(
        helper.make_model(helper.make_graph(nodes, "mixed", ends[:1], ends[1:], initializers, value_info=between)), str(path)
    )
    return path, {node.name: node for node in nodes}


def test_shapes_may_be_computed_on_the_cpu(tmp_path):
    path, nodes = mixed(tmp_path)
    session_ = Session(
        Part("CUDAExecutionProvider", nodes["look up"], nodes["sum"]), Part(placement.CPU, nodes["shape"], nodes["rows"])
    )
    facts = placement.verify(session_, "CUDAExecutionProvider", path)
    assert facts == {"provider_node_share": 0.5, "cpu_nodes": "Gather:1 Shape:1"}


def test_work_on_the_cpu_is_an_error(tmp_path):
    path, nodes = mixed(tmp_path)
    cpu = Part(placement.CPU, nodes["shape"], nodes["rows"], nodes["look up"])
    with pytest.raises(BuildError) as caught:
        placement.verify(Session(Part("CUDAExecutionProvider", nodes["sum"]), cpu), "CUDAExecutionProvider", path)
    assert str(caught.value) == (
        "CUDAExecutionProvider was asked for and 1 nodes fell back to the CPU (Gather:1), 25% of the graph is on it; "
        "use another opset or device cpu"
    )
    with pytest.raises(BuildError, match=r"1 nodes fell back to the CPU \(Add:1\)"):
        placement.verify(
            Session(Part("CUDAExecutionProvider", nodes["rows"]), Part(placement.CPU, nodes["sum"])),
            "CUDAExecutionProvider",
            path,
        )


def test_another_accelerator_is_an_error(tmp_path):
    path, nodes = mixed(tmp_path)
    parts = Part("TensorrtExecutionProvider", nodes["sum"]), Part("CUDAExecutionProvider", nodes["look up"])
    with pytest.raises(BuildError, match="TensorrtExecutionProvider was asked for and CUDAExecutionProvider took nodes"):
        placement.verify(Session(*parts), "TensorrtExecutionProvider", path)


def test_a_session_of_another_provider_is_an_error(bert, tmp_path):
    """onnxruntime built without CUDA opens a CPU session when asked for CUDA, and only prints a line."""
    export.export(bert, 17, tmp_path / "model.onnx")
    with pytest.warns(UserWarning, match="not in available"), pytest.raises(BuildError) as caught:
        session.open_session(tmp_path / "model.onnx", session.Plan("CUDAExecutionProvider", "fp32", 99, 1))
    assert str(caught.value) == (
        "CUDAExecutionProvider was asked for and onnxruntime opened CPUExecutionProvider; "
        "check its libraries with `perfq doctor` or use device cpu"
    )


def test_a_session_that_may_not_use_the_cpu_is_opened_first(bert, tmp_path, monkeypatch):
    """And where onnxruntime refuses it, a second one that shows its graph; a recording of what it says on a GPU."""
    opened = []

    class Recorded(Session):
        def __init__(self, path, session_options, providers):
            strict = bool(session_options.has_session_config_entry("session.disable_cpu_ep_fallback"))
            opened.append((strict, bool(session_options.optimized_model_filepath), providers[0][0]))
            if strict:
                raise RuntimeError(
                    "graph nodes that are assigned to the default CPU EP, but fallback to CPU EP has been "
                    "explicitly disabled by the user."
                )
            super().__init__(Part("CUDAExecutionProvider", *work), Part(placement.CPU, *shapes))
            mixed_path.replace(session_options.optimized_model_filepath)

        def get_providers(self):
            return ["CUDAExecutionProvider", placement.CPU]

        def disable_fallback(self):
            pass

    mixed_path, nodes = mixed(tmp_path)
    work, shapes = [nodes["look up"], nodes["sum"]], [nodes["shape"], nodes["rows"]]
    monkeypatch.setattr(session.onnxruntime, "SessionOptions", Options)
    monkeypatch.setattr(session.onnxruntime, "InferenceSession", Recorded)
    _, facts = session.open_session(tmp_path / "model.onnx", session.Plan("CUDAExecutionProvider", "fp32", 99, 1))
    assert opened == [(True, False, "CUDAExecutionProvider"), (False, True, "CUDAExecutionProvider")]
    assert facts == {"provider_node_share": 0.5, "cpu_nodes": "Gather:1 Shape:1", "cpu_fallback_disabled": False}


class Options:
    """As much of onnxruntime's SessionOptions as is used, with a way to ask."""

    optimized_model_filepath = ""

    def __init__(self):
        self.entries = {}

    def add_session_config_entry(self, name, value):
        self.entries[name] = value

    def has_session_config_entry(self, name):
        return self.entries.get(name) == "1"
