"""Latency batches: what every kind of padding promises, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_perfq import inputs
from pytest_perfq.contracts import Batch, Model
from pytest_perfq.errors import UnknownName, UsageError
from pytest_perfq.inputs import Reworded


class Tokenizer:
    """Ids 0 to 3 are special, 0 pads."""

    pad_token_id = 0
    all_special_ids = [0, 1, 2, 3]

    def __len__(self):
        return 40


def model(names=("input_ids", "attention_mask", "token_type_ids"), vocab_size=50):
    return Model(None, Tokenizer(), None, "key", "here", names, ("logits",), 64, vocab_size, 0)


shapes = st.tuples(st.integers(1, 9), st.integers(1, 64), st.integers(0, 5))


@given(shapes, st.sampled_from(["full", "uniform", "half", "dataset"]))
def test_every_batch_is_padded_on_the_right_with_ordinary_ids(shape, padding):
    batch_size, seq_len, seed = shape
    batch = inputs.latency_batch(model(), batch_size, seq_len, padding, seed, [1, 7, 30, 200])
    assert batch.shape == (batch_size, seq_len)
    for row, length in enumerate(batch.lengths):
        mask = batch.arrays["attention_mask"][row]
        ids = batch.arrays["input_ids"][row]
        assert mask.tolist() == [1] * length + [0] * (seq_len - length)
        assert (ids[:length] > 3).all() and (ids[:length] < 40).all()
        assert (ids[length:] == 0).all()
        assert 1 <= length <= seq_len
    assert {array.dtype for array in batch.arrays.values()} == {np.dtype(np.int64)}
    assert not batch.arrays["token_type_ids"].any()


@given(shapes)
def test_lengths_by_padding(shape):
    batch_size, seq_len, seed = shape
    lengths = {
        padding: inputs.latency_batch(model(), batch_size, seq_len, padding, seed, [5, 200]).lengths
        for padding in ("full", "uniform", "half", "dataset")
    }
    assert lengths["full"] == (seq_len,) * batch_size
    # One row of seq_len and no empty one is more than half of a batch of two.
    least = seq_len + batch_size - 1
    assert lengths["half"] == (-(-seq_len // 2),) or abs(2 * sum(lengths["half"]) - max(batch_size * seq_len, 2 * least)) <= 1
    assert batch_size == 1 or max(lengths["half"]) == seq_len
    assert max(lengths["uniform"]) == seq_len
    assert set(lengths["dataset"]) <= {min(5, seq_len), seq_len}


def test_uniform_lengths_are_uniform():
    lengths = inputs.latency_batch(model(), 4000, 16, "uniform", 1).lengths
    counts = np.bincount(lengths, minlength=17)[1:]
    chi_square = float(((counts - 250) ** 2 / 250).sum())
    assert chi_square < 37.7  # the 99.9 % point of chi-square with 15 degrees of freedom


@pytest.mark.parametrize("batch_size, seq_len", [(8, 32), (8, 128), (8, 384), (32, 384), (4096, 128)])
def test_half_of_a_batch_is_padding_and_its_rows_are_ragged(batch_size, seq_len):
    for seed in range(3):
        lengths = inputs.half_lengths(np.random.default_rng(seed), batch_size, seq_len)
        assert len(lengths) == batch_size and max(lengths) == seq_len
        assert sum(lengths) / (batch_size * seq_len) == pytest.approx(0.5, abs=5e-4)
        assert len(set(lengths)) > min(batch_size, seq_len) // 2


def test_equal_arguments_give_equal_bits_and_another_seed_other_ids():
    one, two, other = (inputs.latency_batch(model(), 4, 32, "uniform", seed).arrays["input_ids"] for seed in (3, 3, 4))
    assert (one == two).all()
    assert (one != other).any()


def test_only_the_inputs_that_the_model_takes():
    assert list(inputs.latency_batch(model(("input_ids", "attention_mask")), 1, 8, "full", 0).arrays) == [
        "input_ids",
        "attention_mask",
    ]


def test_a_sequence_longer_than_the_positions_is_refused():
    with pytest.raises(UsageError, match="seq_len is 65, but model 'here' has 64 positions; give seq_len=64 or less"):
        inputs.latency_batch(model(), 1, 65, "full", 0)


def test_dataset_padding_without_lengths_is_refused():
    with pytest.raises(UsageError, match="padding 'dataset' has no lengths to draw from"):
        inputs.latency_batch(model(), 1, 8, "dataset", 0)


def test_an_unknown_padding_is_named():
    with pytest.raises(UnknownName, match=r"unknown padding 'halb'; did you mean 'half'\?"):
        inputs.latency_batch(model(), 1, 8, "halb", 0)


def batch_of(lengths, columns, seed):
    ids = np.random.default_rng(seed).integers(5, 99, size=(len(lengths), columns))
    mask = (np.arange(columns) < np.array(lengths)[:, None]).astype(np.int64)
    return Batch({"input_ids": ids * mask, "attention_mask": mask}, lengths)


@pytest.mark.parametrize("lengths", [(8, 3), (1,), (2, 2, 2)])
def test_reworded_batches_are_the_same_work_in_other_words(lengths):
    batch, other = batch_of(lengths, 8, 0), batch_of((8,) * len(lengths), 8, 1)
    words, again = (Reworded(batch, other, 7) for _ in range(2))
    made = [words.next() for _ in range(200)]
    known = {*batch.arrays["input_ids"][batch.arrays["attention_mask"] > 0], *other.arrays["input_ids"].flat}
    for one, before in zip(made, [batch, *made], strict=False):
        ids = one.arrays["input_ids"]
        assert one.lengths == lengths and one.arrays["attention_mask"] is batch.arrays["attention_mask"]
        assert not ids[batch.arrays["attention_mask"] == 0].any() and {*ids[batch.arrays["attention_mask"] > 0]} <= known
        assert not np.array_equal(ids, before.arrays["input_ids"])
    assert all(np.array_equal(one.arrays["input_ids"], again.next().arrays["input_ids"]) for one in made)
    # Of a batch that is not tiny none comes again.
    assert len({one.arrays["input_ids"].tobytes() for one in made}) == 200 or sum(lengths) < 6
