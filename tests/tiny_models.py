"""Tiny random models with every head, made on the spot: two layers, hidden size 32, no hub and no tokenizer."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
import transformers

from pytest_perfq.contracts import Batch, Model
from pytest_perfq.core.case import Case
from pytest_perfq.core.spec import Spec

VOCABULARY, POSITIONS, LAYERS = 120, 64, 2
HEADS = {
    "question-answering": ("QuestionAnswering", ("start_logits", "end_logits")),
    "token-classification": ("TokenClassification", ("logits",)),
    "text-classification": ("SequenceClassification", ("logits",)),
}


def _config(family: str, max_position_embeddings: int = POSITIONS, **sizes):
    if family == "minilm":  # all-MiniLM-L6: a BERT with heads of size 32
        large = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
        return transformers.BertConfig(vocab_size=VOCABULARY, max_position_embeddings=max_position_embeddings, **large, **sizes)
    if family == "distilbert":
        return transformers.DistilBertConfig(
            vocab_size=VOCABULARY, dim=32, n_layers=LAYERS, n_heads=2, hidden_dim=64,
            max_position_embeddings=max_position_embeddings, **sizes,
        )  # fmt: skip
    small = {"hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "intermediate_size": 64, **sizes}
    shared = {"vocab_size": VOCABULARY, "max_position_embeddings": max_position_embeddings}
    if family == "electra":
        return transformers.ElectraConfig(**small, **shared, embedding_size=16)
    return transformers.BertConfig(**small, **shared)


def make_model(family: str, task: str, seed: int = 7, **sizes) -> Model:
    """A model of contracts.Model whose logits are of the order of one. sizes: fields of its configuration."""
    prefix = {"bert": "Bert", "minilm": "Bert", "distilbert": "DistilBert", "electra": "Electra"}[family]
    head, outputs = HEADS[task]
    config = _config(family, **sizes)
    config._attn_implementation = "eager"
    config.num_labels = 2 if task == "question-answering" else 5
    torch.manual_seed(seed)
    module = getattr(transformers, f"{prefix}For{head}")(config).eval()
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if weight.ndim == 2:
                weight.mul_(
                    6.0 if family != "minilm" else 2.0
                )  # the usual 0.02 makes all logits nearly zero, and every comparison easy
            elif name.endswith("bias"):
                weight.normal_(std=0.1)
    key = hashlib.sha256(b"".join(value.numpy().tobytes() for value in module.state_dict().values()) + repr(config).encode())
    inputs = ("input_ids", "attention_mask") if family == "distilbert" else ("input_ids", "attention_mask", "token_type_ids")
    size = sum(weight.numel() * 4 for weight in module.parameters())
    positions = config.max_position_embeddings
    return Model(module, None, config, key.hexdigest(), f"tiny:{family}", inputs, outputs, positions, VOCABULARY, size)


def make_batch(model: Model, lengths: tuple[int, ...], columns: int, seed: int = 0) -> Batch:
    """A random batch with padding on the right."""
    random = np.random.default_rng(seed)
    mask = (np.arange(columns)[None, :] < np.array(lengths)[:, None]).astype(np.int64)
    arrays = {"input_ids": random.integers(1, VOCABULARY, mask.shape) * mask, "attention_mask": mask}
    if "token_type_ids" in model.inputs:
        arrays["token_type_ids"] = (np.arange(columns)[None, :] > columns // 3) * mask
    return Batch(arrays, lengths)


def make_case(backend: str, task: str = "question-answering", **fields) -> Case:
    return Case(
        task=Spec(task), dataset="synthetic", model="tiny:bert", model_name="tiny", backend=Spec.parse(backend), **fields
    )


def eager_logits(model: Model, batch: Batch) -> dict[str, np.ndarray]:
    """The oracle: the transformers module itself, called directly."""
    with torch.no_grad():
        output = model.module(**{name: torch.tensor(batch.arrays[name]) for name in model.inputs})
    return {name: output[name].numpy() for name in model.outputs}


def no_calibration():
    raise AssertionError("only static quantization may ask for calibration data")
