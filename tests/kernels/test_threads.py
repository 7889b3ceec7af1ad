"""That as many threads work as torch is told to use, by the CPU time that the system counts for each."""

from pathlib import Path

import pytest
import torch
from operands import bounds, normal, weight, weight_int8
from plain_layer import layer_weights

TASKS = Path("/proc/self/task")
pytestmark = pytest.mark.skipif(
    not all((task / "schedstat").exists() for task in TASKS.glob("*")) or not TASKS.exists(),
    reason="only Linux counts the CPU time of each thread to the nanosecond, in /proc/self/task/*/schedstat",
)
# Of each thread, before anything is said of its share.
ENOUGH_S = 0.02
# Beside other work a thread may wait: as many times as much may be needed until each shows its share.
PATIENCE = 50
CALLS = 20_000


def cpu_seconds():
    """thread -> CPU time that it has had. A thread may end while this reads."""
    found = {}
    for task in TASKS.iterdir():
        try:
            found[task.name] = int((task / "schedstat").read_text().split()[0]) / 1e9
        except OSError:
            continue
    return found


def at_work(call, threads):
    """How many threads had at least a quarter of an even share of what `call` took, called until as many as `threads` did, or
    long enough to say that they do not."""
    torch.set_num_threads(threads)
    call()  # starts them
    before = cpu_seconds()
    for _ in range(CALLS):
        call()
        gained = [seconds - before.get(name, 0.0) for name, seconds in cpu_seconds().items()]
        total = sum(gained)
        working = sum(seconds >= total / (4 * threads) for seconds in gained)
        if total >= ENOUGH_S * threads * (1 if working == threads else PATIENCE):
            break
    assert total >= ENOUGH_S * threads, "too little work to tell who did it"
    return working


def works(kernels):
    """name -> a call with enough tokens that it is divided."""
    x, qkv, cu_seqlens = normal(1500, 96), normal(1500, 3 * 96), bounds([500, 400, 400, 200])
    packed = kernels.pack_weight(weight(384, 96))
    matrix, scales = weight_int8(384, 96, "w8a7")
    int8 = (kernels.pack_weight_int8(matrix, "w8a7"), scales, matrix.sum(1, dtype=torch.int32))
    layers = {bits: layer_weights(kernels, 96, 384, bits) for bits in ("fp32", "w8a7")}
    return {
        "linear": lambda: kernels.linear(x, packed, None, 384, "gelu"),
        "linear_int8": lambda: kernels.linear_int8(x, *int8, None, None, None, None, None, "w8a7", "gelu"),
        "varlen_attention": lambda: kernels.varlen_attention(qkv, cu_seqlens, 3, 0.2),
        **{
            f"layer in {bits}": lambda bits=bits: kernels.layer(
                x, cu_seqlens, *layers[bits], 3, 0.2, 1e-12, 1e-12, bits, "gelu"
            )
            for bits in layers
        },
    }


@pytest.mark.parametrize("name", ["linear", "linear_int8", "varlen_attention", "layer in fp32", "layer in w8a7"])
def test_as_many_threads_work_as_torch_is_told_to_use(name, kernels):
    """Whatever else the machine does, and however few cores it has: who has a share of the work gets CPU time for it."""
    call = works(kernels)[name]
    try:
        assert [at_work(call, threads) for threads in (1, 2, 3)] == [1, 2, 3]
    finally:
        torch.set_num_threads(1)


def test_threads_that_only_wait_do_not_count(kernels):
    """The test of the test: a call too small to divide is one thread's, however many there are."""
    x, packed = normal(1, 96), kernels.pack_weight(weight(16, 96))

    def call():
        for _ in range(200):
            kernels.linear(x, packed, None, 16, "gelu")

    try:
        assert at_work(call, 3) == 1
    finally:
        torch.set_num_threads(1)
