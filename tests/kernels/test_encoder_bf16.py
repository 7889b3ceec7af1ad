"""The encoder in bf16 against transformers, in fp32 and in torch's own bf16: on plain torch, and on kernels whose one instruction
is played (played.py)."""

import copy
import dataclasses

import numpy as np
import plain_ops
import pytest
import tolerance
import torch
from kept import CACHE
from played import BY_TILES
from test_encoder import FAMILIES, SHAPES, cosine, logits, real, run
from tiny_models import HEADS, make_batch, make_case, make_model, no_calibration

from pytest_perfq import registry
from pytest_perfq.backends._native.program import NativeProgram
from pytest_perfq.contracts import Resources
from pytest_perfq.core.case import Case
from pytest_perfq.core.spec import Spec
from pytest_perfq.kernels import encoder, ops, packing, weights
from pytest_perfq.materials import Materials


def eager_bf16(model):
    return dataclasses.replace(model, module=copy.deepcopy(model.module).bfloat16())


def batches_of(model):
    return [make_batch(model, lengths, columns, seed=seed) for seed, (lengths, columns) in enumerate(SHAPES)]


def all_logits(model, batches, forward):
    return torch.cat([real(batch, forward(model, batch)).float().flatten() for batch in batches])


@pytest.mark.parametrize("task", HEADS)
@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_nearer_to_fp32_than_torchs_bf16_is(family, task):
    """torch rounds every tensor, we round what is multiplied."""
    model = make_model(family, task)
    batches = batches_of(model)
    true, theirs = (all_logits(one, batches, logits) for one in (model, eager_bf16(model)))
    ours = all_logits(model, batches, lambda *call: run(*call, packing.BF16))
    assert tolerance.COSINE_BF16 < cosine(ours, true) < 1.0 and cosine(ours, theirs) > tolerance.COSINE_BF16
    assert 0 < float((ours - true).norm()) < float((theirs - true).norm())


@pytest.mark.parametrize("task", HEADS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_kernels_are_the_plain_operations(family, task, bf16_isa, bf16):
    model = make_model(family, task)
    batches = batches_of(model)
    ours, plain = (
        all_logits(model, batches, lambda *call, ops=ops: run(*call, packing.BF16, ops)) for ops in (bf16, plain_ops)
    )
    assert cosine(ours, plain) > (tolerance.COSINE_BF16_TILES if bf16_isa in BY_TILES else tolerance.COSINE_BF16_SAME)
    for batch in (make_batch(model, (9, 0, 4), 20), make_batch(model, (0, 0), 3)):
        got = run(model, batch, packing.BF16, bf16)
        padding = torch.tensor(batch.arrays["attention_mask"]) == 0 if got.ndim == 3 else torch.tensor(batch.lengths) == 0
        assert int(padding.sum()) and not got[padding].any()


def test_the_whole_forward_is_one_graph_for_batches_of_any_size(bf16):
    model = make_model("bert", "text-classification")
    whole = encoder.Encoder(packing.pack(weights.read(model), bf16, packing.BF16), bf16)
    compiled = torch.compile(lambda *feed: whole(encoder.Feed(*feed)), fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        for lengths, columns in (((9, 4), 9), ((20, 1, 30), 30)):
            batch = make_batch(model, lengths, columns)
            feed = encoder.feed(batch.arrays, batch.lengths, True)
            torch.testing.assert_close(compiled(*feed), whole(feed), atol=0.0, rtol=0.0)


def test_weights_of_the_layers_are_half_as_large():
    read = weights.read(make_model("bert", "question-answering"))
    full, half = (packing.pack(read, plain_ops, recipe) for recipe in (packing.FP32, packing.BF16))
    numbers = sum(one.weight.numel() for layer in read.layers for one in (layer.qkv, layer.out, layer.up, layer.down))
    assert full.bytes - half.bytes == 2 * numbers
    assert all(layer.one_op and layer.up.bits == "bf16" for layer in half.layers) and full.layers[0].up.bits == "fp32"
    assert half.layers[0].up.weight.dtype == torch.bfloat16 and half.head.classifier.weight.dtype == torch.float32
    assert torch.equal(half.layers[0].up.weight, read.layers[0].up.weight.bfloat16())


def test_the_backend_builds_it(bf16, bf16_isa, monkeypatch):
    """And holds it against eager; what a CPU without the unit is told stands in tests/backends."""
    monkeypatch.setattr(ops, "select_isa", lambda wanted: bf16_isa)  # as where the best set is this one
    model = make_model("minilm", "question-answering")
    case = make_case("native", precision="bf16")
    native, resources = registry.load("backend", "native"), Resources(cache=CACHE, threads=1)
    full = native.build(dataclasses.replace(case, precision="fp32"), model, resources, no_calibration)
    half = native.build(case, model, resources, no_calibration)
    assert full.facts["max_abs_difference"] <= tolerance.MODEL
    assert tolerance.MODEL_BF16_LEAST < half.facts["max_abs_difference"] < tolerance.MODEL_BF16
    assert half.bytes < 0.55 * full.bytes and "bits" not in half.facts and half.facts["isa"] == bf16_isa


@pytest.mark.parametrize("task", ["question-answering", "token-classification"])
def test_a_trained_model_keeps_its_logits_and_its_score(task, bf16):
    case = Case(task=Spec(task), dataset="synthetic", model="synthetic:bert", model_name="bert", backend=Spec("eager"))
    materials, measure = Materials(Resources(cache=CACHE, threads=1)), registry.load("task", task)
    model, examples = materials.model(case), materials.examples(case, case.split)

    def score(program):
        kept = []

        def predict(batch):
            output = program.predict(batch)
            mask = batch.arrays["attention_mask"].astype(bool)
            kept.extend(values[mask].ravel() for values in output.values())
            return output

        outcomes = measure.evaluate(case, model, examples, predict, 32)
        return np.concatenate(kept), measure.scores(case, examples, outcomes)[0].value

    packed = packing.pack(weights.read(model), bf16, packing.BF16)
    (ours, kept), (true, original) = (
        score(program)
        for program in (NativeProgram(encoder.Encoder(packed, bf16), packed.bytes, model), materials.program(case))
    )
    materials.close()
    assert float(ours @ true / np.linalg.norm(ours) / np.linalg.norm(true)) >= tolerance.COSINE_BF16
    assert original > 0.8 and kept >= original - tolerance.DROP
    assert float(np.abs(ours - true).max()) > tolerance.MODEL_BF16_LEAST  # it is another model, and not fp32
