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

    padding: 'full' (every row seq_len), 'uniform' (lengths uniform on 1 to seq_len, one row of seq_len), 'half' (half_lengths),
    'dataset' (drawn from dataset_lengths, cut to seq_len). The array is seq_len wide even where no row is, since that is the
    length that the case names. Raises UsageError.
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


# Draws of lengths of which one is taken, and numbers in all of them: a large batch comes near to half in a few.
DRAWS, DRAWN = 4096, 1 << 18
# Batches made ahead: so many, of so many bytes in all.
STOCK, STOCK_BYTES = 64, 1 << 20


class Reworded:
    """Batches like another in shape, lengths and words, in which the words stand elsewhere: the same work, and the same rows of
    the embedding as the two have, for other logits. Each differs from the one before it. Seeded."""

    def __init__(self, batch: Batch, other: Batch, seed: int) -> None:
        """other: whose words are taken too, so that there are two for a batch of one token."""
        rows, columns = batch.shape
        self._batch, self._dice = batch, np.random.default_rng([seed, rows, columns])
        self._real = np.arange(columns) < np.asarray(batch.lengths)[:, None]
        ids = batch.arrays["input_ids"]
        taken = other.arrays["input_ids"][np.arange(other.shape[1]) < np.asarray(other.lengths)[:, None]]
        self._words = np.unique(np.concatenate([ids[self._real], taken]))
        self._begins = int(np.searchsorted(self._words, ids[self._real][0]))
        self._stock: list[Batch] = []

    def next(self) -> Batch:
        """The next batch; it shares all arrays but the ids with the others."""
        if not self._stock:
            self._stock = self._more()
        return self._stock.pop()

    def _more(self) -> list[Batch]:
        """Several at once: what is done between two timed calls takes caches from the second."""
        ids, number = self._batch.arrays["input_ids"], len(self._words)
        many = max(1, min(STOCK, STOCK_BYTES // ids.nbytes))
        places = self._dice.integers(number, size=(many, int(self._real.sum())))
        # Another first word than before: where words are few, chance alone would repeat a batch.
        steps = self._dice.integers(max(1, number - 1), size=many) + 1
        places[:, 0] = (self._begins + np.cumsum(steps)) % number
        self._begins = int(places[-1, 0])
        made = np.repeat(ids[None], many, axis=0)
        made[:, self._real] = self._words[places]
        return [Batch({**self._batch.arrays, "input_ids": one}, self._batch.lengths) for one in made[::-1]]


def half_lengths(dice: np.random.Generator, batch_size: int, seq_len: int) -> list[int]:
    """Ragged lengths that leave half of a batch padding: one row of seq_len, and lengths on 1 to seq_len that add up to half of
    batch_size x seq_len with it, or as nearly as many draws came. One row alone has seq_len / 2, rounded up."""
    if batch_size == 1:
        return [(seq_len + 1) // 2]
    # A few uniform lengths leave anything from a quarter to two thirds, and what padding wastes is what such a batch is for.
    draws = min(DRAWS, max(16, DRAWN // batch_size))
    drawn = dice.integers(1, seq_len, size=(draws, batch_size), endpoint=True)
    drawn[:, dice.integers(batch_size)] = seq_len
    nearest = np.abs(2 * drawn.sum(axis=1) - batch_size * seq_len).argmin()
    return [int(length) for length in drawn[nearest]]


def _lengths(
    dice: np.random.Generator, batch_size: int, seq_len: int, padding: str, dataset_lengths: Sequence[int] | None
) -> list[int]:
    if padding == "full":
        return [seq_len] * batch_size
    if padding == "half":
        return half_lengths(dice, batch_size, seq_len)
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
