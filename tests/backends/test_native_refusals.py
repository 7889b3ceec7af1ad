"""What the native backend does not build, in which words: before a model is loaded, and once it is."""

from __future__ import annotations

import pytest
from native_programs import NATIVE, build, compiles
from tiny_models import make_case, make_model

from pytest_perfq.contracts import Lack
from pytest_perfq.core.quantization import Dynamic, Quantization, Static
from pytest_perfq.errors import BuildError, UnknownName, UsageError
from pytest_perfq.kernels import isas, toolchain

EXCLUDED = Static(exclude=["layernorm", "gelu", "residual", "gather", "softmax"])


@pytest.mark.parametrize(
    "quantization",
    [None, Dynamic(), Dynamic("MatMul"), Dynamic(per_channel=False), Static(), EXCLUDED, Static(mode="v1"), Static(mode="v2"),
     Static("MatMul", calibration="entropy"), Static(calibration="percentile", percentile=99.9)],
)  # fmt: skip
@compiles
def test_what_is_built(quantization):
    assert NATIVE.refuses(make_case("native", quantization=quantization)) == []


@pytest.mark.parametrize(
    ("backend", "fields", "reason"),
    [
        ("native", {"precision": "fp16"},
         "the native encoder has no fp16 kernels for a CPU: use precision fp32 or device cuda"),
        ("native", {"precision": "tf32"},
         "the native encoder has no tf32 kernels for a CPU: use precision fp32 or device cuda"),
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
        ("native", {"quantization": Dynamic(per_channel=True)},
         "native has one weight scale a channel anyway, and per_channel gives that a second name: leave it out"),
        ("native", {"quantization": Static(mode="v1", per_channel=True)},
         "native has one weight scale a channel anyway, and per_channel gives that a second name: leave it out"),
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
         "bf16 needs avx512_bf16 and this CPU has none, so it would be emulated: use precision fp32"),
        (GENOA - {"avx512_bf16"} | {"amx_bf16"}, "",
         "bf16 needs avx512_bf16 and this CPU has none, so it would be emulated: use precision fp32"),
        (frozenset(), "",
         "bf16 needs avx512_bf16 and this CPU has none, so it would be emulated: use precision fp32"),
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
def test_what_runs_with_the_advice_of_a_refusal_is_not_refused():
    """Each refusal of a precision on a CPU ends with what to use; that has to be there."""
    for precision, quantization in (("fp16", None), ("tf32", None), ("fp16", Dynamic()), ("bf16", Dynamic())):
        (reason,) = NATIVE.refuses(make_case("native", precision=precision, quantization=quantization))
        assert "use precision fp32" in reason and "or a quantization" not in reason
        assert NATIVE.refuses(make_case("native", precision="fp32", quantization=quantization)) == []
