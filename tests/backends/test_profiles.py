"""Where programs say their time goes, held against what they are made of: modules of the model, nodes of the graph."""

from __future__ import annotations

import json
from collections import Counter

import onnx
import onnxruntime
import pytest
import torch
from tiny_models import make_batch, make_case, make_model, no_calibration

from pytest_perfq import registry
from pytest_perfq.backends import _profile
from pytest_perfq.backends._onnx import options, pipeline, session
from pytest_perfq.backends._onnx import profile as onnx_profile
from pytest_perfq.backends._onnx.program import OrtProgram
from pytest_perfq.core.operators import explain, sentence
from pytest_perfq.errors import ProgramError

CALLS = 3


def build(backend, model, resources):
    case = make_case(backend)
    found = registry.load("backend", case.backend.name)
    assert found.refuses(case) == []
    return found.build(case, model, resources, no_calibration)


def profiled(program, model):
    """Operators of one forward pass, after a look at what came of them."""
    found = program.profile(program.feed(make_batch(model, (12, 9), 16)), CALLS)
    assert all(calls % CALLS == 0 and ns >= 0 for calls, ns in found.values())
    return {name: (calls / CALLS, ns / CALLS) for name, (calls, ns) in found.items()}


def linears(model):
    return sum(isinstance(one, torch.nn.Linear) for one in model.module.modules())


@pytest.mark.parametrize("backend", ["eager", "torchscript"])
def test_operators_of_pytorch_are_those_of_its_modules(backend, bert, shared_resources):
    program = build(backend, bert, shared_resources)
    found = profiled(program, bert)
    assert found["addmm" if backend == "eager" else "linear"][0] == linears(bert)
    norms = sum(isinstance(one, torch.nn.LayerNorm) for one in bert.module.modules())
    assert found["layer_norm"][0] == norms
    assert sum(ns for _, ns in found.values()) > 0
    assert not [name for name in found if name.startswith("aten::")]


def test_an_added_operator_is_named(shared_resources):
    model = make_model("bert", "question-answering")
    before = profiled(build("eager", model, shared_resources), model)
    handle = model.module.qa_outputs.register_forward_hook(lambda module, given, output: torch.erfinv(output.tanh() * 0.5))
    after = profiled(build("eager", model, shared_resources), model)
    handle.remove()
    tanh = before.get("tanh", (0, 0))[0]
    assert "erfinv" not in before and after["erfinv"][0] == 1 and after["tanh"][0] == tanh + 1
    found = explain({"linear": before["linear"]}, {"linear": before["linear"], "erfinv": after["erfinv"]}, 0)
    assert "1 new erfinv" in sentence(found)


def test_a_compiled_graph_has_one_name_in_every_process():
    call, values = torch.compile(lambda given: torch.nn.functional.gelu(given * 2.0) + 1.0), torch.ones(64)
    found = _profile.operators(lambda: call(values), CALLS, cuda=False)
    assert found["compiled graph"][1] > 0
    assert not [name for name in found if "FxGraph" in name or "Region" in name]


def test_kernels_are_called_by_their_bare_names():
    full = "void at::native::vectorized_elementwise_kernel<4, at::native::GeluCUDAKernelImpl(at::TensorIteratorBase&)>(int)"
    assert _profile._kernel(full) == "at::native::vectorized_elementwise_kernel"
    assert _profile._kernel("Memcpy HtoD (Pinned -> Device)") == "Memcpy HtoD"
    assert _profile._kernel("ampere_sgemm_32x128_tn") == "ampere_sgemm_32x128_tn"


def nodes(program, level, tmp_path):
    """Operators of the graph that onnxruntime runs at a level, as it writes it itself."""
    asked = onnxruntime.SessionOptions()
    asked.graph_optimization_level = session.LEVELS[level]
    asked.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    asked.log_severity_level = session.FATAL
    onnxruntime.InferenceSession(str(program._path), asked, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)


@pytest.mark.parametrize("level", [0, 99])
def test_operators_of_onnxruntime_are_the_nodes_it_runs(level, bert, shared_resources, tmp_path):
    program = build(f"ort[level={level},optimizer=false]", bert, shared_resources)
    found = profiled(program, bert)
    # Constants are no work, and are not run again.
    wanted = {name: count for name, count in nodes(program, level, tmp_path).items() if name != "Constant"}
    assert {name: calls for name, (calls, _) in found.items()} == wanted


def test_less_optimization_is_more_operators_and_the_sentence_names_them(bert, shared_resources):
    best, worst = (profiled(build(f"ort[level={level},optimizer=false]", bert, shared_resources), bert) for level in (99, 0))
    assert sum(calls for calls, _ in worst.values()) > sum(calls for calls, _ in best.values())
    gone = {name for name in best if name not in worst}
    assert any("Fused" in name or name == "LayerNormalization" or name == "Gelu" for name in gone)
    found = explain(best, worst, sum(ns for _, ns in worst.values()) - sum(ns for _, ns in best.values()))
    became = [one.text for one in found.clauses if " became " in one.text]
    assert became and any(name in became[0] for name in gone)
    assert abs(found.outside_ns) < 1.0


def test_the_timed_session_is_not_the_profiled_one(bert, shared_resources, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    program = build("ort", bert, shared_resources)
    timed = program._session
    profiled(program, bert)
    assert program._session is timed
    assert not list(tmp_path.iterdir())  # nor does a profile lie about
    assert set(program.predict(make_batch(bert, (12, 9), 16))) == set(bert.outputs)


def test_a_session_from_nowhere_says_so(bert, shared_resources):
    case = make_case("ort")
    walk = pipeline.Walk(case, options.read(case), bert, shared_resources, no_calibration)
    built = pipeline.build(walk)
    program = OrtProgram(built._session, walk.plan, (bert.inputs, bert.outputs), 0)
    with pytest.raises(ProgramError, match="opened from no file that is still known; it cannot be profiled"):
        program.profile(program.feed(make_batch(bert, (12, 9), 16)), 1)


def test_warm_up_runs_are_not_counted(tmp_path):
    events = [
        {"cat": "Session", "name": "model_run", "ts": 10 * number, "dur": 9, "args": {}} for number in range(3)
    ] + [
        {"cat": "Node", "name": f"/m/MatMul{kind}", "ts": 10 * number + 1, "dur": 5, "args": {"op_name": "MatMul"}}
        for number in range(3) for kind in ("_fence_before", "_kernel_time")
    ]  # fmt: skip
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(events))
    assert onnx_profile.operators(path, 1) == {"MatMul": (1, 5000)}
    assert onnx_profile.operators(path, 3) == {"MatMul": (3, 15000)}
