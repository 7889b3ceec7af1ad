"""What is read of a model and in which words others are refused; quantized weights against torch's own quantization."""

import dataclasses

import numpy as np
import plain_ops
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import HEADS, make_model

from pytest_perfq.errors import BuildError
from pytest_perfq.kernels import packing, weights
from pytest_perfq.kernels.bits import BITS


@pytest.mark.parametrize("family", ["bert", "distilbert", "electra"])
@pytest.mark.parametrize("task", HEADS)
def test_every_weight_of_the_model_is_read_once(family, task):
    model = make_model(family, task)
    read = weights.read(model)
    held = sum(tensor.numel() for tensor in packing._tensors(read))
    # Nothing is left over and nothing is made up: transformers' own count, without a pooler that no head of ours reads.
    assert held == sum(weight.numel() for weight in model.module.parameters())
    assert (read.heads, read.head_size, read.activation, len(read.layers)) == (2, 16, "gelu", 2)
    assert [part.shape[0] for part in (read.layers[0].qkv.weight, read.layers[0].up.weight)] == [96, 64]


def test_models_of_one_token_type_add_it_to_every_position():
    model = make_model("bert", "question-answering", type_vocab_size=1)
    model = dataclasses.replace(model, inputs=("input_ids", "attention_mask"))
    read = weights.read(model).embeddings
    own = model.module.bert.embeddings
    assert read.token_type is None
    torch.testing.assert_close(read.position, own.position_embeddings.weight + own.token_type_embeddings.weight[0])


@pytest.mark.parametrize(("given_", "wanted"), weights.ACTIVATIONS.items())
def test_activations_by_their_names(given_, wanted):
    assert weights.read(make_model("bert", "question-answering", hidden_act=given_)).activation == wanted


ROBERTA = transformers.RobertaConfig(
    vocab_size=120, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda model: dataclasses.replace(model, config=ROBERTA),
            "tiny:bert is a 'roberta' model; the native encoder knows bert, electra, distilbert: use backend eager or ort",
        ),
        (
            lambda model: make_model("bert", "question-answering", hidden_act="silu"),
            "tiny:bert has activation 'silu'; the native encoder has gelu, gelu_new, gelu_pytorch_tanh, relu: "
            "use backend eager or ort",
        ),
        (
            lambda model: make_model("bert", "question-answering", position_embedding_type="relative_key"),
            "tiny:bert has position embeddings 'relative_key'; the native encoder has absolute ones: use backend eager or ort",
        ),
        (
            lambda model: make_model("bert", "question-answering", is_decoder=True),
            "tiny:bert is a decoder or has cross attention; the native encoder attends within a sequence, both ways: "
            "use backend eager",
        ),
        (
            lambda model: make_model("bert", "question-answering", num_attention_heads=8),
            "tiny:bert has attention heads of size 4; the native encoder computes multiples of 8 up to 128: "
            "use backend eager or ort",
        ),
        (
            lambda model: make_model("bert", "question-answering", hidden_size=136, num_attention_heads=1),
            "tiny:bert has attention heads of size 136; the native encoder computes multiples of 8 up to 128: "
            "use backend eager or ort",
        ),
        (
            lambda model: make_model("bert", "question-answering", num_hidden_layers=0),
            "tiny:bert has 0 layers; the native encoder computes at least 1: use backend eager",
        ),
        (
            lambda model: dataclasses.replace(model, module=transformers.BertForMaskedLM(model.config)),
            "tiny:bert is a BertForMaskedLM; the native encoder has heads for question answering, token and sequence "
            "classification: use backend eager or ort",
        ),
    ],
    ids=["family", "activation", "positions", "decoder", "small head", "large head", "layers", "task"],
)
def test_what_cannot_be_read_is_said_in_one_sentence(change, sentence):
    with pytest.raises(BuildError) as caught:
        weights.read(change(make_model("bert", "question-answering")))
    assert str(caught.value) == sentence


@pytest.mark.parametrize("bits", BITS)
def test_weights_are_quantized_as_torch_quantizes_them(bits):
    weight = torch.randn(24, 40, generator=torch.Generator().manual_seed(3))
    weight[5] = 0.0
    got, scale = packing.quantize_weight(weight, BITS[bits])
    largest = BITS[bits].weight
    finest = weight.abs().amax(1) / largest
    if BITS[bits].together:  # scales may be coarser: see below
        assert bool((scale[weight.any(1)] > 0.999 * finest[weight.any(1)]).all())
    else:
        torch.testing.assert_close(scale[weight.any(1)], finest[weight.any(1)])
    zeros = torch.zeros(24, dtype=torch.int32)
    oracle = torch.fake_quantize_per_channel_affine(weight, scale, zeros, 0, -largest, largest)
    assert_a_tie_apart(got, oracle / scale[:, None])
    assert int(got[5].abs().max()) == 0
    assert int(got.abs().max()) == largest


def test_a_scale_grows_until_four_products_fit_an_int16():
    """By no more than they need: the largest four of a row whose scale has grown are almost all that an int16 takes."""
    weight = torch.randn(64, 200, generator=torch.Generator().manual_seed(6))
    weight[7] = 0.1
    weight[7, 40:48] = torch.tensor([1.0, 0.9, 0, 0, 0.8, 0.7, 0, 0])
    got, scale = packing.quantize_weight(weight, BITS["w8a7"])
    largest_sums = sums_of_four(got).amax(1)
    finest = weight.abs().amax(1) / 127
    grown = scale > 1.001 * finest
    assert int(largest_sums.max()) <= 258
    assert 0.2 < float(grown.float().mean()) < 0.8 and bool(grown[7])
    np.testing.assert_allclose(float(scale[7]), 3.4 / 258, rtol=0.01)
    assert int(largest_sums[grown].min()) >= 254
    assert float((scale / finest).max()) < 2 and float((scale / finest).median()) < 1.2


def sums_of_four(levels):
    """Of magnitudes: of every eight in a row the first, second, fifth and sixth, and the others."""
    eight = levels.abs().int().view(len(levels), -1, 8)
    return torch.stack([eight[..., [0, 1, 4, 5]].sum(2), eight[..., [2, 3, 6, 7]].sum(2)], 2).flatten(1)


def assert_a_tie_apart(got, oracle):
    """Equal but for at most one number: torch multiplies by the inverse of the scale, and a quotient within an ulp of a half
    may fall to the other side."""
    gap = (got - oracle.round()).abs()
    assert int(gap.max()) <= 1 and int(gap.sum()) <= 1


def test_one_scale_a_tensor_is_one_of_each_part():
    weight = torch.randn(24, 8, generator=torch.Generator().manual_seed(4)) * torch.arange(1, 25)[:, None]
    got, scale = packing.quantize_weight(weight, BITS["w8a8"], per_tensor=3)
    for part in range(3):
        rows = slice(8 * part, 8 * part + 8)
        one = float(weight[rows].abs().max() / 127)
        np.testing.assert_allclose(scale[rows], one, rtol=1e-6)
        assert_a_tie_apart(got[rows], torch.fake_quantize_per_tensor_affine(weight[rows], one, 0, -127, 127) / one)


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=40), st.sampled_from(list(BITS)))
def test_a_quantized_weight_is_within_half_a_step(values, bits):
    weight = torch.tensor([values], dtype=torch.float64)
    got, scale = packing.quantize_weight(weight, BITS[bits])
    assert float((got * scale[:, None] - weight).abs().max()) <= float(scale[0]) * (0.5 + 1e-9)


def test_the_sum_of_each_row_and_the_bytes_of_all(bits="w7a7"):
    read = weights.read(make_model("bert", "question-answering"))
    packed = packing.pack(read, plain_ops, packing.Recipe(bits))
    layer = packed.layers[0]
    for linear in (layer.qkv, layer.out, layer.up, layer.down):
        assert torch.equal(linear.int8.weight_sum, linear.weight.sum(1).int())
    plain = packing.pack(read, plain_ops)
    numbers = sum(part.weight.numel() for one in read.layers for part in (one.qkv, one.out, one.up, one.down))
    scales = sum(part.weight.shape[0] for one in read.layers for part in (one.qkv, one.out, one.up, one.down))
    # An int8 weight is three bytes smaller, and has a float32 scale and an int32 sum a row.
    assert plain.bytes - packed.bytes == 3 * numbers - 8 * scales
