"""onnxruntime: what is refused and in which words, what facts say, and that no other model is ever run instead."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto
from tiny_models import eager_logits, make_batch, make_case, make_model, no_calibration

from pytest_perfq import registry
from pytest_perfq.backends import _refusals
from pytest_perfq.backends._onnx import export, options, placement, session
from pytest_perfq.backends._onnx.program import OrtProgram
from pytest_perfq.core.quantization import Dynamic
from pytest_perfq.errors import BuildError, ProgramError, UnknownName, UsageError

ORT = registry.load("backend", "ort")


def build(model, backend, resources, **fields):
    case = make_case(backend, **fields)
    assert ORT.refuses(case) == []
    return ORT.build(case, model, resources, no_calibration)


def test_defaults():
    assert options.read(make_case("ort")) == options.Options(opset=17, level=99, optimizer=True, provider="cpu")
    asked = options.read(make_case("ort[opset=11,level=1,optimizer=false,provider=tensorrt]", device="cuda"))
    assert asked == options.Options(11, 1, False, "tensorrt")
    assert asked.provider_name == "TensorrtExecutionProvider"


@pytest.mark.parametrize(
    ("backend", "kind", "sentence"),
    [
        ("ort[opsett=11]", UnknownName, "unknown option of backend ort 'opsett'; did you mean 'opset'?"),
        ("ort[opset=10]", UsageError, "option opset of backend ort is 10; give at least 11"),
        ("ort[opset=99]", UsageError, "opset of backend ort is 99; torch exports 11 to"),
        ("ort[level=3]", UsageError, "option level of backend ort is 3; it takes 0, 1, 2, 99"),
        ("ort[optimizer=1]", UsageError, "option optimizer of backend ort is 1; it takes "),
        ("ort[provider=tensort]", UnknownName, "unknown provider of backend ort 'tensort'; did you mean 'tensorrt'?"),
    ],
)
def test_options_that_cannot_be(backend, kind, sentence):
    with pytest.raises(kind) as caught:
        ORT.refuses(make_case(backend))
    assert str(caught.value).startswith(sentence)


def test_a_provider_of_another_device_is_a_refusal():
    """A sweep over both devices, or over `auto`, holds such combinations without anybody's mistake."""
    reasons = ORT.refuses(make_case("ort[provider=cuda]"))
    assert reasons == ["provider cuda runs on device cuda, and the case has cpu: set device to cuda"]
    assert ORT.refuses(make_case("ort[provider=cpu]", device="cuda"))[0].startswith("provider cpu runs on device cpu, and")


def test_without_onnxruntime_it_names_the_extra(monkeypatch):
    from pytest_perfq.backends import ort

    monkeypatch.setattr(ort, "find_spec", lambda name: None if name.startswith("onnxruntime") else object())
    assert ORT.refuses(make_case("ort")) == ["backend ort needs onnxruntime: pip install 'pytest-perfq[onnxruntime]'"]
    sentence = "backend ort needs onnxruntime: pip install 'pytest-perfq[onnxruntime-gpu]'"
    assert ORT.refuses(make_case("ort", device="cuda")) == [sentence]


def test_a_provider_that_is_not_there_names_those_that_are(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["AzureExecutionProvider", "CPUExecutionProvider"])
    sentence = "has no CUDAExecutionProvider, only AzureExecutionProvider, CPUExecutionProvider: install onnxruntime-gpu"
    assert sentence in ORT.refuses(make_case("ort", device="cuda"))[0]


def test_a_machine_without_a_driver(tmp_path, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(options.PROVIDERS.values()))
    sentence = "device cuda needs an NVIDIA GPU and its driver, and this machine shows none: use device cpu"
    assert _refusals.nvidia_driver(tmp_path) == [sentence]
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidiactl").touch()
    assert _refusals.nvidia_driver(tmp_path) == []
    monkeypatch.setattr(_refusals, "nvidia_driver", lambda: [sentence])
    assert ORT.refuses(make_case("ort", device="cuda")) == [sentence]
    assert ORT.refuses(make_case("ort")) == []


def test_precisions(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(options.PROVIDERS.values()))
    monkeypatch.setattr(_refusals, "nvidia_driver", list)
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    assert ORT.refuses(make_case("ort", precision="fp16"))[0].startswith("fp16 on a CPU is emulated")
    assert ORT.refuses(make_case("ort", precision="bf16"))[0].startswith("onnxruntime has no bf16 kernels")
    for precision in ("fp32", "tf32", "fp16"):
        assert ORT.refuses(make_case("ort", precision=precision, device="cuda")) == []
    tensorrt = make_case("ort[provider=tensorrt]", device="cuda")
    assert ORT.refuses(tensorrt)[0].startswith(
        "TensorRT computes fp32 in TF32: use precision tf32, or set NVIDIA_TF32_OVERRIDE=0"
    )
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    assert ORT.refuses(tensorrt) == []


def test_what_the_providers_are_told():
    cuda = [session.Plan("CUDAExecutionProvider", precision, 99, 1).provider_options() for precision in ("fp32", "tf32")]
    assert [one["use_tf32"] for one in cuda] == ["0", "1"]
    tensorrt = [
        session.Plan("TensorrtExecutionProvider", precision, 99, 1).provider_options() for precision in ("fp32", "fp16")
    ]
    assert [one["trt_fp16_enable"] for one in tensorrt] == ["0", "1"]


@pytest.mark.parametrize(("opset", "level"), [(11, 0), (11, 1), (11, 2), (11, 99), (14, 99), (17, 99), (20, 99)])
def test_every_opset_and_level_gives_the_same_logits(opset, level, bert, shared_resources):
    batch = make_batch(bert, (20, 7), 24)
    wanted = eager_logits(bert, batch)
    for optimizer in ("true", "false"):
        program = build(bert, f"ort[opset={opset},level={level},optimizer={optimizer}]", shared_resources)
        got = program.predict(batch)
        assert np.abs(got["end_logits"] - wanted["end_logits"])[batch.arrays["attention_mask"] == 1].max() < 2e-5
        assert (program.facts["opset"], program.facts["level"]) == (opset, level)
        assert program.facts["max_abs_difference"] < 2e-5
        assert program.facts.get("fused_nodes") == (9 if optimizer == "true" else None)


@pytest.mark.slow
def test_the_newest_opset_has_an_attention_of_its_own(bert, shared_resources):
    program = build(bert, f"ort[opset={export.newest_opset()},optimizer=false]", shared_resources)
    batch = make_batch(bert, (20, 7), 24)
    got, wanted = program.predict(batch), eager_logits(bert, batch)
    assert np.abs(got["end_logits"] - wanted["end_logits"])[batch.arrays["attention_mask"] == 1].max() < 2e-5
    path = next(path for path in shared_resources.cache.rglob("*.onnx") if _opset(path) == export.newest_opset())
    assert Counter(node.op_type for node in onnx.load(str(path)).graph.node)["Attention"] == 2
    int8 = build(bert, f"ort[opset={export.newest_opset()},optimizer=false]", shared_resources, quantization=Dynamic("MatMul"))
    assert int8.facts["quantized"] == "MatMul:13"  # six a layer and the head's; those of attention are inside its node


def _opset(path):
    return next(one.version for one in onnx.load(str(path)).opset_import if not one.domain)


def test_facts(resources):
    model = make_model("distilbert", "token-classification")
    first, second = build(model, "ort", resources), build(model, "ort", resources)
    assert (first.facts["cache_hit"], second.facts["cache_hit"]) == (False, True)
    assert {name: second.facts[name] for name in first.facts if name != "cache_hit"} == {
        name: value for name, value in first.facts.items() if name != "cache_hit"
    }
    assert first.facts["provider"] == "CPUExecutionProvider"
    assert first.facts["provider_node_share"] == 1.0
    assert first.facts["threads"] == 1
    assert first.facts["fused"] == "Attention:2 BiasGelu:2 EmbedLayerNormalization:1 SkipLayerNormalization:4"
    assert 0 <= first.facts["export_max_abs_difference"] < 1e-5
    assert first.bytes == max(
        path.stat().st_size for path in resources.cache.rglob("*.onnx") if b"BiasGelu" in path.read_bytes()
    )


def test_threads_are_set(bert, tmp_path):
    from pytest_perfq.contracts import Resources

    program = build(bert, "ort", Resources(cache=tmp_path, threads=3))
    settings = program._session.get_session_options()
    assert (settings.intra_op_num_threads, settings.inter_op_num_threads) == (3, 1)
    assert settings.execution_mode == onnxruntime.ExecutionMode.ORT_SEQUENTIAL


def test_damage_in_the_cache_is_noticed(bert, tmp_path):
    from pytest_perfq.contracts import Resources

    said = []
    resources = Resources(cache=tmp_path, progress=said.append)
    batch = make_batch(bert, (5,), 5)
    wanted = build(bert, "ort", resources).predict(batch)["start_logits"]
    for path in tmp_path.rglob("model.onnx"):
        path.write_bytes(path.read_bytes()[:-10])
    said.clear()
    program = build(bert, "ort", resources)
    assert sum("is damaged (model.onnx does not have its checksum); building it again" in line for line in said) == 2
    assert not program.facts["cache_hit"]
    np.testing.assert_array_equal(program.predict(batch)["start_logits"], wanted)


def test_an_export_of_another_model_is_not_used(bert, resources, monkeypatch):
    other = make_model("bert", "question-answering", seed=8)
    monkeypatch.setattr(export, "export", lambda model, opset, path, real=export.export: real(other, opset, path))
    with pytest.raises(BuildError) as caught:
        build(bert, "ort", resources)
    sentence = str(caught.value)
    assert sentence.startswith("the export at opset 17 of tiny:bert differs from eager by ")
    assert sentence.endswith("it is not the same model: try another opset")
    assert list(resources.cache.rglob("*.onnx")) == []


def test_a_model_without_anything_to_fuse(bert, resources, monkeypatch):
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.onnx_model import OnnxModel

    monkeypatch.setattr(optimizer, "optimize_model", lambda path, **_: OnnxModel(onnx.load(path)))
    with pytest.raises(BuildError, match=r"found nothing to fuse in tiny:bert; write ort\[optimizer=false\]"):
        build(bert, "ort[opset=11]", resources)


def test_a_graph_that_onnxruntime_cannot_open(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(BuildError, match=r"cannot open the graph on CPUExecutionProvider: .*; try another opset or level"):
        session.open_session(path, session.Plan(placement.CPU, "fp32", 99, 1))


class Broken:
    def __init__(self, message):
        self.message = message

    def run_with_iobinding(self, binding):
        raise RuntimeError(self.message)


def test_failures_while_running_are_sentences(bert, shared_resources):
    program = build(bert, "ort", shared_resources)
    feed = program.feed(make_batch(bert, (5, 5), 8))
    program._session = Broken(
        "[ONNXRuntimeError] : BFCArena::AllocateRawInternal Failed to allocate memory for buffer of size 1"
    )
    with pytest.raises(ProgramError) as caught:
        program.run(feed)
    assert str(caught.value).startswith("out of memory while running a batch of 2 x 8 on CPUExecutionProvider: ")
    assert str(caught.value).endswith("; use a smaller batch_size or seq_len")
    program._session = Broken("Non-zero status code\nmore")
    with pytest.raises(ProgramError, match=r"onnxruntime failed while running a batch of 2 x 8 .*: Non-zero status code; see"):
        program.run(feed)


def test_half_precision_files(bert, tmp_path):
    """Made for cuda; onnxruntime's CPU provider can run the file too, behind casts, which shows that it is the same model."""
    from pytest_perfq.backends import _check
    from pytest_perfq.backends._onnx import optimize

    export.export(bert, 17, tmp_path / "model.onnx")
    optimize.fuse(tmp_path / "model.onnx", tmp_path / "fused.onnx", bert, "cpu")
    optimize.halve(tmp_path / "fused.onnx", tmp_path / "half.onnx")
    graph = onnx.load(str(tmp_path / "half.onnx")).graph
    assert {tensor.data_type for tensor in graph.initializer if len(tensor.dims) == 2} == {TensorProto.FLOAT16}
    plan = session.Plan(placement.CPU, "fp16", 99, 1)
    opened, _ = session.open_session(tmp_path / "half.onnx", plan)
    program = OrtProgram(opened, plan, (bert.inputs, bert.outputs), 0)
    gap = _check.faithful(bert, program.predict, "fp16", "a half", "mend it")
    assert 1e-5 < gap < 2e-2
