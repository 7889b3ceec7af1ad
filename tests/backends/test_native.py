"""The native backend: whole models against eager, and trained ones by their task's metric."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tolerance
import torch
from native_programs import NATIVE, SHAPES, build, compiles
from tiny_models import HEADS, eager_logits, make_batch, make_model

from pytest_perfq import registry
from pytest_perfq.core.case import Case
from pytest_perfq.core.quantization import Dynamic, Static
from pytest_perfq.core.spec import Spec
from pytest_perfq.errors import ProgramError
from pytest_perfq.kernels import ops
from pytest_perfq.materials import Materials


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
            assert float(np.abs(got[name][kept] - true[kept]).max()) <= tolerance.MODEL
            assert not got[name][~kept].any()
    assert program.facts["padding"] == "removed" and program.facts["max_abs_difference"] <= tolerance.MODEL
    assert 0.0 <= program.facts["min_abs_difference"] <= program.facts["mean_abs_difference"] <= tolerance.MODEL
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
    assert cosine >= tolerance.COSINE_TRAINED
    assert original > 0.8 and score >= original - tolerance.DROP
    if quantization is None:
        assert float(np.abs(logits - wanted).max()) <= tolerance.MODEL and score == original
    else:
        # It is another model, and not fp32 under its name.
        assert float(np.abs(logits - wanted).max()) > tolerance.MODEL_INT8_LEAST
