"""What is embedded, by name: data sets with their task and size, and the shapes of models. Plain values, no generator and no
framework, since cases are held against it while they are collected."""

from __future__ import annotations

import dataclasses
from typing import Any

# Data set -> the task whose columns it has. The first of a task is what plain `synthetic` means for it.
TASKS = {
    "squad": "question-answering",
    "squad_v2": "question-answering",
    "conll2003": "token-classification",
    "sst2": "text-classification",
    "mrpc": "text-classification",
    "cola": "text-classification",
}
# Training rows a data set; the harder the rule, the more of them.
TRAIN_ROWS = {"squad": 4000, "squad_v2": 6000, "conll2003": 3000, "sst2": 3000, "mrpc": 8000, "cola": 6000}
VALIDATION_ROWS = 1000


def sizes(name: str) -> dict[str, int]:
    """Split -> rows."""
    return {"train": TRAIN_ROWS[name], "validation": VALIDATION_ROWS}


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of an encoder, under the names that its own configuration class uses."""

    model_type: str
    options: tuple[tuple[str, Any], ...]


def shape(model_type: str, **options: Any) -> Shape:
    """A shape with these options."""
    return Shape(model_type, tuple(sorted(options.items())))


_BERT = {"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 192}
MODELS: dict[str, Shape] = {
    "bert": shape("bert", **_BERT, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0),
    "distilbert": shape("distilbert", dim=96, n_layers=3, n_heads=4, hidden_dim=192, dropout=0.0, attention_dropout=0.0),
    "electra": shape("electra", **_BERT, embedding_size=64, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0),
    # MiniLM is BERT, deep and narrow
    "minilm": shape("bert", **{**_BERT, "hidden_size": 64, "num_hidden_layers": 6, "intermediate_size": 256},
                    hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0),
}  # fmt: skip
