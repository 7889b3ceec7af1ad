"""The weights of a BERT-family model as the paper has them: embeddings, layers, head. Nothing packed, nothing quantized.

Reads what transformers loaded (BertFor*, DistilBertFor*, ElectraFor*; MiniLM is a BERT) by the names of its modules, and says
what it cannot read. Knows no operation and no device.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import torch
from torch import Tensor

from pytest_perfq.contracts import Model
from pytest_perfq.errors import BuildError
from pytest_perfq.kernels.parts import Part

# What a head takes: plain tensors here (Dense), packed ones in `packed` (Linear).
L = TypeVar("L")
# transformers' names of activations, as the operations call them.
ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}
HEAD_SIZE_STEP, HEAD_SIZE_LIMIT = 8, 128


@dataclass(frozen=True, slots=True)
class Names:
    """Where an architecture keeps its parts: module names, those of a layer within `layers.N`."""

    base: str
    layers: str
    query: str
    key: str
    value: str
    out: str
    attention_norm: str
    up: str
    down: str
    output_norm: str


_BERT = Names(
    "bert", "encoder.layer", "attention.self.query", "attention.self.key", "attention.self.value",
    "attention.output.dense", "attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm",
)  # fmt: skip
NAMES = {
    "bert": _BERT,
    "electra": replace(_BERT, base="electra"),
    "distilbert": Names(
        "distilbert", "transformer.layer", "attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin",
        "sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Dense:
    """weight [N, K], bias [N]."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True, slots=True)
class Norm:
    """A layer normalization: weight [H], bias [H], eps."""

    weight: Tensor
    bias: Tensor
    eps: float


@dataclass(frozen=True, slots=True)
class Embeddings(Generic[L]):
    """word [V, E], position [P, E], token_type [2, E] or None; project: E -> H where a model has it."""

    word: Tensor
    position: Tensor
    token_type: Tensor | None
    norm: Norm
    project: L | None


@dataclass(frozen=True, slots=True)
class Layer:
    """qkv: H -> 3H (queries, keys, values; heads side by side). out: H -> H. up: H -> I. down: I -> H."""

    qkv: Dense
    out: Dense
    attention_norm: Norm
    up: Dense
    down: Dense
    output_norm: Norm


@dataclass(frozen=True, slots=True)
class Head(Generic[L]):
    """pooled: whether it reads the first token of each sequence (sequence classification) or every token. dense: H -> H
    with `activation` before the classifier, where a model has one."""

    pooled: bool
    dense: L | None
    classifier: L
    activation: str


@dataclass(frozen=True, slots=True)
class Weights:
    """The tree. heads: of attention, all of head_size. activation: between up and down. A part of a model (a stage of a
    pipeline) has only some layers, embeddings only at its start and a head only at its end."""

    embeddings: Embeddings[Dense] | None
    layers: tuple[Layer, ...]
    head: Head[Dense] | None
    heads: int
    head_size: int
    activation: str


def read(model: Model) -> Weights:
    """The weights of a model, sharing its memory but for the fused ones. Raises BuildError for what is not understood."""
    names, activation = _understood(model)
    config, whole = model.config, Part(model.module, model.source)
    base = whole.part(names.base)
    layers = tuple(_layer(layer, names) for layer in base.parts(names.layers))
    if not layers:
        raise BuildError(f"{model.source} has 0 layers; the native encoder computes at least 1: use backend eager")
    heads = int(getattr(config, "num_attention_heads", 0) or config.n_heads)
    head_size = layers[0].qkv.weight.shape[0] // (3 * heads)
    if head_size % HEAD_SIZE_STEP or head_size > HEAD_SIZE_LIMIT:
        raise BuildError(
            f"{model.source} has attention heads of size {head_size}; the native encoder computes multiples of "
            f"{HEAD_SIZE_STEP} up to {HEAD_SIZE_LIMIT}: use backend eager or ort"
        )
    embeddings = _embeddings(base, "token_type_ids" in model.inputs)
    return Weights(embeddings, layers, _head(whole, base, model), heads, head_size, activation)


def _understood(model: Model) -> tuple[Names, str]:
    config = model.config
    names = NAMES.get(config.model_type)
    if names is None:
        raise BuildError(
            f"{model.source} is a {config.model_type!r} model; the native encoder knows {', '.join(NAMES)}: "
            "use backend eager or ort"
        )
    given = getattr(config, "hidden_act", None) or getattr(config, "activation", None)
    advice = "use backend eager or ort"
    if given not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise BuildError(f"{model.source} has activation {given!r}; the native encoder has {known}: {advice}")
    positions = getattr(config, "position_embedding_type", "absolute")
    if positions != "absolute":
        raise BuildError(
            f"{model.source} has position embeddings {positions!r}; the native encoder has absolute ones: {advice}"
        )
    if getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False):
        raise BuildError(
            f"{model.source} is a decoder or has cross attention; the native encoder attends within a sequence, both ways: "
            "use backend eager"
        )
    return names, ACTIVATIONS[given]


def _dense(part: Part) -> Dense:
    return Dense(part.tensor("weight"), part.tensor("bias"))


def _norm(part: Part) -> Norm:
    return Norm(part.tensor("weight"), part.tensor("bias"), part.number("eps"))


def _layer(layer: Part, names: Names) -> Layer:
    qkv = [_dense(layer.part(name)) for name in (names.query, names.key, names.value)]
    return Layer(
        qkv=Dense(torch.cat([one.weight for one in qkv]), torch.cat([one.bias for one in qkv])),
        out=_dense(layer.part(names.out)),
        attention_norm=_norm(layer.part(names.attention_norm)),
        up=_dense(layer.part(names.up)),
        down=_dense(layer.part(names.down)),
        output_norm=_norm(layer.part(names.output_norm)),
    )


def _embeddings(base: Part, typed: bool) -> Embeddings[Dense]:
    """typed: whether batches say the type of each token; where none do, all are of type 0, which is added here once."""
    part = base.part("embeddings")
    position = part.part("position_embeddings").tensor("weight")
    types = part.part("token_type_embeddings").tensor("weight") if part.has("token_type_embeddings") else None
    if types is not None and not typed:
        position, types = position + types[0], None
    project = _dense(base.part("embeddings_project")) if base.has("embeddings_project") else None
    return Embeddings(part.part("word_embeddings").tensor("weight"), position, types, _norm(part.part("LayerNorm")), project)


def _head(whole: Part, base: Part, model: Model) -> Head[Dense]:
    kind = type(whole.module).__name__.partition("For")[2]
    if kind == "QuestionAnswering":
        return Head(False, None, _dense(whole.part("qa_outputs")), "none")
    if kind == "TokenClassification":
        return Head(False, None, _dense(whole.part("classifier")), "none")
    if kind != "SequenceClassification":
        raise BuildError(
            f"{model.source} is a {type(whole.module).__name__}; the native encoder has heads for question answering, token "
            "and sequence classification: use backend eager or ort"
        )
    classifier = whole.part("classifier")
    if model.config.model_type == "bert":
        return Head(True, _dense(base.part("pooler.dense")), _dense(classifier), "tanh")
    if model.config.model_type == "distilbert":
        return Head(True, _dense(whole.part("pre_classifier")), _dense(classifier), "relu")
    return Head(True, _dense(classifier.part("dense")), _dense(classifier.part("out_proj")), "gelu")
