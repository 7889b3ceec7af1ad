"""Which way of each product is the fastest on this GPU: what FasterTransformer's bert_gemm was.

A problem is a bucket of tokens, features, precision and epilogue, so that packed batches, which seldom have the same number of
tokens twice, find theirs. How a call is timed is given. Knows neither where choices are kept nor a model file.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pytest_perfq.kernels import products
from pytest_perfq.kernels.buckets import buckets
from pytest_perfq.kernels.cuda_ops import Problem
from pytest_perfq.kernels.weights import Weights

Clock = Callable[[Callable[[], Tensor]], float]  # nanoseconds of one call
# A way other than the usual one must be faster by more than the clock's own noise.
LEAST_GAIN = 0.02
# Two ways of one product differ by the rounding of their type; more is another product.
TOLERANCE = {"float32": 1e-4, "tf32": 2e-2, "float16": 2e-2, "bfloat16": 1.5e-1}
CALLS, ROUNDS = 20, 5


@dataclass(frozen=True, slots=True)
class Bench:
    """What is timed on: the ops, how a call is timed, and the device of the tensors."""

    kernels: Any
    clock: Clock
    place: torch.device


@dataclass(frozen=True, slots=True)
class Timed:
    """A problem, the nanoseconds of each way that serves it, and the usual one's name."""

    problem: Problem
    ns: Mapping[str, float]
    usual: str

    @property
    def best(self) -> str:
        """The fastest, or the usual way where none is clearly faster."""
        fastest = min(self.ns, key=self.ns.__getitem__)
        return fastest if self.ns[fastest] < self.ns[self.usual] * (1.0 - LEAST_GAIN) else self.usual

    @property
    def saved_ns(self) -> float:
        return self.ns[self.usual] - self.ns[self.best]


def problems(weights: Weights, dtype: str, most: int) -> tuple[Problem, ...]:
    """The products of a layer for every bucket up to the one of `most` tokens. dtype: as of Problem. The biases of out and down
    are added later."""
    layer = weights.layers[0]
    linears = ((layer.qkv, True, "none"), (layer.out, False, "none"), (layer.up, True, weights.activation))
    kinds = [(*dense.weight.shape, bias, activation) for dense, bias, activation in (*linears, (layer.down, False, "none"))]
    return tuple(Problem(rows, out, deep, dtype, *epilogue) for rows in buckets(most) for out, deep, *epilogue in kinds)


def tune(asked: Iterable[Problem], on: Bench) -> Iterator[Timed]:
    """Times every way of every problem on random numbers; of TF32 only where torch is told to round so. A way whose result is
    not the usual way's is left out."""
    for problem in asked:
        dtype = torch.float32 if problem.dtype == "tf32" else getattr(torch, problem.dtype)
        dice = torch.Generator().manual_seed(0)
        x, weight, bias = (
            (torch.randn(*shape, generator=dice) * scale).to(device=on.place, dtype=dtype)
            for shape, scale in (
                ((problem.rows, problem.deep), 1.0), ((problem.out, problem.deep), problem.deep**-0.5), ((problem.out,), 1.0)
            )
        )  # fmt: skip
        given = bias if problem.bias else None
        usual = products.usual(x, given, problem.activation)

        def call(
            name: str, x: Tensor = x, weight: Tensor = weight, given: Tensor | None = given, of: Problem = problem
        ) -> Tensor:
            return products.WAYS[name](on.kernels, x, weight, given, of.activation)

        wanted = call(usual)
        names = [name for name in products.WAYS if products.serves(name, x, given, problem.activation)]
        right = [name for name in names if _near(call(name), wanted, TOLERANCE[problem.dtype])]
        yield Timed(problem, {name: on.clock(partial(call, name)) for name in right}, usual)


def _near(one: Tensor, other: Tensor, tolerance: float) -> bool:
    return bool(((one.float() - other.float()).abs().max() <= tolerance * other.float().abs().max()).item())


def bench(kernels: Any) -> Bench:
    """The current GPU."""
    return Bench(kernels, graph_clock, torch.device("cuda", torch.cuda.current_device()))


def graph_clock(call: Callable[[], Tensor]) -> float:
    """Nanoseconds of a call within a CUDA graph of several, as the encoder runs them: launches cost what they cost there."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(CALLS):
            call()
    took: list[float] = []
    for _ in range(ROUNDS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        took.append(begin.elapsed_time(end) * 1e6 / CALLS)
    return statistics.median(took)
