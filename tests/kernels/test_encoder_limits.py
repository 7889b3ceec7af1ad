"""Whole models at the limits of a batch, by transformers in float64: as many rows, and as long ones, as there may be."""

import dataclasses

import pytest
import tolerance
import torch
from test_encoder import cosine, double, logits, real, recipe, run
from tiny_models import make_batch, make_model

from pytest_perfq.kernels import packing
from pytest_perfq.kernels.encoder import BATCH_LIMIT, LENGTH_LIMIT

KINDS = {"fp32": None, "dynamic": "w8a7", "v2": "w8a8"}  # by how scales are found


def made(model, kind, sample):
    """The recipe of a kind; sample: the batch that v2 is calibrated on."""
    return packing.FP32 if kind == "fp32" else recipe(model, KINDS[kind], kind, [sample])


def alone(batch, row):
    """One row without its padding."""
    length = batch.lengths[row]
    arrays = {name: value[row : row + 1, :length] for name, value in batch.arrays.items()}
    return dataclasses.replace(batch, arrays=arrays, lengths=(length,))


def hold(kind, got, wanted):
    """Logits of real tokens or sequences, float32 and float64."""
    assert got.shape == wanted.shape and got.dtype == torch.float32
    if kind == "fp32":
        torch.testing.assert_close(got.double(), wanted, atol=tolerance.MODEL, rtol=0.0)
    else:
        assert tolerance.COSINE[kind] < cosine(got.flatten(), wanted.flatten()) < 1.0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", ["token-classification", "text-classification"])
def test_as_many_rows_as_there_may_be(task, kind, kernels):
    """Rows of no token, of one and of two: the logits of the first are zeros, and of the second those of a full batch."""
    model = make_model("bert", task)
    batch = make_batch(model, tuple(row % 3 for row in range(BATCH_LIMIT)), 2)
    got = run(model, batch, made(model, kind, batch), kernels)
    hold(kind, real(batch, got), real(batch, logits(double(model), batch)))
    padding = torch.tensor(batch.lengths) == 0 if got.ndim == 2 else torch.tensor(batch.arrays["attention_mask"]) == 0
    assert int(padding.sum()) == (1366 if got.ndim == 2 else 4097) and not got[padding].any()


@pytest.mark.parametrize("kind", KINDS)
def test_as_long_a_row_as_there_may_be(kind, kernels):
    """Beside rows of no token, of one and of some hundred, each of which is what it is alone."""
    sizes = {"num_attention_heads": 1, "num_hidden_layers": 1, "max_position_embeddings": LENGTH_LIMIT}
    model = make_model("bert", "question-answering", **sizes)
    batch = make_batch(model, (LENGTH_LIMIT, 0, 1, 700), LENGTH_LIMIT)
    got = run(model, batch, made(model, kind, alone(batch, 0)), kernels)
    wanted = torch.cat([logits(double(model), alone(batch, row))[0] for row in (0, 2, 3)])
    hold(kind, real(batch, got), wanted)
    padding = torch.tensor(batch.arrays["attention_mask"]) == 0
    assert int(padding.sum()) == 3 * LENGTH_LIMIT - 701 and not got[padding].any()
