"""Which way of each product is the fastest on this GPU, timed once and kept: what FasterTransformer's bert_gemm was.

A problem is a bucket of tokens, features, precision and epilogue, so that packed batches, which seldom have the same number of
tokens twice, find theirs. Choices are kept in the cache as JSON, a file for each GPU and each set of library versions; where
there is none, the usual way serves. How a call is timed is given. Knows no model file.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pytest_perfq.errors import DataError
from pytest_perfq.kernels import products
from pytest_perfq.kernels.buckets import buckets
from pytest_perfq.kernels.cuda_ops import Problem
from pytest_perfq.kernels.weights import Weights

Clock = Callable[[Callable[[], Tensor]], float]  # nanoseconds of one call
# A way other than the usual one must be faster by more than the clock's own noise.
LEAST_GAIN = 0.02
# Two ways of one product differ by the rounding of their type; more is another product.
TOLERANCE = {"float32": 1e-2, "float16": 2e-2, "bfloat16": 1.5e-1}  # 1e-2 of float32 is TF32's
CALLS, ROUNDS = 20, 5
# Wheels that hold cuBLAS, of CUDA 13 and of CUDA 12.
CUBLAS = ("nvidia-cublas", "nvidia-cublas-cu12")


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


def problems(weights: Weights, dtype: torch.dtype, most: int) -> tuple[Problem, ...]:
    """The products of a layer for every bucket up to the one of `most` tokens. The biases of out and down are added later."""
    layer, name = weights.layers[0], str(dtype).removeprefix("torch.")
    linears = ((layer.qkv, True, "none"), (layer.out, False, "none"), (layer.up, True, weights.activation))
    kinds = [(*dense.weight.shape, bias, activation) for dense, bias, activation in (*linears, (layer.down, False, "none"))]
    return tuple(Problem(rows, out, deep, name, *epilogue) for rows in buckets(most) for out, deep, *epilogue in kinds)


def tune(asked: Iterable[Problem], kernels: Any, clock: Clock, device: torch.device) -> Iterator[Timed]:
    """Times every way of every problem on random numbers. A way whose result is not the usual way's is left out."""
    for problem in asked:
        dtype = getattr(torch, problem.dtype)
        dice = torch.Generator().manual_seed(0)
        x, weight, bias = (
            (torch.randn(*shape, generator=dice) * scale).to(device=device, dtype=dtype)
            for shape, scale in (
                ((problem.rows, problem.deep), 1.0), ((problem.out, problem.deep), problem.deep**-0.5), ((problem.out,), 1.0)
            )
        )  # fmt: skip
        given = bias if problem.bias else None
        usual = products.usual(x, given, problem.activation)

        def call(
            name: str, x: Tensor = x, weight: Tensor = weight, given: Tensor | None = given, of: Problem = problem
        ) -> Tensor:
            return products.WAYS[name](kernels, x, weight, given, of.activation)

        wanted = call(usual)
        names = [name for name in products.WAYS if products.serves(name, x, given, problem.activation)]
        right = [name for name in names if _near(call(name), wanted, TOLERANCE[problem.dtype])]
        yield Timed(problem, {name: clock(partial(call, name)) for name in right}, usual)


def _near(one: Tensor, other: Tensor, tolerance: float) -> bool:
    return bool(((one.float() - other.float()).abs().max() <= tolerance * other.float().abs().max()).item())


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


def identity(kernels: str) -> dict[str, str]:
    """What choices hold for: the current GPU and the versions of all that computes. kernels: the content of our own sources."""
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {
        "gpu": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": str(properties.multi_processor_count),  # a slice of a GPU has fewer
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
        "cublas": _cublas(),
        "kernels": kernels,
    }


def _cublas() -> str:
    for name in CUBLAS:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "of the system"


def file_of(cache: Path, who: Mapping[str, str]) -> Path:
    """Where the choices of an identity are kept."""
    seal = hashlib.sha256(json.dumps(dict(who), sort_keys=True).encode()).hexdigest()[:24]
    return cache / "tuning" / f"{seal}.json"


def save(cache: Path, who: Mapping[str, str], found: Iterable[Timed]) -> Path:
    """Adds to what is kept for this identity, and returns its file."""
    path = file_of(cache, who)
    kept = _read(path) if path.exists() else {}
    kept |= {one.problem: {"way": one.best, "usual": one.usual, "ns": dict(one.ns)} for one in found}
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [problem._asdict() | about for problem, about in sorted(kept.items())]
    aside = path.with_suffix(".new")
    aside.write_text(json.dumps({"identity": dict(who), "products": rows}, indent=1), encoding="utf-8")
    aside.replace(path)
    return path


def choices(cache: Path, who: Mapping[str, str]) -> dict[Problem, str]:
    """The fastest way of every problem that was timed for this identity; empty where nothing was. Raises DataError."""
    path = file_of(cache, who)
    return {problem: about["way"] for problem, about in _read(path).items()} if path.exists() else {}


def _read(path: Path) -> dict[Problem, dict[str, Any]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["products"]
        found = {Problem(*(row[name] for name in Problem._fields)): {k: row[k] for k in ("way", "usual", "ns")} for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} does not hold choices of perfq tune ({type(error).__name__}); remove it and tune again"
        ) from error
    unknown = sorted({about["way"] for about in found.values()} - set(products.WAYS))
    if unknown:
        raise DataError(f"{path} chooses {', '.join(unknown)}, which no product here is computed by; remove it and tune again")
    return found
