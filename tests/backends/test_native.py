"""The native backend: what is refused in which words, whole models against eager, trained ones by their task's metric, and
several processes against one."""

from __future__ import annotations

import dataclasses
import os
import signal

import numpy as np
import pytest
import torch
from tiny_models import HEADS, eager_logits, make_batch, make_case, make_model, no_calibration

from pytest_perfq import registry
from pytest_perfq.backends import _refusals
from pytest_perfq.core.case import Case
from pytest_perfq.core.quantization import Dynamic, Quantization, Static
from pytest_perfq.core.spec import Spec
from pytest_perfq.errors import BuildError, ProgramError, UnknownName
from pytest_perfq.kernels import ops, toolchain
from pytest_perfq.materials import Materials

NATIVE = registry.load("backend", "native")
# fp32: the sums of at most six layers in another order, on logits of order one.
CLOSE = 2e-5
compiles = pytest.mark.skipif(toolchain.unavailable() is not None, reason=str(toolchain.unavailable()))


def build(model, resources, backend="native", task="question-answering", calibration=no_calibration, **fields):
    case = make_case(backend, task, **fields)
    assert NATIVE.refuses(case) == []
    return NATIVE.build(case, model, resources, calibration)


# -- refusals

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
        ("native", {"device": "cuda"},
         "the CUDA half of the native encoder does not exist yet, and the case has cuda: use device cpu"),
        ("native", {"precision": "bf16"},
         "the native encoder has no bf16 kernels yet: use precision fp32, or a quantization"),
        ("native", {"precision": "fp16"},
         "fp16 on a CPU is emulated and slower than fp32: use precision fp32 or device cuda"),
        ("native", {"precision": "tf32"},
         "tf32 is a mode of NVIDIA's tensor cores and no CPU has it: use precision fp32 or device cuda"),
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


def test_a_quantization_of_another_precision_is_refused_for_both(monkeypatch):
    monkeypatch.setattr(toolchain, "unavailable", lambda: None)
    reasons = NATIVE.refuses(make_case("native", precision="fp16", quantization=Dynamic()))
    assert reasons[0] == _refusals.cpu_precision(make_case("native", precision="fp16"))[0]
    assert reasons[1:] == ["native quantizes fp32 models and the case asks for fp16: use precision fp32"]


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
    with pytest.raises(BuildError, match=sentence):
        build(make_model("bert", "question-answering", **sizes), lasting_resources, calibration=lambda: iter([]), **fields)


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


# -- whole models

# Full, ragged down to rows of one token, rows of no token, nothing but rows of one.
SHAPES = [((64,), 64), ((1, 30, 12, 1), 33), ((5, 0, 20), 20), ((1, 1, 1), 4)]


@pytest.fixture(params=["avx2", "portable"])
def isa(request, lasting_resources):
    """Each instruction set in turn; the best one afterwards."""
    ops.load(lasting_resources.cache)
    if request.param == "avx2" and torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        pytest.skip("this CPU has no AVX2")
    yield request.param
    ops.select_isa("auto")


@compiles
@pytest.mark.parametrize("task", HEADS)
@pytest.mark.parametrize("family", ["bert", "distilbert", "electra", "minilm"])
def test_fp32_is_eager_and_padding_is_zero(family, task, isa, lasting_resources):
    model = make_model(family, task)
    program = build(model, lasting_resources, task=task)
    ops.select_isa(isa)  # building chose the best
    for lengths, columns in SHAPES:
        batch = make_batch(model, lengths, columns)
        got, wanted = program.predict(batch), eager_logits(model, batch)
        mask = batch.arrays["attention_mask"].astype(bool)
        for name, true in wanted.items():
            kept = np.array(lengths) > 0 if task == "text-classification" else mask
            assert got[name].shape == true.shape and got[name].dtype == np.float32
            assert float(np.abs(got[name][kept] - true[kept]).max()) <= CLOSE
            assert not got[name][~kept].any()
    assert program.facts["padding"] == "removed" and program.facts["max_abs_difference"] <= CLOSE
    assert 0.0 <= program.facts["min_abs_difference"] <= program.facts["mean_abs_difference"] <= CLOSE
    program.close()


@compiles
def test_facts_say_how_it_computes(lasting_resources):
    model = make_model("bert", "question-answering")
    batches = [make_batch(model, (20, 9), 30)]
    plain = build(model, lasting_resources)
    assert {"bits", "residual"}.isdisjoint(plain.facts) and plain.facts["threads"] == plain.facts["processes"] == 1
    assert plain.facts["isa"] == ops.select_isa("auto")
    dynamic = build(model, lasting_resources, "native[bits=w7a7]", quantization=Dynamic())
    wanted = {"bits": "w7a7", "weight_scales": "channel", "activation_scales": "token", "residual": "fp32"}
    assert dynamic.facts.items() >= wanted.items()
    second = build(model, lasting_resources, calibration=lambda: iter(batches), quantization=Static(mode="v2"))
    wanted = {"bits": "w8a7", "weight_scales": "tensor", "activation_scales": "tensor", "residual": "int8"}
    assert second.facts.items() >= wanted.items()
    assert dynamic.bytes < plain.bytes and second.bytes < plain.bytes


@compiles
def test_threads_are_set_and_give_the_same_logits(lasting_resources):
    model = make_model("minilm", "question-answering")
    batch = make_batch(model, (64, 3, 40, 17), 64)
    before = torch.get_num_threads()
    try:
        one = build(model, lasting_resources).predict(batch)
        two = build(model, dataclasses.replace(lasting_resources, threads=2))
        assert (torch.get_num_threads(), two.facts["threads"]) == (2, 2)
        for name, logits in two.predict(batch).items():
            np.testing.assert_array_equal(logits, one[name])
    finally:
        torch.set_num_threads(before)


@compiles
def test_a_closed_program_says_so(lasting_resources):
    model = make_model("bert", "question-answering")
    program = build(model, lasting_resources)
    feed = program.feed(make_batch(model, (5,), 5))
    program.close()
    with pytest.raises(ProgramError, match="this program was closed; build it again"):
        program.run(feed)


# -- trained models

# At most this much of the primary metric may be lost: what fp32 and INT8 of the same model may lie apart.
DROP = 0.003
COSINE = 0.999
TRAINED = [
    ("native", None), ("native", Dynamic("MatMul")), ("native[bits=w8a8]", Dynamic("MatMul")),
    ("native[bits=w7a7]", Dynamic("MatMul")), ("native", Static("MatMul")), ("native", Static("MatMul", calibration="entropy")),
    ("native[bits=w7a7]", Static("MatMul", calibration="percentile")), ("native[bits=w8a8]", Static("MatMul", mode="v2")),
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(lasting_resources):
    """Logits and primary score of a case on the embedded model, and those of eager."""
    materials = Materials(lasting_resources)
    known = {}

    def measure(case: Case):
        if case not in known:
            task = registry.load("task", case.task.name)
            built, examples, logits = materials.program(case), materials.examples(case, case.split), []

            def predict(batch):
                output = built.predict(batch)
                mask = batch.arrays["attention_mask"].astype(bool)
                logits.extend(values[mask].ravel() for values in output.values())
                return output

            outcomes = task.evaluate(case, materials.model(case), examples, predict, 32)
            known[case] = np.concatenate(logits), task.scores(case, examples, outcomes)[0].value
        return known[case]

    yield lambda case: (measure(case), measure(case.original()))
    materials.close()


@compiles
@pytest.mark.parametrize(
    ("task", "backend", "quantization"),
    [("question-answering", *one) for one in TRAINED] + [("token-classification", *one) for one in TRAINED[:4]],
)
def test_a_trained_model_keeps_its_logits_and_its_score(task, backend, quantization, trained):
    case = Case(
        task=Spec(task), dataset="synthetic", model="synthetic:bert", model_name="bert", backend=Spec.parse(backend),
        quantization=quantization,
    )  # fmt: skip
    assert NATIVE.refuses(case) == []
    (logits, score), (wanted, original) = trained(case)
    cosine = float(logits @ wanted / np.linalg.norm(logits) / np.linalg.norm(wanted))
    assert cosine >= COSINE
    assert original > 0.8 and score >= original - DROP
    if quantization is None:
        assert float(np.abs(logits - wanted).max()) <= CLOSE and score == original
    else:
        assert float(np.abs(logits - wanted).max()) > 1e-3  # it is another model, and not fp32 under its name


# -- several processes


@pytest.fixture(scope="module")
def two(lasting_resources):
    """A model and its program over two processes."""
    model = make_model("bert", "token-classification")
    program = build(model, lasting_resources, task="token-classification", tp=2)
    yield model, program
    program.close()


@compiles
def test_two_processes_are_one_model(two):
    model, program = two
    assert program.facts.items() >= {"processes": 2, "threads": 1, "padding": "removed"}.items()
    for lengths, columns in SHAPES:
        batch = make_batch(model, lengths, columns)
        feed = program.feed(batch)
        outputs = [program.fetch(program.run(feed))["logits"] for _ in range(2)]
        np.testing.assert_array_equal(*outputs)
        mask = batch.arrays["attention_mask"].astype(bool)
        wanted = eager_logits(model, batch)["logits"]
        assert float(np.abs(outputs[0][mask] - wanted[mask]).max()) <= CLOSE
        assert not outputs[0][~mask].any()


@compiles
def test_stages_and_int8_over_processes(lasting_resources):
    model = make_model("bert", "token-classification")
    batch = make_batch(model, (30, 12), 30)
    batches = [make_batch(model, (20, 9), 30)]
    fields = {"task": "token-classification", "quantization": Static(mode="v2"), "calibration": lambda: iter(batches)}
    several = build(model, lasting_resources, pp=2, **fields)
    try:
        alone = build(model, lasting_resources, **fields).predict(batch)
        np.testing.assert_array_equal(several.predict(batch)["logits"], alone["logits"])
    finally:
        several.close()


@compiles
def test_what_fails_in_a_process_is_told(lasting_resources):
    model = make_model("bert", "question-answering")
    program = build(model, lasting_resources, pp=2)
    batch = make_batch(model, (9, 4), 9)
    batch.arrays["input_ids"][0, 0] = 10**6
    with pytest.raises(ProgramError, match=r"^process [01] of 2 of the native encoder failed: .*1000000"):
        program.predict(batch)


@compiles
def test_processes_that_do_not_come_up_are_given_up(lasting_resources, monkeypatch):
    from pytest_perfq.backends._native import workers

    monkeypatch.setattr(workers, "START_LIMIT_S", 0.001)
    with pytest.raises(BuildError) as caught:
        build(make_model("bert", "question-answering"), lasting_resources, tp=2)
    assert str(caught.value) == (
        "process 0 of 2 of the native encoder said nothing for 0.001 s; run it with tp and pp 1 to see whether it lasts"
    )


@compiles
def test_a_process_that_dies_is_named_and_close_ends_all(lasting_resources):
    model = make_model("bert", "question-answering")
    program = build(model, lasting_resources, tp=2)
    feed = program.feed(make_batch(model, (9, 4), 9))
    workers = program._shut.__self__
    processes = [process.pid for process in workers._processes]
    os.kill(processes[1], signal.SIGKILL)
    with pytest.raises(ProgramError, match=r"^process 1 of 2 of the native encoder ended with exit status -9; run it with"):
        program.run(feed)
    for pid in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    program.close()
