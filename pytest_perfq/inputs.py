"""Input batches for timing: random token ids of a model's vocabulary and rows of chosen lengths. Knows no torch and no text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pytest_perfq.contracts import Batch, Model
from pytest_perfq.core.case import PADDINGS
from pytest_perfq.errors import UnknownName, UsageError


def latency_batch(
    model: Model, batch_size: int, seq_len: int, padding: str, seed: int, dataset_lengths: Sequence[int] | None = None
) -> Batch:
    """A batch [batch_size, seq_len] of int64 ids without special tokens, padded on the right; equal arguments give equal bits.

    padding: 'full' (every row seq_len), 'uniform' (lengths uniform on 1 to seq_len, one row of seq_len), 'half' (every row
    seq_len / 2, rounded up), 'dataset' (drawn from dataset_lengths, cut to seq_len). The array is seq_len wide even
    where no row is, since that is the length that the case names. Raises UsageError.
    """
    if seq_len > model.max_positions:
        raise UsageError(
            f"seq_len is {seq_len}, but model {model.source!r} has {model.max_positions} positions; "
            f"give seq_len={model.max_positions} or less"
        )
    dice = np.random.default_rng([seed, batch_size, seq_len])
    lengths = _lengths(dice, batch_size, seq_len, padding, dataset_lengths)
    ids = _ordinary_ids(model)
    arrays = {name: np.zeros((batch_size, seq_len), dtype=np.int64) for name in model.inputs}
    arrays["input_ids"][:] = model.tokenizer.pad_token_id or 0
    for row, length in enumerate(lengths):
        arrays["input_ids"][row, :length] = dice.choice(ids, size=length)
        if "attention_mask" in arrays:
            arrays["attention_mask"][row, :length] = 1
    return Batch(arrays, tuple(lengths))


def _lengths(
    dice: np.random.Generator, batch_size: int, seq_len: int, padding: str, dataset_lengths: Sequence[int] | None
) -> list[int]:
    if padding == "full":
        return [seq_len] * batch_size
    if padding == "half":
        return [(seq_len + 1) // 2] * batch_size
    if padding == "uniform":
        lengths = dice.integers(1, seq_len, size=batch_size, endpoint=True)
        lengths[dice.integers(batch_size)] = seq_len
        return [int(length) for length in lengths]
    if padding == "dataset":
        if not dataset_lengths:
            raise UsageError("padding 'dataset' has no lengths to draw from; give examples of a data set, or take 'uniform'")
        drawn = dice.choice(np.asarray(dataset_lengths, dtype=np.int64), size=batch_size)
        return [int(length) for length in np.clip(drawn, 1, seq_len)]
    raise UnknownName("padding", padding, PADDINGS)


def _ordinary_ids(model: Model) -> np.ndarray:
    """Ids of the vocabulary that are not special tokens."""
    every = np.arange(min(model.vocab_size, len(model.tokenizer)), dtype=np.int64)
    return np.setdiff1d(every, np.asarray(model.tokenizer.all_special_ids, dtype=np.int64))
