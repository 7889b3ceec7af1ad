"""What a native program says of a model that it cannot read, and of a batch that it cannot run: one sentence, of the right kind."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from native_programs import build, compiles
from tiny_models import eager_logits, make_batch, make_model

from pytest_perfq.core.quantization import Dynamic, Static
from pytest_perfq.errors import BuildError, ProgramError
from pytest_perfq.kernels import weights

QA = "question-answering"
READS = "the native encoder reads what transformers makes: use backend eager or ort"


def no_bias(model):
    model.module.bert.encoder.layer[0].attention.self.query.bias = None


def sequential(model):
    model.module.classifier = torch.nn.Sequential(model.module.classifier)


def no_pooler(model):
    del model.module.bert.pooler.dense


def no_epsilon(model):
    model.module.bert.encoder.layer[1].output.LayerNorm.eps = None


class Quantized(torch.nn.Linear):
    """Gives its weight by a call, as torch's own quantized linears do."""

    weight = torch.nn.Linear.extra_repr


def quantized(model):
    model.module.bert.encoder.layer[1].output.dense.__class__ = Quantized
    del model.module.bert.encoder.layer[1].output.dense._parameters["weight"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (no_bias, f"tiny:bert has no bias in bert.encoder.layer.0.attention.self.query, which is a Linear; {READS}"),
        (sequential, f"tiny:bert has no weight in classifier, which is a Sequential; {READS}"),
        (no_pooler, f"tiny:bert has no module bert.pooler.dense; {READS}"),
        (no_epsilon, f"tiny:bert has no eps in bert.encoder.layer.1.output.LayerNorm, which is a LayerNorm; {READS}"),
        (quantized, f"tiny:bert has no weight in bert.encoder.layer.1.output.dense, which is a Quantized; {READS}"),
    ],
    ids=["bias", "sequential", "pooler", "eps", "quantized"],
)
def test_a_module_that_is_not_transformers_own_is_named(change, sentence):
    model = make_model("bert", "text-classification")
    change(model)
    with pytest.raises(BuildError) as caught:
        weights.read(model)
    assert str(caught.value) == sentence


@pytest.fixture(scope="module")
def two(lasting_resources):
    """A model and its program."""
    model = make_model("bert", QA)
    return model, build(model, lasting_resources)


def refused(program, batch):
    with pytest.raises(ProgramError) as caught:
        program.predict(batch)
    return str(caught.value)


def changed(model, **arrays):
    """A batch of 9 and 4 tokens with other arrays, or without those that are None."""
    batch = make_batch(model, (9, 4), 9)
    return dataclasses.replace(batch, arrays={name: one for name, one in {**batch.arrays, **arrays}.items() if one is not None})


@compiles
def test_a_batch_that_the_model_has_no_embedding_for_is_a_failure_of_the_program(two):
    model, program = two
    start, end = "the native encoder cannot run a batch of 2 x 9: perfq::", "; give it what the model takes"
    there = ", but there are 120 words, 64 positions and 2 types"
    for name, value, said in (
        ("input_ids", 10**6, "id 1000000, position 3 and type 0"),
        ("input_ids", -1, "id -1, position 3 and type 0"),
        ("token_type_ids", 7, "position 3 and type 7"),
    ):
        batch = changed(model)
        batch.arrays[name][1, 3] = value
        text = refused(program, batch)
        assert text.startswith(f"{start}embed_layernorm: the token in row 1, column 3 has id ")
        assert text.endswith(f"{said}{there}{end}")
    text = refused(program, make_batch(model, (65,), 65))
    assert text.startswith(
        "the native encoder cannot run a batch of 1 x 65: perfq::embed_layernorm: the token in row 0, column 64"
    )


@compiles
@pytest.mark.parametrize(
    ("name", "kind", "called"),
    [("attention_mask", np.bool_, "mask is bool"), ("attention_mask", np.int32, "mask is int32"),
     ("input_ids", np.int32, "input_ids is int32"), ("token_type_ids", np.float32, "token_type_ids is float32")],
)  # fmt: skip
def test_arrays_of_another_type_are_named(two, name, kind, called):
    model, program = two
    text = refused(program, changed(model, **{name: changed(model).arrays[name].astype(kind)}))
    op = "pack_tokens" if name == "attention_mask" else "embed_layernorm"
    assert text == (
        f"the native encoder cannot run a batch of 2 x 9: perfq::{op}: {called}, not int64; give it what the model takes"
    )


@compiles
def test_an_array_that_is_missing_is_named(two):
    model, program = two
    assert refused(program, changed(model, token_type_ids=None)) == (
        "a batch has input_ids, attention_mask and lacks token_type_ids, which the model takes; add it"
    )
    assert refused(program, changed(model, attention_mask=None, token_type_ids=None)) == (
        "a batch has input_ids and lacks attention_mask, token_type_ids, which the model takes; add it"
    )


@compiles
@pytest.mark.parametrize(
    "quantization", [None, Dynamic(), Static(), Static(mode="v2")], ids=lambda one: one.id if one else "fp32"
)
def test_a_word_that_is_no_number_is_never_hidden(quantization, lasting_resources, monkeypatch):
    """Eager gives no numbers for a sentence with it; so does every program, or it refuses to run. Nothing met it while building."""
    model, word = make_model("bert", QA), 50
    model.module.bert.embeddings.word_embeddings.weight.data[word] = float("nan")

    def without(batch):
        batch.arrays["input_ids"][batch.arrays["input_ids"] == word] = word + 1
        return batch

    from pytest_perfq.backends import _check

    seen = [without(batch) for batch in _check.check_batches(model)]
    monkeypatch.setattr(_check, "check_batches", lambda model: seen)
    calibration = [without(make_batch(model, (20, 9), 30))]
    program = build(model, lasting_resources, quantization=quantization, calibration=lambda: iter(calibration))
    batch = make_batch(model, (6,), 6)
    batch.arrays["input_ids"][0, 2] = word
    assert all(np.isnan(one).all() for one in eager_logits(model, batch).values())
    if quantization is None or quantization.mode != "v2":
        assert all(np.isnan(one).all() for one in program.predict(batch).values())
        return
    assert refused(program, batch) == (
        "the native encoder cannot run a batch of 1 x 6: perfq::quantize: x is nan at row 2, column 0; uint8 holds finite numbers "
        "only; give it what the model takes"
    )
