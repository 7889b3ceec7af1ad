"""The encoder over two and four processes of gloo against one process, and who holds which weights."""

import plain_ops
import pytest
import tolerance
import torch
import world
from tiny_models import make_batch, make_model

from pytest_perfq.core.quantization import Static
from pytest_perfq.errors import UsageError
from pytest_perfq.kernels import calibrate, encoder, packing, parallel, weights
from pytest_perfq.kernels.bits import BITS

# (tp, pp, task, kind of recipe). Static scales and rows of weights are those of one process; scales per token are of the
# shard's own features, and nearer.
TWO = [
    (2, 1, "question-answering", "fp32"),
    (1, 2, "text-classification", "fp32"),
    (2, 1, "token-classification", "dynamic"),
    (2, 1, "token-classification", "static"),
    (1, 2, "token-classification", "v2"),
    (2, 1, "token-classification", "bf16"),
    (1, 2, "question-answering", "bf16"),
]
FOUR = [
    (2, 2, "token-classification", "fp32"),
    (4, 1, "question-answering", "fp32"),
    (2, 2, "text-classification", "dynamic"),
    (2, 2, "text-classification", "bf16"),
]
# Full, ragged with rows of one and of no token, and no token at all.
SHAPES = [((6,), 6), ((1, 30, 12, 0), 30), ((0, 0), 4)]


def make(task):
    """Four heads and three layers: no two stages are alike."""
    return make_model("electra", task, num_attention_heads=4, num_hidden_layers=3)


def recipe(model, kind):
    if kind in ("fp32", "bf16"):
        return packing.FP32 if kind == "fp32" else packing.BF16
    if kind == "dynamic":
        return packing.Recipe("w8a8")
    batches = [make_batch(model, (20, 30), 30, seed=seed) for seed in range(2)]
    scales = calibrate.calibrate(model, lambda: iter(batches), Static(), BITS["w8a8"].activation)
    return packing.Recipe("w8a8", scales, int8_residual=kind == "v2")


def job(tp, pp, task, kind):
    model = make(task)
    batches = [make_batch(model, lengths, columns) for lengths, columns in SHAPES]
    feeds = [encoder.feed(batch.arrays, batch.lengths, True) for batch in batches]
    return tp, pp, weights.read(model), recipe(model, kind), feeds


@pytest.mark.parametrize(("processes", "splits"), [(2, TWO), (4, FOUR)])
def test_several_processes_give_what_one_gives(processes, splits, tmp_path):
    jobs = [job(*split) for split in splits]
    torch.multiprocessing.spawn(world.split, (str(tmp_path), processes, jobs), nprocs=processes)
    for number, (tp, pp, whole, chosen, feeds) in enumerate(jobs):
        one = encoder.Encoder(packing.pack(whole, plain_ops, chosen), plain_ops)
        for shard in range(tp):
            for got, feed in zip(torch.load(tmp_path / f"{number}-{shard}.pt"), feeds, strict=True):
                wanted = one(feed)
                assert got.shape == wanted.shape
                print(
                    "SEEN", splits[number], float((got - wanted).abs().max()) if got.numel() else 0, float(wanted.abs().max())
                )
                assert float((got - wanted).abs().max()) <= tolerance.SPLIT[splits[number][3]], (tp, pp, splits[number])


def sizes(part):
    """Numbers in the layers."""
    return sum(tensor.numel() for tensor in packing._tensors(part.layers))


@pytest.mark.parametrize(("tp", "pp"), [(1, 1), (2, 1), (4, 1), (1, 2), (1, 3), (2, 2)])
def test_every_weight_is_somewhere(tp, pp):
    whole = weights.read(make("token-classification"))
    parts = [parallel.part(whole, packing.FP32, parallel.Place(rank, tp, pp))[0] for rank in range(tp * pp)]
    assert [part.embeddings is not None for part in parts] == [rank < tp for rank in range(tp * pp)]
    assert [part.head is not None for part in parts] == [rank >= tp * (pp - 1) for rank in range(tp * pp)]
    assert {part.heads for part in parts} == {4 // tp}
    # Norms and the biases of out and down are on every shard; all else is divided.
    shared = sum(
        tensor.numel()
        for layer in whole.layers
        for tensor in packing._tensors((layer.attention_norm, layer.output_norm, layer.out.bias, layer.down.bias))
    )
    assert sum(map(sizes, parts)) == sizes(whole) + (tp - 1) * shared
    stages = [len(part.layers) for part in parts[::tp]]
    assert sum(stages) == 3 and max(stages) - min(stages) <= 1


@pytest.mark.parametrize(
    ("tp", "pp", "recipe", "sentence"),
    [
        (3, 1, packing.FP32, "tp is 3, and the model has 4 attention heads and 64 inner features: choose a tp that divides both"),
        (1, 4, packing.FP32, "pp is 4, and the model has 3 layers: choose a pp of at most 3"),
        (2, 1, packing.Recipe("w8a8", (), True),
         "tp is 2, and an INT8 residual cannot be summed over processes: set tp to 1 or leave mode v2 out"),
    ],
)  # fmt: skip
def test_what_cannot_be_divided(tp, pp, recipe, sentence):
    with pytest.raises(UsageError) as caught:
        parallel.part(weights.read(make("question-answering")), recipe, parallel.Place(0, tp, pp))
    assert str(caught.value) == sentence
