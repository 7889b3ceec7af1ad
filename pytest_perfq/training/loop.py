"""The one training loop: AdamW, linear warm-up and decay, seeded, on a fixed number of threads.

Knows a transformers model with a head that computes its own loss, and rows of integers. Knows no task and no data set.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

Row = Mapping[str, list[int] | int]
_IGNORED_LABEL = -100  # torch.nn.CrossEntropyLoss's default ignore_index
_BUCKET = 16  # batches that are sorted by length together: little padding, and still a shuffled order
_REPORT_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train. learning_rate: at its highest, after `warmup` (a fraction of all steps). max_length: tokens an example
    is cut to. threads: of torch; results are equal to the bit only for equal threads."""

    epochs: int
    batch_size: int
    learning_rate: float
    max_length: int
    seed: int = 0
    threads: int = 1
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    beta2: float = 0.999


@contextmanager
def settled(recipe: Recipe) -> Iterator[None]:
    """Within it torch has the recipe's threads and seed; both are as before afterwards."""
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(state)


def pad(rows: Sequence[Row], pad_id: int) -> dict[str, torch.Tensor]:
    """Rows as int64 tensors [batch, longest] (lists) or [batch] (integers), padded on the right."""
    longest = max(len(row["input_ids"]) for row in rows)  # type: ignore[arg-type]
    filler = {"input_ids": pad_id, "labels": _IGNORED_LABEL}
    batch = {}
    for name, first in rows[0].items():
        values = [row[name] for row in rows]
        if isinstance(first, list):
            values = [value + [filler.get(name, 0)] * (longest - len(value)) for value in values]  # type: ignore[arg-type,operator]
        batch[name] = torch.tensor(values, dtype=torch.int64)
    return batch


def order(lengths: Sequence[int], batch_size: int, generator: torch.Generator) -> list[list[int]]:
    """Batches of indices for one epoch: shuffled, with rows of like length together."""
    shuffled = torch.randperm(len(lengths), generator=generator).tolist()
    width = batch_size * _BUCKET
    batches = []
    for start in range(0, len(shuffled), width):
        chunk = sorted(shuffled[start : start + width], key=lambda index: lengths[index])
        batches += [chunk[at : at + batch_size] for at in range(0, len(chunk), batch_size)]
    return [batches[index] for index in torch.randperm(len(batches), generator=generator).tolist()]


def _optimizer(module: torch.nn.Module, recipe: Recipe, steps: int) -> tuple[Any, Any]:
    decayed = [value for value in module.parameters() if value.ndim > 1]
    plain = [value for value in module.parameters() if value.ndim <= 1]  # biases and LayerNorm, as BERT does
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, recipe.beta2), fused=True)
    warm = max(1, math.ceil(recipe.warmup * steps))
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, max(0.0, (steps - step) / max(1, steps - warm)))
    )
    return optimizer, rate


def train(
    module: Any, rows: Sequence[Row], recipe: Recipe, *, pad_id: int = 0, progress: Callable[[str], None], what: str
) -> None:
    """Trains `module` in place, leaves it in eval mode. what: how progress lines call it. Call inside `settled`."""
    generator = torch.Generator().manual_seed(recipe.seed)
    lengths = [len(row["input_ids"]) for row in rows]  # type: ignore[arg-type]
    steps = recipe.epochs * sum(math.ceil(len(lengths[at : at + recipe.batch_size * _BUCKET]) / recipe.batch_size)
                                for at in range(0, len(rows), recipe.batch_size * _BUCKET))  # fmt: skip
    optimizer, rate = _optimizer(module, recipe, steps)
    module.train()
    started_s = said_s = time.monotonic()
    step = 0
    for _ in range(recipe.epochs):
        for indices in order(lengths, recipe.batch_size, generator):
            loss = module(**pad([rows[index] for index in indices], pad_id)).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), recipe.clip_norm)
            optimizer.step()
            rate.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            if time.monotonic() - said_s >= _REPORT_EVERY_S:
                said_s = time.monotonic()
                progress(f"training {what}: step {step} of {steps}, loss {loss.item():.3f}, {said_s - started_s:.0f} s")
    module.eval()
