"""The encoder, as the paper has it, on packed tokens: padding is removed once, and put back at the end.

    ids [B, S] -> embed -> [T, H] -> layers -> [T, H] -> head -> [B, S, C] or [B, C]

T: real tokens of the batch, B: sequences, S: padded length, H: hidden size, I: inner size, C: classes. `ops` is the namespace
of operations of csrc/schema.cpp, or another with the same signatures; with plain torch there this module is its own test.
Nothing here waits for a device: the number of tokens comes from the host. Knows no model file and no calibration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pytest_perfq.errors import ProgramError
from pytest_perfq.kernels.packed import AddNorm, LayerScales, Linear, PackedLayer
from pytest_perfq.kernels.packing import Packed
from pytest_perfq.kernels.weights import Head

BATCH_LIMIT = 4096  # sequences
LENGTH_LIMIT = 4096  # tokens of one padded sequence
Reduce = Callable[[Tensor], Tensor]


class Feed(NamedTuple):
    """A batch as tensors: ids, mask and (where the model takes them) types int64 [B, S]; tokens: T, counted on the host."""

    input_ids: Tensor
    mask: Tensor
    token_type_ids: Tensor | None
    tokens: int


class Layout(NamedTuple):
    """Where the packed tokens lie. cu_seqlens [B + 1] int32, index [T] int32 into the padded batch of batch x seq."""

    cu_seqlens: Tensor
    index: Tensor
    batch: int
    seq: int


def feed(arrays: Mapping[str, np.ndarray[Any, Any]], lengths: tuple[int, ...], typed: bool) -> Feed:
    """The feed of host arrays [B, S]. Raises ProgramError for what is missing or over a limit, and for lengths that are not the
    mask's."""
    names = ("input_ids", "attention_mask") + (("token_type_ids",) if typed else ())
    if missing := [name for name in names if name not in arrays]:
        raise ProgramError(f"a batch has {', '.join(arrays)} and lacks {', '.join(missing)}, which the model takes; add it")
    ids, mask, *types = (torch.from_numpy(np.ascontiguousarray(arrays[name])) for name in names)
    for value, limit, what in ((ids.shape[0], BATCH_LIMIT, "sequences"), (ids.shape[1], LENGTH_LIMIT, "tokens a sequence")):
        if value > limit:
            raise ProgramError(f"a batch of {value} {what}; the native encoder takes at most {limit}: make it smaller")
    tokens, held = sum(lengths), int(mask.sum())
    if tokens != held:
        raise ProgramError(f"the lengths of the batch say {tokens} tokens and its mask has {held}; make them agree")
    return Feed(ids, mask, types[0] if types else None, tokens)


def alone(x: Tensor) -> Tensor:
    """The reduction of one process: there is nothing to add."""
    return x


@dataclass(frozen=True, slots=True)
class Encoder:
    """The forward pass of `weights` with `ops`. reduce: sums [T, H] over the devices that share a layer."""

    weights: Packed
    ops: Any
    reduce: Reduce = alone

    def __call__(self, feed: Feed) -> Tensor:
        """Logits: [B, S, C], zero at padding, or [B, C], zero for a sequence of no tokens."""
        layout = self.layout(feed)
        return self.head(self.layers(self.embed(feed, layout), layout), layout)

    def layout(self, feed: Feed) -> Layout:
        """Counts the tokens of each sequence: the one time that the mask is read."""
        batch, seq = feed.mask.shape
        cu_seqlens, index = self.ops.pack_tokens(feed.mask, feed.tokens)
        return Layout(cu_seqlens, index, batch, seq)

    def embed(self, feed: Feed, layout: Layout) -> Tensor:
        """What the first layer reads, [T, H]: uint8 where the residual is."""
        given = self.weights.embeddings
        assert given is not None
        x = self.ops.embed_layernorm(
            feed.input_ids, feed.token_type_ids, layout.index, given.word, given.position, given.token_type,
            given.norm.weight, given.norm.bias, given.norm.eps,
        )  # fmt: skip  # [T, E]
        if given.project is not None:
            x = self.linear(x, given.project)  # [T, E] -> [T, H]
        first = self.weights.layers[0].scales
        return x if first is None else self.ops.quantize(x, first.input.scale, first.input.zero, self.weights.levels)

    def layers(self, x: Tensor, layout: Layout) -> Tensor:
        """[T, H] -> [T, H]."""
        for layer in self.weights.layers:
            if layer.scales is not None:
                x = self.layer_int8(x, layer, layer.scales, layout)
            elif self.reduce is alone and x.is_cpu and layer.one_op:
                x = self.layer_at_once(x, layer, layout)
            else:
                x = self.layer(x, layer, layout)
        return x

    def layer_at_once(self, x: Tensor, layer: PackedLayer, layout: Layout) -> Tensor:
        """What `layer` gives, to the last bit, by one call: on a CPU seven cost as much as a dozen tokens. [T, H] -> [T, H]."""
        linears, norms = (layer.qkv, layer.out, layer.up, layer.down), (layer.attention_norm, layer.output_norm)
        int8 = [linear.int8 for linear in linears if linear.int8 is not None]
        biases = [layer.qkv.bias, layer.attention_norm.linear_bias, layer.up.bias, layer.output_norm.linear_bias]
        return self.ops.layer(
            x, layout.cu_seqlens, [linear.weight for linear in linears],
            [one.weight_scale for one in int8], [one.weight_sum for one in int8], biases,
            [tensor for norm in norms for tensor in (norm.weight, norm.bias)],
            self.weights.heads, self.weights.head_size**-0.5, norms[0].eps, norms[1].eps,
            layer.qkv.bits, layer.up.activation,
        )  # fmt: skip

    def layer(self, x: Tensor, layer: PackedLayer, layout: Layout) -> Tensor:
        """Attention and feed-forward, each added to its input and normalized; the residual in floating point."""
        qkv = self.linear(x, layer.qkv)  # [T, H] -> [T, 3H]
        context = self.attention(qkv, layout, layer.may_round)  # [T, 3H] -> [T, H]
        middle = self.add_norm(self.reduce(self.linear(context, layer.out)), x, layer.attention_norm)  # [T, H]
        inner = self.linear(middle, layer.up)  # [T, H] -> [T, I]
        return self.add_norm(self.reduce(self.linear(inner, layer.down)), middle, layer.output_norm)  # [T, I] -> [T, H]

    def layer_int8(self, x: Tensor, layer: PackedLayer, scales: LayerScales, layout: Layout) -> Tensor:
        """The same with uint8 between all operations, by calibrated scales."""
        size, levels = self.weights.head_size, self.weights.levels
        qkv = self.linear(x, layer.qkv)  # [T, H] -> [T, 3H]
        context = self.ops.varlen_attention_int8(
            qkv, layout.cu_seqlens, self.weights.heads, size**-0.5,
            [scales.qkv.scale, scales.context.scale], [scales.qkv.zero, scales.context.zero], levels,
        )  # fmt: skip  # [T, 3H] -> [T, H]

        def add_norm(x: Tensor, residual: Tensor, norm: AddNorm, names: tuple[str, str, str]) -> Tensor:
            of = [getattr(scales, name) for name in names]
            return self.ops.add_layernorm_int8(
                x, residual, norm.weight, norm.bias, norm.eps, [one.scale for one in of], [one.zero for one in of], levels
            )

        middle = add_norm(self.linear(context, layer.out), x, layer.attention_norm, ("out", "input", "middle"))  # [T, H]
        inner = self.linear(middle, layer.up)  # [T, H] -> [T, I]
        return add_norm(self.linear(inner, layer.down), middle, layer.output_norm, ("down", "middle", "output"))  # [T, H]

    def attention(self, qkv: Tensor, layout: Layout, may_round: bool) -> Tensor:
        """Each token sees the tokens of its own sequence. [T, 3H] -> [T, H]."""
        return self.ops.varlen_attention(qkv, layout.cu_seqlens, self.weights.heads, self.weights.head_size**-0.5, may_round)

    def linear(self, x: Tensor, linear: Linear) -> Tensor:
        """[T, K] -> [T, N]: x weight' + bias, and the linear's activation."""
        if linear.int8 is None:
            return self.ops.linear(x, linear.weight, linear.bias, linear.out_features, linear.activation)
        int8 = linear.int8
        input_scale, input_zero = (None, None) if int8.input is None else (int8.input.scale, int8.input.zero)
        output_scale, output_zero = (None, None) if int8.output is None else (int8.output.scale, int8.output.zero)
        ends = input_scale, input_zero, output_scale, output_zero
        return self.ops.linear_int8(
            x, linear.weight, int8.weight_scale, int8.weight_sum, linear.bias, *ends, int8.bits, linear.activation
        )

    def add_norm(self, x: Tensor, residual: Tensor, norm: AddNorm) -> Tensor:
        """LayerNorm(x + linear_bias + residual), [T, H]."""
        return self.ops.add_layernorm(x, residual, norm.linear_bias, norm.weight, norm.bias, norm.eps)

    def head(self, x: Tensor, layout: Layout) -> Tensor:
        """Logits of every token, [B, S, C], or of every sequence, [B, C]."""
        head = self.weights.head
        assert head is not None
        last = self.weights.layers[-1].scales
        if last is not None:
            x = self.ops.dequantize(x, last.output.scale, last.output.zero).to(head.classifier.weight.dtype)
        if head.pooled:
            return self._sequence_logits(x, head, layout)
        return self.ops.restore_padding(self.linear(x, head.classifier), layout.index, layout.batch, layout.seq)

    def _sequence_logits(self, x: Tensor, head: Head[Linear], layout: Layout) -> Tensor:
        first = self.ops.pool(x, layout.cu_seqlens, "cls", False)  # [T, H] -> [B, H]
        dense = first if head.dense is None else self.linear(first, head.dense)
        logits = self.linear(dense, head.classifier)  # [B, H] -> [B, C]
        ends = layout.cu_seqlens
        return logits * (ends[1:] > ends[:-1]).unsqueeze(1)  # the logits of nothing are zero, not the head's biases


class Difference(NamedTuple):
    """Absolute differences over the logits of real tokens."""

    max: float
    mean: float
    min: float


def differences(
    got: Mapping[str, np.ndarray[Any, Any]], wanted: Mapping[str, np.ndarray[Any, Any]], mask: np.ndarray[Any, Any]
) -> dict[str, Difference]:
    """How far two encoders lie apart, by output, as FasterTransformer's bert_example prints it. mask [B, S], not all zero;
    logits of tokens are compared where it is not zero, logits of sequences as they are."""
    found = {}
    for name, true in wanted.items():
        gap = np.abs(got[name].astype(np.float64) - true)
        if true.ndim == 3 or name != "logits":
            gap = gap[mask.astype(bool)]
        found[name] = Difference(float(gap.max()), float(gap.mean()), float(gap.min()))
    return found
