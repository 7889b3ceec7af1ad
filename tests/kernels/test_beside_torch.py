"""That the kernels and torch leave each other's registers alone. Tiles and their configuration belong to a thread, and oneDNN uses
them too, on the same threads; where a processor has none, the same holds of less."""

import threading

import pytest
import torch
import torch.nn.functional as F
from operands import bounds, normal, one, weight, weight_int8, zero

from pytest_perfq.kernels import isas


def theirs():
    """What torch computes by tiles where it has them: name -> a call."""
    a, b = normal(130, 256).bfloat16(), normal(256, 200).bfloat16()
    heads = [normal(1, 3, 100, 64, seed=seed).bfloat16() for seed in range(3)]
    linear = torch.nn.Linear(256, 200).bfloat16().requires_grad_(False)
    bytes_, others = (normal(64, 256) * 30).to(torch.int8), (normal(256, 64) * 30).to(torch.int8)
    return {
        "a product": lambda: a @ b,
        "a linear": lambda: linear(a),
        "attention": lambda: F.scaled_dot_product_attention(*heads),
        "a product of bytes": lambda: torch._int_mm(bytes_, others),
    }


def ours(kernels, isa):
    """What this set computes by tiles where it has them, each with enough rows to be divided: name -> a call."""
    x, qkv, cu_seqlens = normal(300, 200), normal(300, 3 * 128), bounds([128, 100, 1, 71])
    calls = {"attention": lambda: kernels.varlen_attention(qkv, cu_seqlens, 2, 0.125, True)}
    for bits in ("w8a8", "w7a7"):
        matrix, scales = weight_int8(150, 200, bits)
        packed = (kernels.pack_weight_int8(matrix, bits), scales, matrix.sum(1, dtype=torch.int32))
        ends = (one(0.04), zero(60), None, None, bits, "gelu")
        calls[bits] = lambda packed=packed, ends=ends: kernels.linear_int8(x, *packed, None, *ends)
    if isa in isas.BF16:
        rounded = kernels.pack_weight(weight(150, 200).bfloat16())
        calls["bf16"] = lambda: kernels.linear(x, rounded, None, 150, "gelu")
    return calls


def differing(calls, expected):
    return [name for name, call in calls.items() if not torch.equal(call(), expected[name])]


@pytest.mark.parametrize("threads", [1, 3])
def test_by_turns_each_gives_what_it_gives_alone(threads, isa, kernels):
    mine, other = ours(kernels, isa), theirs()
    try:
        torch.set_num_threads(threads)
        alone, others_alone = ({name: call() for name, call in calls.items()} for calls in (mine, other))
        for call in mine.values():
            for name, another in other.items():
                call()
                assert torch.equal(another(), others_alone[name]), name
                assert differing(mine, alone) == []
        torch.set_num_threads(1 if threads > 1 else 2)
        assert differing(mine, alone) == []  # whatever is the number of threads
    finally:
        torch.set_num_threads(1)


def test_on_several_threads_of_python_each_gives_what_it_gives_alone(isa, kernels):
    mine, other = ours(kernels, isa), theirs()
    alone, others_alone = ({name: call() for name, call in calls.items()} for calls in (mine, other))
    wrong: list[str] = []

    def work():
        torch.set_num_threads(1)
        for _ in range(5):
            wrong.extend(differing(mine, alone) + differing(other, others_alone))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []
