"""INT8: what was quantized, counted by hand from the architecture, and what comes out, from onnxruntime's own sessions."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from tiny_models import eager_logits, make_batch, make_case, make_model, no_calibration

from pytest_perfq import registry
from pytest_perfq.backends._onnx import quantize
from pytest_perfq.contracts import Resources
from pytest_perfq.core.quantization import GROUPS, Dynamic, Static
from pytest_perfq.errors import BuildError, UnknownName, UsageError

# As the published sweeps of DistilBERT were run: opset 11, basic optimization, nothing fused.
SEEDS = "ort[level=1,opset=11,optimizer=false]"
# Sums of a BERT of 2 layers with a question answering head: six biases a layer and the head's; two residuals a layer; two in
# each of 5 layer normalizations; one in each GELU; one mask a layer; two over three embeddings.
BIASES, OTHER_SUMS = 6 * 2 + 1, 2 * 2 + 2 * 5 + 2 + 2 + 2
# Products with weights, and of two activations in attention.
WEIGHT_PRODUCTS, ACTIVATION_PRODUCTS = 6 * 2 + 1, 2 * 2


@pytest.fixture
def calibration(bert):
    return lambda: iter([make_batch(bert, (20, 10, 5), 20, 1), make_batch(bert, (30, 12), 30, 2)])


def build(model, quantization, resources, calibration=no_calibration, backend=SEEDS):
    ort = registry.load("backend", "ort")
    case = make_case(backend, quantization=quantization)
    assert ort.refuses(case) == []
    return ort.build(case, model, resources, calibration)


@pytest.mark.parametrize(
    ("quantization", "counted"),
    [
        (Dynamic("Add"), {}),  # onnxruntime has no dynamic Add: the published rows are fp32 models
        (Dynamic("Add", "MatMul"), {"MatMul": WEIGHT_PRODUCTS}),
        (Dynamic("Add", "MatMul", exclude=GROUPS), {"MatMul": WEIGHT_PRODUCTS}),
        (Dynamic("Gather", "MatMul", exclude=["gather"]), {"MatMul": WEIGHT_PRODUCTS}),
        (Dynamic(), {"MatMul": WEIGHT_PRODUCTS, "Gather": 3}),
        (Static("Add"), {"Add": BIASES + OTHER_SUMS}),
        (Static("Add", exclude=GROUPS), {"Add": BIASES}),
        (Static("Add", "MatMul"), {"Add": BIASES + OTHER_SUMS, "MatMul": WEIGHT_PRODUCTS + ACTIVATION_PRODUCTS}),
        (Static("Add", "MatMul", exclude=GROUPS), {"Add": BIASES, "MatMul": WEIGHT_PRODUCTS + ACTIVATION_PRODUCTS}),
        (Static("MatMul", format="qoperator"), {"MatMul": WEIGHT_PRODUCTS + ACTIVATION_PRODUCTS}),
        (Static("MatMul", calibration="entropy"), {"MatMul": WEIGHT_PRODUCTS + ACTIVATION_PRODUCTS}),
        (Static("MatMul", calibration="percentile", percentile=99.9), {"MatMul": WEIGHT_PRODUCTS + ACTIVATION_PRODUCTS}),
    ],
    ids=lambda value: getattr(value, "id", ""),
)
def test_as_many_nodes_as_the_architecture_has(quantization, counted, bert, shared_resources, calibration):
    data = calibration if quantization.approach == "static" else no_calibration
    program = build(bert, quantization, shared_resources, data)
    text = " ".join(f"{name}:{count}" for name, count in sorted(counted.items())) or "none"
    assert (program.facts["quantized_nodes"], program.facts["quantized"]) == (sum(counted.values()), text)
    assert program.facts["int8_dot_product"] in (True, False)
    program.close()


def test_dynamic_add_alone_is_the_fp32_model(bert, shared_resources):
    program = build(bert, Dynamic("Add"), shared_resources)
    batch = make_batch(bert, (20, 7), 24)
    got, wanted = program.predict(batch), eager_logits(bert, batch)
    np.testing.assert_allclose(got["start_logits"][0, :20], wanted["start_logits"][0, :20], atol=2e-5)


def test_logits_are_those_of_a_plain_session_on_the_file(bert, tmp_path, calibration):
    resources = Resources(cache=tmp_path)
    program = build(bert, Static("Add", "MatMul"), resources, calibration)
    batch = make_batch(bert, (20, 7), 24)
    got = program.predict(batch)
    found = [path for path in tmp_path.rglob("*.onnx") if b"QuantizeLinear" in path.read_bytes()]
    assert len(found) == 1
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    plain = onnxruntime.InferenceSession(str(found[0]), options, providers=["CPUExecutionProvider"])
    wanted = plain.run(list(bert.outputs), dict(batch.arrays))
    for name, logits in zip(bert.outputs, wanted, strict=True):
        np.testing.assert_array_equal(got[name], logits)
    assert np.abs(got["start_logits"] - eager_logits(bert, batch)["start_logits"]).max() > 1e-3  # it is another model
    assert program.bytes == found[0].stat().st_size


def test_every_matrix_becomes_bytes(bert, resources):
    import onnx

    build(bert, Dynamic("MatMul"), resources)
    path = next(path for path in resources.cache.rglob("*.onnx") if b"MatMulInteger" in path.read_bytes())
    tensors = onnx.load(str(path)).graph.initializer
    bytes_ = sum(int(np.prod(tensor.dims)) for tensor in tensors if tensor.data_type == onnx.TensorProto.INT8 and tensor.dims)
    matrices = {name: weight for name, weight in bert.module.named_parameters() if weight.ndim == 2 and "embed" not in name}
    assert len(matrices) == WEIGHT_PRODUCTS
    assert bytes_ == sum(weight.numel() for weight in matrices.values())


def test_other_calibration_data_is_another_file(bert, resources, calibration):
    first = build(bert, Static("MatMul"), resources, calibration)
    again = build(bert, Static("MatMul"), resources, calibration)
    other = build(bert, Static("MatMul"), resources, lambda: iter([make_batch(bert, (9,), 9, seed=5)]))
    assert [program.facts["cache_hit"] for program in (first, again, other)] == [False, True, False]
    batch = make_batch(bert, (20, 7), 24)
    logits = [program.predict(batch)["end_logits"] for program in (first, again, other)]
    np.testing.assert_array_equal(logits[0], logits[1])
    assert (logits[0] != logits[2]).any()


def test_a_range_of_the_calibration_data_is_kept(bert, resources):
    """Min-max calibration on the very batch that is run: no logit leaves its range, so the error is at most a few steps."""
    batch = make_batch(bert, (20, 7), 24)
    program = build(bert, Static("Add", exclude=GROUPS), resources, lambda: iter([batch]))
    wanted = eager_logits(bert, batch)["start_logits"]
    step = (wanted.max() - min(0.0, wanted.min())) / 255
    assert np.abs(program.predict(batch)["start_logits"] - wanted).max() < 8 * step


@pytest.mark.parametrize(
    ("quantization", "sentence"),
    [
        (
            Static("MatMul", per_channel=True),
            "static per-channel scales need opset 13, where DequantizeLinear has an axis; the case asks for 11: "
            "raise opset or set per_channel=False",
        ),
        (
            Dynamic("MatMul", type="fp8"),
            "ort quantizes to int8 and the case asks for fp8: use type int8, or backend native on a GPU",
        ),
        (Dynamic("MatMul", mode="v2"), "mode v2 belongs to native INT8 kernels, and ort has none: leave mode out"),
    ],
)
def test_what_it_refuses(quantization, sentence):
    assert registry.load("backend", "ort").refuses(make_case(SEEDS, quantization=quantization)) == [sentence]


def test_it_refuses_aware_training_and_other_precisions():
    from pytest_perfq.core.quantization import Quantization

    ort = registry.load("backend", "ort")
    aware = ort.refuses(make_case("ort", quantization=Quantization(approach="aware")))
    assert aware == ["onnxruntime quantizes after training and cannot train: use approach static or dynamic"]
    half = ort.refuses(make_case("ort", quantization=Dynamic("MatMul"), precision="fp16", device="cuda"))
    assert "ort quantizes fp32 models and the case asks for fp16: use precision fp32" in half
    assert any(reason.startswith("CUDAExecutionProvider has no kernels for onnxruntime's INT8 operators") for reason in half)


def test_an_operator_that_does_not_exist_is_a_mistake():
    with pytest.raises(UnknownName, match="unknown operator to quantize by ort 'Matmul'; did you mean 'MatMul'"):
        registry.load("backend", "ort").refuses(make_case("ort", quantization=Dynamic("Matmul")))


def test_an_exclusion_that_matches_nothing_is_a_mistake(bert, shared_resources):
    with pytest.raises(UsageError, match=r"exclude entry 'decoder' matches none of the .* nodes of tiny:bert for ort"):
        build(bert, Dynamic("MatMul", exclude=["decoder"]), shared_resources)


def test_no_calibration_examples(bert, shared_resources):
    with pytest.raises(BuildError) as caught:
        build(bert, Static("MatMul"), shared_resources, lambda: iter([]))
    assert str(caught.value) == "static quantization asked for 100 calibration examples and was given none; check the split"


def test_a_range_that_no_histogram_holds(bert, shared_resources, calibration):
    with pytest.raises(BuildError, match="use calibration minmax, or quantize MatMul only"):
        build(bert, Static("Add", calibration="entropy"), shared_resources, calibration)


def test_quantizing_what_was_fused(bert, shared_resources):
    program = build(bert, Dynamic(), shared_resources, backend="ort")
    assert program.facts["quantized"] == "Attention:2 EmbedLayerNormalization:1 MatMul:7"
    without = build(bert, Dynamic(exclude=["softmax", "layernorm"]), shared_resources, backend="ort")
    assert (without.facts["quantized"], without.facts["excluded"]) == ("MatMul:7", "layernorm:5 softmax:2")


def test_per_channel_has_a_scale_a_column(resources, calibration):
    import onnx

    model = make_model("distilbert", "text-classification")
    build(model, Dynamic("MatMul", per_channel=True), resources, backend="ort")
    path = next(path for path in resources.cache.rglob("*.onnx") if b"MatMulInteger" in path.read_bytes())
    scales = [tensor for tensor in onnx.load(str(path)).graph.initializer if tensor.name.endswith("_scale")]
    assert sorted({tuple(tensor.dims) for tensor in scales}) == [(5,), (32,), (64,)]


def test_the_key_of_calibration_data_is_its_content(bert):
    one, same, other = ([make_batch(bert, (5, 3), 8, seed)] for seed in (1, 1, 2))
    assert quantize.data_key(one) == quantize.data_key(same) != quantize.data_key(other)
    assert quantize.data_key(one) != quantize.data_key(one + one)
