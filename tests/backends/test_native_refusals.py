"""What the native backend does not build, in which words: before a model is loaded, and once it is."""

from __future__ import annotations

import pytest
from native_programs import NATIVE, build, compiles
from tiny_models import make_batch, make_case, make_model

from pytest_perfq.contracts import Lack
from pytest_perfq.core.quantization import Dynamic, Quantization, Static
from pytest_perfq.errors import BuildError, UnknownName, UsageError
from pytest_perfq.kernels import isas, toolchain

EXCLUDED = Static(exclude=["layernorm", "gelu", "residual", "gather", "softmax"])


@pytest.mark.parametrize(
    "quantization",
    [None, Dynamic(), Dynamic("MatMul"), Dynamic(per_channel=True), Static(), EXCLUDED, Static(mode="v1"), Static(mode="v2"),
     Static("MatMul", calibration="entropy"), Static(calibration="percentile", percentile=99.9)],
)  # fmt: skip
@compiles
def test_what_is_built(quantization):
    assert NATIVE.refuses(make_case("native", quantization=quantization)) == []


@pytest.mark.parametrize(
    ("backend", "fields", "reason"),
    [
        ("native", {"precision": "fp16"},
         "the native encoder has no fp16 kernels: use precision fp32, or a quantization"),
        ("native", {"precision": "tf32"},
         "the native encoder has no tf32 kernels: use precision fp32, or a quantization"),
        ("native[bits=w7a7]", {},
         "bits=w7a7 says how INT8 is computed, and the case has no quantization: add one or leave bits out"),
        ("native", {"quantization": Quantization(approach="aware")},
         "native quantizes after training and cannot train: use approach static or dynamic"),
        ("native", {"quantization": Dynamic("MatMul", "Add", "Softmax")},
         "native quantizes the linears, which are MatMul, and the case asks for Add, Softmax: "
         "ask for MatMul alone or leave operators out"),
        ("native", {"quantization": Dynamic(format="qoperator")},
         "format qoperator is how an ONNX graph says it, and native has no graph: leave format out"),
        ("native", {"quantization": Static(exclude=["gelu", "/bert/encoder/*"])},
         "native has no graph whose nodes have names, and the case excludes /bert/encoder/*: exclude groups only"),
        ("native", {"quantization": Dynamic(mode="v2")},
         "mode v2 keeps the residual in INT8, whose scales are needed before it runs: use approach static"),
        ("native", {"quantization": Static(mode="v2", per_channel=True)},
         "mode v2 has one weight scale a tensor, and the case asks for one a channel: set per_channel=False"),
        ("native", {"quantization": Static(mode="v2", exclude=["gelu"])},
         "mode v2 keeps everything between the linears in INT8 and can exclude none of gelu: use mode v1 or leave exclude out"),
        ("native", {"quantization": Static(mode="v2"), "tp": 2},
         "mode v2 has an INT8 residual, which cannot be summed over tp=2 processes: set tp to 1"),
    ],
)  # fmt: skip
def test_what_is_refused(backend, fields, reason, monkeypatch):
    monkeypatch.setattr(toolchain, "unavailable", lambda: None)
    assert NATIVE.refuses(make_case(backend, **fields)) == [reason]


GENOA = frozenset({"avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16"})
needs_x86 = pytest.mark.skipif(isas.BF16 not in isas.known(), reason="avx512_bf16 is a unit of x86")


@needs_x86
@pytest.mark.parametrize(
    ("flags", "chosen", "reason"),
    [
        (GENOA, "", None),
        (GENOA, "all", None),
        (GENOA - {"avx512_bf16"}, "all",
         "bf16 needs avx512_bf16 and this CPU has none, so it would be emulated: use precision fp32, or a quantization"),
        (GENOA - {"avx512_bf16"} | {"amx_bf16"}, "",
         "bf16 needs avx512_bf16 and this CPU has none, so it would be emulated: use precision fp32, or a quantization"),
        (frozenset(), "",
         "bf16 needs avx512_bf16 and this CPU has none, so it would be emulated: use precision fp32, or a quantization"),
        (GENOA, "avx2,avx512vnni",
         "bf16 needs the kernels' set avx512bf16, and PERFQ_KERNELS_ISAS leaves it out: name it there, or unset that"),
        (GENOA, "sse9",
         "PERFQ_KERNELS_ISAS names the instruction set 'sse9', which is none of portable, avx2, avxvnni, avx512vnni, avx512bf16; "
         "correct it, or unset it to compile what this processor runs"),
    ],
)  # fmt: skip
def test_bf16_is_refused_where_it_would_be_emulated(flags, chosen, reason, monkeypatch):
    monkeypatch.setattr(toolchain, "unavailable", lambda: None)
    monkeypatch.setattr(isas, "cpu_flags", lambda: flags)
    monkeypatch.setenv(isas.CHOICE, chosen)
    reasons = NATIVE.refuses(make_case("native", precision="bf16"))
    assert reasons == ([] if reason is None else [reason]) and all(isinstance(one, Lack) for one in reasons)


def test_a_quantization_of_another_precision_is_refused(monkeypatch):
    monkeypatch.setattr(toolchain, "unavailable", lambda: None)
    reasons = NATIVE.refuses(make_case("native", precision="fp16", quantization=Dynamic()))
    assert reasons == ["native quantizes fp32 models and the case asks for fp16: use precision fp32"]


def test_no_compiler_is_a_reason(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    assert NATIVE.refuses(make_case("native")) == [
        "the native kernels need a C++20 compiler, and neither g++ nor clang++ is on the path; install one or name it in CXX"
    ]


def test_unknown_bits_are_a_mistake():
    with pytest.raises(UnknownName, match="unknown bits of backend native 'w8a9'; did you mean 'w8a8'"):
        NATIVE.refuses(make_case("native[bits=w8a9]", quantization=Dynamic()))


@compiles
@pytest.mark.parametrize(
    ("sizes", "fields", "sentence"),
    [
        ({"hidden_act": "silu"}, {}, "tiny:bert has activation 'silu'; the native encoder has"),
        ({"num_attention_heads": 8}, {}, "tiny:bert has attention heads of size 4; the native encoder computes multiples of 8"),
        ({}, {"tp": 3}, "tp is 3, and the model has 2 attention heads and 64 inner features: choose a tp that divides both"),
        ({}, {"pp": 3}, "pp is 3, and the model has 2 layers: choose a pp of at most 2"),
        ({}, {"quantization": Static()}, "static quantization of tiny:bert was given no calibration examples; give a split"),
    ],
)
def test_what_the_model_does_not_allow(sizes, fields, sentence, lasting_resources):
    with pytest.raises((BuildError, UsageError), match=sentence) as caught:
        build(make_model("bert", "question-answering", **sizes), lasting_resources, calibration=lambda: iter([]), **fields)
    # What the author of a suite can mend is told as a mistake, what the model is as a failure to build.
    assert isinstance(caught.value, UsageError) == bool({"tp", "pp"} & set(fields))


@compiles
def test_a_model_that_is_no_number_cannot_be_calibrated(lasting_resources):
    model = make_model("bert", "question-answering")
    model.module.bert.encoder.layer[1].attention.self.query.weight.data[3, 4] = float("nan")
    batches = [make_batch(model, (5,), 5)]
    with pytest.raises(BuildError, match="tiny:bert gives qkv of layer 1 between nan and nan on the calibration examples"):
        build(model, lasting_resources, calibration=lambda: iter(batches), quantization=Static())
    with pytest.raises(
        BuildError, match=r"^the INT8 encoder of tiny:bert gives logits that are no numbers; use bits=w8a8 or fp32$"
    ):
        build(model, lasting_resources, quantization=Dynamic())
