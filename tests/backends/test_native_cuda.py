"""The native backend's CUDA half as far as no GPU is needed: who is refused in which words, the encoder that a GPU would get on
emulated kernels, and what it says of itself."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import tolerance
import torch
from native_programs import NATIVE, SHAPES
from tiny_models import eager_logits, make_batch, make_case, make_model

from pytest_perfq import registry
from pytest_perfq.backends import _refusals
from pytest_perfq.backends._native import gpu_refusals, machine
from pytest_perfq.backends._native.machine import Gpu, Machine
from pytest_perfq.backends._native.program import NativeProgram
from pytest_perfq.contracts import Lack
from pytest_perfq.core.quantization import Dynamic, Static
from pytest_perfq.errors import BuildError, UnknownName
from pytest_perfq.kernels import cuda_toolkit, graphs, packing, toolchain, weights
from pytest_perfq.kernels.cuda_ops import Problem

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kernels"))
from emulated import load as load_emulated

EIGHT = Dynamic("MatMul", type="fp8")
H100, T4 = gpu_refusals.Gpus(1, "NVIDIA H100", (9, 0)), gpu_refusals.Gpus(2, "Tesla T4", (7, 5))


@pytest.fixture
def gpu(lasting_resources):
    if reason := toolchain.unavailable():
        pytest.skip(reason)
    return Gpu(load_emulated(lasting_resources.cache), torch.device("cpu"), (9, 0))


def play(call):
    return call


def test_a_machine_without_a_driver_or_with_a_cpu_build_is_told(monkeypatch):
    monkeypatch.setattr(toolchain, "unavailable", lambda: None)
    lacks = "device cuda needs an NVIDIA GPU and its driver, and this machine shows none: use device cpu"
    monkeypatch.setattr(_refusals, "nvidia_driver", lambda: [Lack(lacks)])
    assert NATIVE.refuses(make_case("native", device="cuda")) == [lacks]
    monkeypatch.setattr(_refusals, "nvidia_driver", list)
    monkeypatch.setattr(cuda_toolkit, "torch_cuda", lambda: None)
    reasons = NATIVE.refuses(make_case("native", device="cuda"))
    assert reasons == ["device cuda needs a CUDA build of PyTorch, and this is a CPU build: install one or use device cpu"]
    assert all(isinstance(one, Lack) for one in reasons)


@pytest.mark.parametrize(
    ("backend", "gpus", "fields", "reason"),
    [
        ("native", gpu_refusals.Gpus(1, "Tesla V100", (7, 0)), {},
         "the native CUDA kernels need compute capability 7.5; Tesla V100 has 7.0: use backend eager"),
        ("native", H100, {"tp": 2},
         "tp=2 and pp=1 need 2 GPUs, one a process, and this machine shows 1 GPU: use fewer"),
        ("native", T4, {"tp": 2, "pp": 2},
         "tp=2 and pp=2 need 4 GPUs, one a process, and this machine shows 2 GPUs: use fewer"),
        ("native[attention=torch]", T4, {"precision": "fp16"},
         "torch's varlen_attn needs compute capability 8.0, and this GPU has 7.5: use attention=ours"),
        ("native[attention=torch]", H100, {},
         "torch's varlen_attn takes float16 and bfloat16, and this encoder computes in float32: use attention=ours"),
        ("native", T4, {"precision": "bf16", "quantization": EIGHT},
         "fp8 products need compute capability 8.9; Tesla T4 has 7.5: use type int8"),
        ("native[attention=torch]", H100, {"quantization": Static(mode="v2")},
         "mode v2 attends between bytes, and torch's varlen_attn does not: use attention=ours"),
    ],
)  # fmt: skip
def test_what_a_gpu_cannot(backend, gpus, fields, reason):
    assert gpu_refusals.wanted(make_case(backend, device="cuda", **fields), gpus) == [reason]


@pytest.mark.parametrize(
    ("backend", "gpus", "fields"),
    [
        ("native", H100, {}), ("native", T4, {"tp": 2}), ("native[attention=torch]", H100, {"precision": "bf16"}),
        ("native[attention=ours]", T4, {"precision": "fp16"}), ("native[graph=false]", H100, {"precision": "tf32"}),
    ],
)  # fmt: skip
def test_what_a_gpu_can(backend, gpus, fields):
    assert gpu_refusals.wanted(make_case(backend, device="cuda", **fields), gpus) == []


@pytest.mark.parametrize(
    ("backend", "fields", "reason"),
    [
        ("native[bits=w7a7]", {"quantization": Dynamic()},
         "a GPU multiplies eight by eight bits and gains nothing by fewer, and the case has bits=w7a7: use w8a8"),
        ("native", {"quantization": Dynamic(), "precision": "tf32"},
         "tf32 is how fp32 products are rounded, and INT8 has none: use precision fp32, fp16 or bf16"),
    ],
)  # fmt: skip
def test_what_int8_on_a_gpu_is_not(backend, fields, reason, monkeypatch):
    monkeypatch.setattr(gpu_refusals, "machine", lambda case: [])
    monkeypatch.setattr(toolchain, "unavailable", lambda: None)
    assert NATIVE.refuses(make_case(backend, device="cuda", **fields)) == [reason]
    for precision in ("fp32", "fp16", "bf16"):
        assert NATIVE.refuses(make_case("native", device="cuda", precision=precision, quantization=Dynamic())) == []


@pytest.mark.parametrize(
    ("backend", "fields", "reason"),
    [
        ("native", {"device": "cpu"}, "fp8 is multiplied by a GPU, and the case has device cpu: use type int8 or device cuda"),
        ("native", {"precision": "fp32"},
         "products of fp8 come in bf16, which all else then is, and the case asks for fp32: use precision bf16"),
        ("native", {"quantization": Static("MatMul", type="fp8")},
         "native finds the scales of fp8 as it runs, one a token, and calibrates none: use approach dynamic"),
        ("native", {"quantization": Dynamic(mode="v1", type="fp8")},
         "mode v1 is one of INT8, and the case has type fp8: leave mode out"),
        ("native", {"quantization": Dynamic(per_channel=True, type="fp8")},
         "native has one weight scale a channel anyway, and per_channel gives that a second name: leave it out"),
        ("native[bits=w8a8]", {}, "bits=w8a8 says how INT8 is computed, and the case has type fp8: leave bits out"),
        ("native", {"quantization": Dynamic("Add", type="fp8")},
         "native quantizes the linears, which are MatMul, and the case asks for Add: ask for MatMul alone or leave operators out"),
        ("eager", {}, "eager runs in floating point and cannot do fp8-dynamic[MatMul]: backend native, on device cuda, can"),
    ],
)  # fmt: skip
def test_what_fp8_is_not(backend, fields, reason, monkeypatch):
    monkeypatch.setattr(gpu_refusals, "machine", lambda case: [])
    monkeypatch.setattr(toolchain, "unavailable", lambda: None)
    case = make_case(backend, **{"device": "cuda", "precision": "bf16", "quantization": EIGHT} | fields)
    assert reason in registry.load("backend", case.backend.name).refuses(case)
    assert NATIVE.refuses(make_case("native", device="cuda", precision="bf16", quantization=EIGHT)) == []


def test_a_program_in_fp8_is_the_model_within_its_bits_and_says_what_it_is(gpu, monkeypatch, lasting_resources):
    """The whole build of a case, its weights held to eager in fp32 first, on emulated kernels."""
    monkeypatch.setattr(Machine, "encoder", lambda at, whole, recipe, *_: gpu.encoder(whole, recipe, torch.bfloat16, "ours"))
    monkeypatch.setattr(Machine, "place", lambda at: torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100")
    model, told = make_model("bert", "question-answering"), []
    case = make_case("native[graph=false]", device="cuda", precision="bf16", quantization=EIGHT)
    program = NATIVE.build(case, model, dataclasses.replace(lasting_resources, progress=told.append), lambda: iter(()))
    facts = {"weight_scales": "channel", "activation_scales": "token", "residual": "bf16", "attention": "ours"}
    assert facts.items() <= program.facts.items() and "bits" not in program.facts
    assert 0.998 < program.facts["eager_cosine"] < 1.0
    assert any(line.startswith("native fp8: logits against eager, max ") for line in told)
    program.close()


def test_sizes_that_fp8_cannot_multiply_are_told(gpu):
    whole = weights.read(make_model("bert", "question-answering", intermediate_size=24))
    with pytest.raises(BuildError, match="fp8 products take multiples of 16, and the model has a linear of 32 -> 24: use type"):
        gpu.encoder(whole, packing.F8, torch.bfloat16)


def test_a_gpus_options_are_no_cpus(monkeypatch):
    monkeypatch.setattr(toolchain, "unavailable", lambda: None)
    reason = "graph and attention of native is a GPU's, and the case has device cpu: leave it out or use device cuda"
    assert NATIVE.refuses(make_case("native[attention=ours,graph=false]")) == [reason]
    with pytest.raises(UnknownName, match="unknown attention of backend native 'flash'; known: auto, ours, torch"):
        NATIVE.refuses(make_case("native[attention=flash]"))


@pytest.mark.parametrize("task", ["question-answering", "text-classification"])
def test_a_program_of_the_gpus_encoder_is_eager(task, gpu):
    """With graphs played by their own calls: feed, run and fetch as on a GPU, but for the copies."""
    model = make_model("bert", task)
    made = gpu.encoder(weights.read(model), packing.FP32, torch.float32)
    program = NativeProgram(graphs.Graphs(made, play), made.weights.bytes, model)
    for lengths, columns in SHAPES:
        batch = make_batch(model, lengths, columns)
        got, wanted = program.predict(batch), eager_logits(model, batch)
        for name, true in wanted.items():
            kept = np.array(lengths) > 0 if task == "text-classification" else batch.arrays["attention_mask"].astype(bool)
            assert got[name].dtype == np.float32 and float(np.abs(got[name][kept] - true[kept]).max()) <= tolerance.MODEL


def test_logits_of_half_precision_are_fetched_as_float32_and_weights_are_half_as_large(gpu):
    model = make_model("bert", "question-answering")
    whole = weights.read(model)
    full, half = (gpu.encoder(whole, packing.FP32, dtype, "ours") for dtype in (torch.float32, torch.float16))
    assert half.weights.bytes * 2 == full.weights.bytes
    program = NativeProgram(half, half.weights.bytes, model)
    batch = make_batch(model, (30, 12), 33)
    mask = batch.arrays["attention_mask"].astype(bool)
    for name, logits in program.predict(batch).items():
        true = eager_logits(model, batch)[name]
        assert logits.dtype == np.float32 and 0 < float(np.abs(logits[mask] - true[mask]).max()) < 2e-2


def test_facts_name_the_attention_and_whether_tuned_products_served(gpu):
    model = make_model("bert", "question-answering")
    whole, batch = weights.read(model), make_batch(model, (30, 12), 33)
    plain = gpu.encoder(whole, packing.FP32, torch.float32)
    NativeProgram(plain, 0, model).predict(batch)
    assert machine.facts(plain) == {"attention": "ours", "gelu": "exact", "tuned_problems": 0, "products": "usual"}
    # Of the products of 42 tokens, one was timed.
    problem = Problem(64, 32, 32, "float32", False, "none")
    timed = Gpu(gpu.kernels, gpu.place, gpu.capability, {problem: "cublas"}).encoder(whole, packing.FP32, torch.float32)
    got = NativeProgram(timed, 0, model).predict(batch)
    assert machine.facts(timed) | {"products": "tuned and usual", "tuned_problems": 1} == machine.facts(timed)
    assert timed.ops.served["tuned"] == len(timed.weights.layers)
    for name, logits in NativeProgram(plain, 0, model).predict(batch).items():
        np.testing.assert_allclose(got[name], logits, atol=tolerance.MODEL)


def test_torchs_attention_is_named_and_never_taken_where_it_cannot(gpu):
    whole = weights.read(make_model("bert", "question-answering"))
    assert machine.facts(gpu.encoder(whole, packing.FP32, torch.float16))["attention"] == "torch"
    with pytest.raises(
        BuildError, match="takes float16 and bfloat16, and this encoder computes in float32: use attention=ours"
    ):
        gpu.encoder(whole, packing.FP32, torch.float32, "torch")


def test_processes_talk_as_their_device_does():
    assert (Machine().communication, Machine("cuda", "fp16").communication) == ("gloo", "nccl")
    assert Machine().place() == torch.device("cpu")
