"""The encoder on plain-torch operations in float64 against transformers in float64: what differs here is wrong in its maths,
not in its kernels. The same in INT8, where the bits that were asked for bound the difference."""

import copy
import dataclasses
import os

import numpy as np
import plain_ops
import pytest
import tolerance
import torch
from tiny_models import HEADS, make_batch, make_model

from pytest_perfq.core.quantization import Static
from pytest_perfq.errors import ProgramError
from pytest_perfq.kernels import calibrate, encoder, ops, packing, weights
from pytest_perfq.kernels.bits import BITS

FAMILIES = ["bert", "distilbert", "electra"]
# Full, ragged down to one token, an empty sequence, nothing but one-token rows.
SHAPES = [((6,), 6), ((9, 4), 9), ((1, 30, 12, 30), 30), ((5, 0, 3), 8), ((1, 1, 1), 4)]
CLOSE = {"atol": tolerance.MODEL_FLOAT64, "rtol": tolerance.MODEL_FLOAT64}


def double(model):
    return dataclasses.replace(model, module=copy.deepcopy(model.module).double())


def logits(model, batch):
    """By transformers, [B, S, C] or [B, C]."""
    with torch.no_grad():
        output = model.module(**{name: torch.tensor(batch.arrays[name]) for name in model.inputs})
    if model.outputs == ("start_logits", "end_logits"):
        return torch.stack([output.start_logits, output.end_logits], dim=-1)
    return output.logits


def run(model, batch, recipe=packing.FP32, ops=plain_ops):
    packed = packing.pack(weights.read(model), ops, recipe)
    feed = encoder.feed(batch.arrays, batch.lengths, "token_type_ids" in model.inputs)
    return encoder.Encoder(packed, ops)(feed)


def real(batch, values):
    """The logits of real tokens, or of sequences that have any."""
    if values.ndim == 3:
        return values[torch.tensor(batch.arrays["attention_mask"]).bool()]
    return values[torch.tensor(batch.lengths) > 0]


@pytest.mark.parametrize("task", HEADS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("lengths", "columns"), SHAPES)
def test_the_encoder_is_that_of_transformers(family, task, lengths, columns):
    model = double(make_model(family, task))
    batch = make_batch(model, lengths, columns)
    got, wanted = run(model, batch), logits(model, batch)
    assert got.dtype == torch.float64 and got.shape == wanted.shape
    torch.testing.assert_close(real(batch, got), real(batch, wanted), **CLOSE)


@pytest.mark.parametrize("activation", ["gelu_new", "relu"])
def test_other_activations(activation):
    model = double(make_model("bert", "token-classification", hidden_act=activation))
    batch = make_batch(model, (9, 4), 9)
    torch.testing.assert_close(real(batch, run(model, batch)), real(batch, logits(model, batch)), **CLOSE)


def test_models_of_one_token_type_and_batches_without_types():
    model = double(make_model("bert", "question-answering", type_vocab_size=1))
    model = dataclasses.replace(model, inputs=("input_ids", "attention_mask"))
    batch = make_batch(model, (9, 4), 9)
    torch.testing.assert_close(real(batch, run(model, batch)), real(batch, logits(model, batch)), **CLOSE)


def test_a_mask_with_holes_keeps_positions():
    model = double(make_model("bert", "question-answering"))
    batch = make_batch(model, (7, 5), 7)
    batch.arrays["attention_mask"][0, 2] = 0
    batch = dataclasses.replace(batch, lengths=(6, 5))
    torch.testing.assert_close(real(batch, run(model, batch)), real(batch, logits(model, batch)), **CLOSE)


@pytest.mark.parametrize("task", HEADS)
def test_padding_is_exactly_zero_and_changes_nothing(task):
    model = double(make_model("bert", task))
    batch = make_batch(model, (9, 0, 4), 20)
    got = run(model, batch)
    padding = torch.tensor(batch.arrays["attention_mask"]) == 0 if got.ndim == 3 else torch.tensor(batch.lengths) == 0
    assert int(padding.sum()) > 0 and torch.equal(got[padding], torch.zeros_like(got[padding]))
    for row, length in ((0, 9), (2, 4)):
        alone = dataclasses.replace(
            batch, arrays={name: value[row : row + 1, :length] for name, value in batch.arrays.items()}, lengths=(length,)
        )
        wanted = run(model, alone)[0]
        torch.testing.assert_close(got[row, :length] if got.ndim == 3 else got[row], wanted, **CLOSE)


def test_a_batch_of_no_tokens_is_all_zero():
    for task in HEADS:
        model = make_model("bert", task)
        got = run(model, make_batch(model, (0, 0), 3))
        assert got.shape == logits(model, make_batch(model, (3, 3), 3)).shape and not bool(got.any())


def recipe(model, bits, approach, batches=None):
    if approach == "dynamic":
        return packing.Recipe(bits)
    scales = calibrate.calibrate(model, lambda: iter(batches), Static(), BITS[bits].activation)
    return packing.Recipe(bits, scales, int8_residual=approach == "v2")


@pytest.mark.parametrize("approach", tolerance.COSINE)
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("family", FAMILIES)
def test_int8_is_the_same_model_within_its_bits(family, bits, approach):
    model = make_model(family, "token-classification")
    batches = [make_batch(model, (20, 30, 9, 1), 30, seed=seed) for seed in range(4)]
    chosen = recipe(model, bits, approach, batches)
    got = torch.cat([real(batch, run(model, batch, chosen)) for batch in batches]).flatten()
    wanted = torch.cat([real(batch, logits(model, batch)) for batch in batches]).flatten()
    assert got.dtype == torch.float32
    assert tolerance.COSINE[approach] < cosine(got, wanted) < 1.0  # near, and not the fp32 model itself


@pytest.mark.parametrize("approach", tolerance.COSINE)
@pytest.mark.parametrize("bits", BITS)
def test_int8_kernels_are_the_plain_operations(bits, approach, isa, kernels):
    model = make_model("bert", "token-classification")
    batches = [make_batch(model, (20, 30, 9, 1), 30, seed=seed) for seed in range(4)]
    chosen = recipe(model, bits, approach, batches)
    got = torch.cat([real(batch, run(model, batch, chosen, kernels)) for batch in batches]).flatten()
    wanted = torch.cat([real(batch, run(model, batch, chosen)) for batch in batches]).flatten()
    assert cosine(got, wanted) > tolerance.COSINE_SAME[approach]


@pytest.mark.parametrize("chosen", [packing.FP32, packing.Recipe("w8a7")], ids=["fp32", "w8a7"])
def test_the_whole_forward_is_one_graph_for_batches_of_any_size(chosen, kernels):
    model = make_model("bert", "text-classification")
    whole = encoder.Encoder(packing.pack(weights.read(model), kernels, chosen), kernels)
    compiled = torch.compile(lambda *feed: whole(encoder.Feed(*feed)), fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        for lengths, columns in (((9, 4), 9), ((20, 1, 30), 30)):
            batch = make_batch(model, lengths, columns)
            feed = encoder.feed(batch.arrays, batch.lengths, True)
            torch.testing.assert_close(compiled(*feed), whole(feed), atol=0.0, rtol=0.0)


@pytest.mark.parametrize("chosen", [packing.FP32, packing.Recipe("w8a7")], ids=["fp32", "w8a7"])
def test_torch_compile_as_it_comes_gives_the_same(chosen, kernels):
    """By inductor, which generates code around the ops: to the bit, since what it may fuse is none of their arithmetic."""
    if os.environ.get(ops.SANITIZE) == "1":
        pytest.skip("what inductor compiles is not ours, and its compiler was never tried under the sanitizers")
    model = make_model("bert", "text-classification", num_hidden_layers=1)
    whole = encoder.Encoder(packing.pack(weights.read(model), kernels, chosen), kernels)
    compiled = torch.compile(lambda *feed: whole(encoder.Feed(*feed)), fullgraph=True)
    batch = make_batch(model, (9, 0, 4), 9)
    feed = encoder.feed(batch.arrays, batch.lengths, True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(*feed), whole(feed), atol=0.0, rtol=0.0)


def cosine(one, other):
    return float(torch.nn.functional.cosine_similarity(one.double(), other.double(), dim=0))


def test_more_bits_are_nearer():
    model = make_model("bert", "token-classification")
    batch = make_batch(model, (30, 30, 30, 30), 30)
    true = real(batch, logits(model, batch))
    gaps = {bits: float((real(batch, run(model, batch, packing.Recipe(bits))) - true).norm()) for bits in BITS}
    assert gaps["w8a8"] < gaps["w8a7"] < gaps["w7a7"]


def test_limits_are_named_with_both_values():
    one = np.ones((4097, 1), np.int64)
    long = {"input_ids": one.T, "attention_mask": one.T}
    with pytest.raises(ProgramError, match="a batch of 4097 sequences; the native encoder takes at most 4096: make it smaller"):
        encoder.feed({"input_ids": one, "attention_mask": one}, (1,) * 4097, False)
    with pytest.raises(ProgramError, match="4097 tokens a sequence; the native encoder takes at most 4096: make it smaller"):
        encoder.feed(long, (4097,), False)
    with pytest.raises(ProgramError, match="the lengths of the batch say 3 tokens and its mask has 2; make them agree"):
        encoder.feed({name: value[:, :2] for name, value in long.items()}, (3,), False)


def test_differences_are_those_of_numpy_at_real_tokens():
    dice = np.random.default_rng(0)
    mask = np.array([[1, 1, 0], [1, 0, 0]])
    wanted = {"start_logits": dice.normal(size=(2, 3)), "logits": dice.normal(size=(2, 3))}
    got = {name: value + dice.normal(size=value.shape) for name, value in wanted.items()}
    found = encoder.differences(got, wanted, mask)
    gaps = np.abs(got["start_logits"] - wanted["start_logits"])[[0, 0, 1], [0, 1, 0]]
    np.testing.assert_allclose(found["start_logits"], (gaps.max(), gaps.mean(), gaps.min()))
    # Logits of sequences, even where there are as many classes as tokens.
    gaps = np.abs(got["logits"] - wanted["logits"])
    np.testing.assert_allclose(found["logits"], (gaps.max(), gaps.mean(), gaps.min()))
