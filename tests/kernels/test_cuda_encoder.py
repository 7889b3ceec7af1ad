"""Whole models as a GPU runs them, on emulated kernels, against transformers; and how many launches a layer is."""

import dataclasses

import pytest
import tolerance
import torch
from test_encoder import cosine, logits, real
from tiny_models import HEADS, make_batch, make_model
from torch.utils._python_dispatch import TorchDispatchMode

from pytest_perfq.core.quantization import Static
from pytest_perfq.kernels import calibrate, cuda_attention, cuda_ops, encoder, packing, weights
from pytest_perfq.kernels.bits import BITS
from pytest_perfq.kernels.cuda_encoder import CudaEncoder

LENGTHS, COLUMNS = (1, 20, 0, 9), 20
V1 = packing.Recipe("w8a8")
F8 = packing.F8


def made(model, ops, dtype=torch.float32, recipe=packing.FP32):
    packed = packing.placed(packing.pack(weights.read(model), ops, recipe), dtype=dtype)
    return CudaEncoder(packed, ops)


def fed(model, batch):
    return encoder.feed(batch.arrays, batch.lengths, "token_type_ids" in model.inputs)


@pytest.fixture
def gpu(emulated):
    return cuda_ops.over(emulated)


@pytest.fixture
def poisonless():
    """_scaled_mm and others of torch's have no deterministic twin that poisoning could rely on."""
    torch.use_deterministic_algorithms(False)
    yield
    torch.use_deterministic_algorithms(True)


def static(model, mode):
    batches = [make_batch(model, (20, 30, 9, 1), 30, seed=seed) for seed in range(2)]
    scales = calibrate.calibrate(model, lambda: iter(batches), Static(), BITS["w8a8"].activation)
    return packing.Recipe("w8a8", scales, int8_residual=mode == "v2")


@pytest.mark.parametrize("task", HEADS)
@pytest.mark.parametrize("family", ["bert", "distilbert", "electra"])
def test_float32_is_transformers(family, task, gpu):
    model = make_model(family, task)
    batch = make_batch(model, LENGTHS, COLUMNS)
    got, wanted = made(model, gpu)(fed(model, batch)), logits(model, batch)
    assert got.dtype == torch.float32 and got.shape == wanted.shape
    assert float((real(batch, got) - real(batch, wanted)).abs().max()) <= tolerance.MODEL
    padding = torch.tensor(batch.arrays["attention_mask"]) == 0 if got.ndim == 3 else torch.tensor(batch.lengths) == 0
    assert int(padding.sum()) > 0 and not bool(got[padding].any())


# Least cosine with transformers in float32: what each precision's rounding may cost.
PRECISIONS = [
    ("float16", packing.FP32, 0.9999),
    ("bfloat16", packing.FP32, 0.999),
    ("float32", V1, 0.999),
    ("float16", V1, 0.999),
    ("bfloat16", F8, 0.998),
    ("float32", "v1", 0.999),
    ("float32", "v2", 0.999),
    ("float16", "v2", 0.999),
]


@pytest.mark.parametrize(("dtype", "recipe", "least"), PRECISIONS)
def test_less_precision_is_the_same_model_within_its_bits(dtype, recipe, least, gpu):
    model = make_model("bert", "token-classification")
    batch = make_batch(model, LENGTHS, COLUMNS)
    recipe = static(model, recipe) if isinstance(recipe, str) else recipe
    whole = made(model, gpu, getattr(torch, dtype), recipe)
    got, wanted = real(batch, whole(fed(model, batch))), real(batch, logits(model, batch))
    assert str(got.dtype) == f"torch.{dtype}"
    assert least < cosine(got.flatten(), wanted.flatten()) < 1.0


class Launches(TorchDispatchMode):
    """Counts what is dispatched, but for what only looks at a tensor in another way and what only makes room."""

    FREE = frozenset("t view transpose unbind slice unsqueeze detach select _unsafe_view alias empty".split())

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        name = op.name().partition("::")[2].partition(".")[0]
        if name not in self.FREE:
            self.names.append(name)
        return op(*args, **(kwargs or {}))


HALF = ["addmm", "varlen_attention", "mm", "add_layernorm", "linear_fused", "mm", "add_layernorm"]
FULL = ["addmm", "varlen_attention", "mm", "add_layernorm", "addmm", "bias_activation", "mm", "add_layernorm"]
LEVELS = [
    *("linear_levels", "varlen_attention", "bias_activation_levels", "linear_levels", "add_layernorm_levels"),
    *("linear_levels", "bias_activation_levels", "linear_levels", "add_layernorm_levels"),
]
BYTES = [
    *("linear_int8", "varlen_attention_int8", "linear_int8", "add_layernorm_int8"),
    *("linear_int8", "linear_int8", "add_layernorm_int8"),
]
F8_LIST = [
    *("_scaled_mm", "varlen_attention", "bias_activation_f8", "_scaled_mm", "add_layernorm_f8"),
    *("_scaled_mm", "bias_activation_f8", "_scaled_mm", "add_layernorm_f8"),
]


@pytest.mark.parametrize(
    ("dtype", "recipe", "wanted", "most"),
    [
        ("float16", packing.FP32, HALF, 7),
        ("bfloat16", packing.FP32, HALF, 7),
        ("float32", packing.FP32, FULL, 8),
        ("float16", V1, LEVELS, 9),
        ("float16", "v2", BYTES, 7),
        ("bfloat16", F8, F8_LIST, 9),
    ],
)
def test_a_layer_is_few_launches(dtype, recipe, wanted, most, gpu, poisonless):
    model = make_model("bert", "token-classification")
    recipe = static(model, recipe) if isinstance(recipe, str) else recipe
    whole = made(model, gpu, getattr(torch, dtype), recipe)
    feed = fed(model, make_batch(model, LENGTHS, COLUMNS))
    layout = whole.layout(feed)
    x = whole.embed(feed, layout)
    by, first = whole.by_rows(), whole.weights.layers[0]
    with torch.no_grad():
        rows = None if by is None else by.quantize(x, None, "none")
        with Launches() as seen:
            if by is not None:
                whole.layer_by_rows(x, rows, first, by, layout)
            elif first.scales is not None:
                whole.layer_int8(x, first, first.scales, layout)
            else:
                whole.layer(x, first, layout)
    assert seen.names == wanted and len(wanted) == most


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_relu_is_in_the_epilogue_of_its_product(dtype, gpu, poisonless):
    model = make_model("bert", "token-classification", hidden_act="relu")
    whole = made(model, gpu, getattr(torch, dtype))
    batch = make_batch(model, LENGTHS, COLUMNS)
    with torch.no_grad(), Launches() as seen:
        got = whole(fed(model, batch))
    assert seen.names.count("_addmm_activation") == len(whole.weights.layers) and "bias_activation" not in seen.names
    assert cosine(real(batch, got).flatten(), real(batch, logits(model, batch)).flatten()) > 0.9999


def test_a_tail_of_no_sequence_changes_nothing(gpu):
    """The encoder of 64 tokens, most of them of nobody, gives the logits of the 30 that there are: what graphs rest on."""
    for task in HEADS:
        model = make_model("bert", task)
        feed = fed(model, make_batch(model, LENGTHS, COLUMNS))
        for recipe, dtype in ((packing.FP32, torch.float32), (V1, torch.float16), (static(model, "v2"), torch.float32)):
            whole = made(model, gpu, dtype, recipe)
            torch.testing.assert_close(whole(feed._replace(tokens=64)), whole(feed), atol=tolerance.MODEL_TAIL, rtol=0.0)


def test_torchs_attention_serves_where_it_can():
    half, there = torch.float16, cuda_attention.found()
    assert there is not None
    assert (
        cuda_attention.choose("auto", None, half, (9, 0)).name
        == cuda_attention.choose("torch", None, half, (8, 0)).name
        == "torch"
    )
    assert cuda_attention.choose("ours", None, half, (9, 0)).name == "ours"
    assert (
        cuda_attention.choose("auto", None, half, (7, 5)).name
        == cuda_attention.choose("auto", None, torch.float32, (9, 0)).name
        == "ours"
    )
    for dtype, capability, sentence in (
        (half, (7, 5), "torch's varlen_attn needs compute capability 8.0, and this GPU has 7.5: use attention=ours"),
        (
            torch.float32,
            (9, 0),
            "torch's varlen_attn takes float16 and bfloat16, and this encoder computes in float32: use attention=ours",
        ),
    ):
        with pytest.raises(ValueError) as caught:
            cuda_attention.choose("torch", None, dtype, capability)
        assert str(caught.value) == sentence
    assert cuda_attention.lacking(half, (9, 0), None).endswith("has no torch.nn.attention.varlen, which came with 2.10")


def test_torchs_attention_is_given_what_ours_is(gpu, emulated):
    """With torch's function played by the oracle, a sequence at a time, the logits are those of our kernel."""

    def varlen(queries, keys, values, ends, other_ends, longest, other_longest, *, scale=None):
        assert torch.equal(ends, other_ends) and longest == other_longest >= int((ends[1:] - ends[:-1]).max())
        out = torch.zeros_like(queries)
        for begin, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
            parts = [one[begin:end].transpose(0, 1) for one in (queries, keys, values)]
            out[begin:end] = torch.nn.functional.scaled_dot_product_attention(*parts, scale=scale).transpose(0, 1)
        return out

    def unscaled(queries, keys, values, ends, other_ends, longest, other_longest):
        return varlen(queries, keys, values, ends, other_ends, longest, other_longest)

    model = make_model("bert", "token-classification")
    feed = fed(model, make_batch(model, LENGTHS, COLUMNS))
    wanted = made(model, gpu)(feed)
    for function in (varlen, unscaled):
        theirs = dataclasses.replace(gpu, attention=cuda_attention.torchs(function))
        torch.testing.assert_close(made(model, theirs)(feed), wanted, atol=tolerance.MODEL, rtol=0.0)
    with pytest.raises(ValueError, match=r"this torch's varlen_attn has the scale 0.25 alone, and 0.3 was given"):
        cuda_attention.torchs(unscaled).attend(torch.zeros(3, 96), torch.tensor([0, 3]), 2, 0.3, 3)
