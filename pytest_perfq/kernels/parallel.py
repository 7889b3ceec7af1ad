"""One forward pass over several processes: how weights are split, and what is exchanged.

    tensor parallel (tp)    every layer over tp processes: heads and inner features are divided (columns of QKV and up, rows of
                            out and down); what out and down give is summed over them before bias, residual and LayerNorm
    pipeline parallel (pp)  runs of layers over pp stages; packed tokens [T, H] go from each to the next

Process stage * tp + shard has one shard of one stage. Every process gets the batch and counts its tokens itself, so that
nothing but activations is exchanged. Talks through torch.distributed; knows neither how processes start nor which backend of
it runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch import Tensor

from pytest_perfq.errors import UsageError
from pytest_perfq.kernels.encoder import Encoder, Feed, Reduce, alone
from pytest_perfq.kernels.packing import QKV_PARTS, Recipe
from pytest_perfq.kernels.weights import Dense, Layer, Weights


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process stands among tp * pp."""

    rank: int
    tp: int
    pp: int

    @property
    def shard(self) -> int:
        return self.rank % self.tp

    @property
    def stage(self) -> int:
        return self.rank // self.tp

    @property
    def before(self) -> int | None:
        """The process that sends the tokens, None for the first stage."""
        return self.rank - self.tp if self.stage else None

    @property
    def after(self) -> int | None:
        """The process that takes the tokens, None for the last stage."""
        return self.rank + self.tp if self.stage < self.pp - 1 else None


def part(weights: Weights, recipe: Recipe, place: Place) -> tuple[Weights, Recipe]:
    """What one process needs of the weights and their recipe. Raises BuildError for a model that cannot be split so."""
    check(weights, recipe, place.tp, place.pp)
    held = _layers_of(len(weights.layers), place.stage, place.pp)
    layers = tuple(_shard(layer, place.shard, place.tp) for layer in weights.layers[held])
    own = replace(
        weights,
        embeddings=weights.embeddings if place.before is None else None,
        layers=layers,
        head=weights.head if place.after is None else None,
        heads=weights.heads // place.tp,
    )
    return own, recipe if recipe.scales is None else replace(recipe, scales=recipe.scales[held])


def check(weights: Weights, recipe: Recipe, tp: int, pp: int) -> None:
    """Raises UsageError for a model that tp and pp cannot divide."""
    inner = weights.layers[0].up.weight.shape[0]
    if weights.heads % tp or inner % tp:
        raise UsageError(
            f"tp is {tp}, and the model has {weights.heads} attention heads and {inner} inner features: "
            "choose a tp that divides both"
        )
    if pp > len(weights.layers):
        layers = len(weights.layers)
        raise UsageError(f"pp is {pp}, and the model has {layers} layers: choose a pp of at most {layers}")
    if recipe.int8_residual and tp > 1:
        raise UsageError(f"tp is {tp}, and an INT8 residual cannot be summed over processes: set tp to 1 or leave mode v2 out")


def reducer(place: Place) -> Reduce:
    """The sum over the processes that share a layer, in place. Every process of the default group must call it, once."""
    if place.tp == 1:
        return alone
    # torch.distributed wants every process to make every group.
    groups = [dist.new_group(list(range(stage * place.tp, (stage + 1) * place.tp))) for stage in range(place.pp)]

    def reduce(x: Tensor) -> Tensor:
        if x.numel():  # no tokens, nothing to add
            dist.all_reduce(x, group=groups[place.stage])
        return x

    return reduce


def forward(encoder: Encoder, feed: Feed, place: Place) -> Tensor | None:
    """This process's part of the forward pass: logits in the last stage, None before it."""
    layout = encoder.layout(feed)
    x = encoder.embed(feed, layout) if place.before is None else _receive(encoder, feed.tokens, place.before)
    x = encoder.layers(x, layout)
    if place.after is None:
        return encoder.head(x, layout)
    if x.numel():
        dist.send(x, place.after)
    return None


def _receive(encoder: Encoder, tokens: int, source: int) -> Tensor:
    """Packed tokens [T, H] as the layers before gave them."""
    like = encoder.weights.layers[0].output_norm.weight  # [H]
    x = like.new_empty(tokens, len(like), dtype=torch.uint8 if encoder.weights.levels else like.dtype)
    if x.numel():
        dist.recv(x, source)
    return x


def _layers_of(count: int, stage: int, stages: int) -> slice:
    """The layers of a stage: in order, and no stage has two more than another."""
    return slice(count * stage // stages, count * (stage + 1) // stages)


def _shard(layer: Layer, shard: int, shards: int) -> Layer:
    """One shard's heads and inner features. The biases of out and down stay whole: they are added after the sum."""
    if shards == 1:
        return layer

    def rows(dense: Dense, parts: int = 1) -> Dense:
        weight = dense.weight.unflatten(0, (parts, shards, -1))[:, shard].flatten(0, 1)
        return Dense(weight.contiguous(), dense.bias.unflatten(0, (parts, shards, -1))[:, shard].flatten())

    def columns(dense: Dense) -> Dense:
        return Dense(dense.weight.chunk(shards, dim=1)[shard].contiguous(), dense.bias)

    return replace(layer, qkv=rows(layer.qkv, QKV_PARTS), out=columns(layer.out), up=rows(layer.up), down=columns(layer.down))
