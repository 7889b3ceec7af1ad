"""Graphs with a capture that only calls again: buckets, buffers and tails are then those of a GPU, on emulated kernels."""

import pytest
import tolerance
import torch
from test_cuda_encoder import F8, V1, fed, made, static
from test_encoder import logits, real
from tiny_models import HEADS, make_batch, make_model

from pytest_perfq.kernels import cuda_ops, packing
from pytest_perfq.kernels.buckets import bucket, buckets
from pytest_perfq.kernels.graphs import Graphs


class Playing:
    """A capture whose replay is the call, on the same buffers."""

    def __init__(self):
        self.captures, self.outputs = 0, []

    def __call__(self, call):
        self.captures += 1
        output = call().clone()
        self.outputs.append(output)

        def replay():
            return output.copy_(call())

        return replay


@pytest.fixture
def gpu(emulated):
    return cuda_ops.over(emulated)


def test_buckets_bound_what_is_wasted():
    assert [bucket(tokens) for tokens in (0, 1, 64, 65, 129, 257, 512, 513, 1024, 1025, 6144, 12289)] == [
        64, 64, 64, 128, 256, 512, 512, 576, 1024, 1152, 6144, 13312,
    ]  # fmt: skip
    for tokens in range(1, 20_000):
        size = bucket(tokens)
        assert size >= tokens and size % 64 == 0 and bucket(size) == size
        assert size - tokens < max(64, tokens if tokens <= 512 else tokens / 8)
    assert buckets(600) == (64, 128, 256, 512, 576, 640) and buckets(1) == (64,)
    assert set(buckets(5000)) == {bucket(tokens) for tokens in range(1, 5001)}


@pytest.mark.parametrize("task", HEADS)
def test_a_replay_gives_what_eager_gives_after_its_inputs_changed(task, gpu):
    """Batches of one shape and bucket, one after the other through one graph, each as it is without."""
    model = make_model("bert", task)
    whole, capture = made(model, gpu), Playing()
    graphs = Graphs(whole, capture)
    outputs = []
    for seed, lengths in enumerate([(1, 20, 0, 9), (20, 20, 3, 20), (0, 0, 1, 0), (1, 20, 0, 9)]):
        batch = make_batch(model, lengths, 20, seed=seed)
        feed = fed(model, batch)
        got = graphs(feed)
        torch.testing.assert_close(got, whole(feed), atol=tolerance.MODEL_TAIL, rtol=0.0)
        torch.testing.assert_close(real(batch, got), real(batch, logits(model, batch)), atol=tolerance.MODEL, rtol=0.0)
        outputs.append((got, got.clone()))
    assert capture.captures == len(graphs) == 1
    # What a caller was given stays as it was.
    assert all(torch.equal(got, then) for got, then in outputs) and not torch.equal(outputs[0][0], outputs[1][0])


@pytest.mark.parametrize(("recipe", "dtype"), [(V1, torch.float16), ("v2", torch.float32), (F8, torch.bfloat16)])
def test_bytes_too(recipe, dtype, gpu):
    model = make_model("bert", "token-classification")
    whole = made(model, gpu, dtype, static(model, recipe) if isinstance(recipe, str) else recipe)
    graphs = Graphs(whole, Playing())
    for seed, lengths in enumerate([(1, 20, 0, 9), (20, 2, 3, 7)]):
        feed = fed(model, make_batch(model, lengths, 20, seed=seed))
        assert torch.equal(graphs(feed), whole(feed))


def test_a_graph_is_of_a_batch_size_a_length_and_a_bucket(gpu):
    model = make_model("distilbert", "text-classification")  # no token types
    whole, capture = made(model, gpu), Playing()
    graphs = Graphs(whole, capture, most=2)
    shapes = [((9, 4), 9), ((1, 2), 9), ((9, 4), 10), ((40, 40), 40), ((64, 1), 64), ((64, 64), 64)]
    captures = []
    for lengths, columns in shapes:
        feed = fed(model, make_batch(model, lengths, columns))
        torch.testing.assert_close(graphs(feed), whole(feed), atol=tolerance.MODEL_TAIL, rtol=0.0)
        captures.append(capture.captures)
    # The first two share a graph: 18 places hold no bucket, so that the places are its size. 65 and 128 tokens are one bucket.
    assert captures == [1, 1, 2, 3, 4, 4] and len(graphs) == 2
    graphs(fed(model, make_batch(model, (9, 4), 9)))  # long forgotten
    graphs(fed(model, make_batch(model, (64, 2), 64)))  # still there
    assert capture.captures == 5 and len(graphs) == 2


def test_a_batch_of_no_tokens_and_one_of_no_places(gpu):
    model = make_model("bert", "token-classification")
    graphs = Graphs(made(model, gpu), Playing())
    assert not bool(graphs(fed(model, make_batch(model, (0, 0), 3))).any()) and len(graphs) == 1
    empty = fed(model, make_batch(model, (3,), 3))
    none = empty._replace(**{name: getattr(empty, name)[:0] for name in ("input_ids", "mask", "token_type_ids")}, tokens=0)
    assert graphs(none).shape == (0, 3, 5) and len(graphs) == 1


def test_what_has_no_tail_to_hide_is_the_same_without_one(gpu):
    """A graph as large as its batch: no row too many, and the same bits."""
    model = make_model("bert", "question-answering")
    whole = made(model, gpu, recipe=packing.FP32)
    feed = fed(model, make_batch(model, (20, 20), 20))
    assert torch.equal(Graphs(whole, Playing())(feed), whole(feed))
