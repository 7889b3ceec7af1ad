"""Weights in the layouts that the operations read, in fp32, bf16, INT8 or FP8: what the encoder computes with.

`ops` is the namespace of operations of csrc/schema.cpp, or another with the same signatures. Knows neither the model the
weights came from nor how calibration found a scale.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from pytest_perfq.errors import BuildError
from pytest_perfq.kernels.bits import BITS
from pytest_perfq.kernels.packed import AddNorm, Int8, LayerScales, Linear, PackedLayer, Scale
from pytest_perfq.kernels.quantizing import quantize_weight
from pytest_perfq.kernels.weights import Dense, Embeddings, Head, Layer, Norm, Weights

QKV_PARTS = 3
F8_LARGEST = 448.0  # of float8_e4m3fn
F8_STEP = 16  # bytes that a row of either factor is a multiple of
# What a precision converts; bytes and float8 are as they were packed.
HALVED = (torch.float32, torch.float64)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the linears of the layers compute. bits: a name of BITS, None in floating point. scales: one a layer where they were
    calibrated, None for scales per token at run time. int8_residual: FasterTransformer's second mode: everything between the
    linears is uint8 too, one weight scale a tensor; needs scales. Otherwise the first: the residual stays in floating point,
    one weight scale an output channel. bf16: weights and the rows that they are multiplied with are rounded to bfloat16, and
    all else stays float32; a CPU's, and without bits. f8: weights and what they are multiplied with in float8_e4m3fn, a scale a
    row of either; a GPU's, and without bits."""

    bits: str | None = None
    scales: tuple[LayerScales, ...] | None = None
    int8_residual: bool = False
    bf16: bool = False
    f8: bool = False


FP32 = Recipe()
BF16 = Recipe(bf16=True)
F8 = Recipe(f8=True)


@dataclass(frozen=True, slots=True)
class Packed:
    """Weights as the operations read them. levels: the largest uint8 value where the residual is INT8, else 0."""

    embeddings: Embeddings[Linear] | None
    layers: tuple[PackedLayer, ...]
    head: Head[Linear] | None
    heads: int
    head_size: int
    levels: int

    @property
    def bytes(self) -> int:
        """Of every tensor in the tree."""
        return sum(tensor.numel() * tensor.element_size() for tensor in _tensors(self))


def pack(weights: Weights, ops: Any, recipe: Recipe = FP32) -> Packed:
    """The packed tree. The embeddings' projection and the head stay fp32: they are a thousandth of the work."""
    layers = tuple(
        _layer(layer, ops, recipe, weights.activation, None if recipe.scales is None else recipe.scales[number])
        for number, layer in enumerate(weights.layers)
    )
    levels = BITS[recipe.bits].activation if recipe.bits and recipe.int8_residual else 0
    embeddings, head = weights.embeddings, weights.head
    return Packed(
        None if embeddings is None else _embeddings(embeddings, ops), layers,
        None if head is None else _head(head, ops), weights.heads, weights.head_size, levels,
    )  # fmt: skip


def placed(tree: T, device: torch.device | None = None, dtype: torch.dtype | None = None) -> T:
    """The tree with its tensors on `device`, and those that hold values in `dtype`: not the scales, which stay float32."""

    def moved(value: Any, keep: bool) -> Any:
        if isinstance(value, Tensor):
            wanted = value.dtype if keep or value.dtype not in HALVED else dtype
            return value.to(device=device, dtype=wanted)
        if isinstance(value, tuple):
            return tuple(moved(part, keep) for part in value)
        if not dataclasses.is_dataclass(value) or isinstance(value, type):
            return value
        keep = keep or isinstance(value, (Scale, Int8))
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **{name: moved(part, keep or name == "f8_scale") for name, part in fields.items()})

    made: T = moved(tree, False)
    return made


def float_linear(dense: Dense, ops: Any, activation: str = "none", late_bias: bool = False) -> Linear:
    """A linear in the weights' own precision. late_bias: its bias is added by the normalization after it."""
    bias = None if late_bias else dense.bias
    return Linear(ops.pack_weight(dense.weight), bias, dense.weight.shape[0], activation, None)


def int8_linear(
    dense: Dense,
    ops: Any,
    bits: str,
    ends: tuple[Scale | None, Scale | None],
    activation: str,
    late_bias: bool,
    per_tensor: int,
) -> Linear:
    """A linear in INT8. ends: the scales of its input and of its output, None as in Int8. per_tensor: see quantize_weight."""
    weight, scale = quantize_weight(dense.weight, BITS[bits], per_tensor)
    int8 = Int8(bits, scale, weight.sum(dim=1, dtype=torch.int32), *ends)
    bias = None if late_bias else dense.bias
    return Linear(ops.pack_weight_int8(weight, bits), bias, dense.weight.shape[0], activation, int8)


def f8_linear(dense: Dense, activation: str, late_bias: bool) -> Linear:
    """A linear in float8_e4m3fn: each row of the weight by its largest magnitude. Raises BuildError for one
    that torch._scaled_mm cannot multiply."""
    outside, inside = dense.weight.shape
    if outside % F8_STEP or inside % F8_STEP:
        raise BuildError(
            f"fp8 products take multiples of {F8_STEP}, and the model has a linear of {inside} -> {outside}: use type int8"
        )
    scale = dense.weight.abs().amax(dim=1) / F8_LARGEST
    scale = torch.where(scale == 0, torch.ones_like(scale), scale).float()
    weight = (dense.weight / scale[:, None]).clamp(-F8_LARGEST, F8_LARGEST).to(torch.float8_e4m3fn)
    return Linear(weight, None if late_bias else dense.bias, len(weight), activation, None, scale[None, :])


def _layer(layer: Layer, ops: Any, recipe: Recipe, activation: str, scales: LayerScales | None) -> PackedLayer:
    late = not recipe.int8_residual

    def linear(dense: Dense, ends: str, activation: str = "none", late_bias: bool = False, parts: int = 1) -> Linear:
        if recipe.f8:
            return f8_linear(dense, activation, late_bias)
        if recipe.bf16:
            dense = Dense(dense.weight.to(torch.bfloat16), dense.bias)
        if recipe.bits is None:
            return float_linear(dense, ops, activation, late_bias)
        takes, gives = (None if scales is None else getattr(scales, name) for name in ends.split())
        per_tensor = parts if recipe.int8_residual else 0
        between = takes, gives if recipe.int8_residual else None
        return int8_linear(dense, ops, recipe.bits, between, activation, late_bias, per_tensor)

    def norm(given: Norm, before: Dense) -> AddNorm:
        return AddNorm(given.weight, given.bias, given.eps, before.bias if late else None)

    return PackedLayer(
        qkv=linear(layer.qkv, "input qkv", parts=QKV_PARTS),
        out=linear(layer.out, "context out", late_bias=late),
        attention_norm=norm(layer.attention_norm, layer.out),
        up=linear(layer.up, "middle inner", activation),
        down=linear(layer.down, "inner down", late_bias=late),
        output_norm=norm(layer.output_norm, layer.down),
        scales=scales if recipe.int8_residual else None,
    )


def _embeddings(given: Embeddings[Dense], ops: Any) -> Embeddings[Linear]:
    project = None if given.project is None else float_linear(given.project, ops)
    return Embeddings(given.word, given.position, given.token_type, given.norm, project)


def _head(given: Head[Dense], ops: Any) -> Head[Linear]:
    dense = None if given.dense is None else float_linear(given.dense, ops, given.activation)
    return Head(given.pooled, dense, float_linear(given.classifier, ops), given.activation)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, tuple):
        return [tensor for part in value for tensor in _tensors(part)]
    if dataclasses.is_dataclass(value):
        return [tensor for field in dataclasses.fields(value) for tensor in _tensors(getattr(value, field.name))]
    return []
