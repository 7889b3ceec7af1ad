"""`perfq tune`: times the ways of a model's products on this GPU, keeps the fastest, and says what that gained."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_perfq import device
from pytest_perfq.core.case import Case
from pytest_perfq.core.spec import Spec
from pytest_perfq.errors import UsageError
from pytest_perfq.report.grid import Column, render
from pytest_perfq.settings import default_cache

if TYPE_CHECKING:
    from pytest_perfq.kernels.tuning import Bench, Timed

# A precision, as kernels.cuda_ops calls what a product computes in.
NUMBERS = {"fp32": "float32", "tf32": "tf32", "fp16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True, slots=True)
class Asked:
    """model and task: as in a suite. gpu: 'auto', or the GPU that must be here. tokens: of the largest batch to tune for."""

    model: str
    task: str = "question-answering"
    gpu: str = "auto"
    precision: str = "fp16"
    tokens: int = 8192
    cache: str | None = None


def tune(asked: Asked, width: int) -> str:
    """What was gained, and where the choices are kept. Raises UsageError where there is no such GPU, BuildError and
    KernelsUnavailable."""
    check(asked)
    from pytest_perfq.kernels import choices, cuda_ops, tuning

    cache = Path(asked.cache) if asked.cache else default_cache()
    kernels = cuda_ops.load(cache, lambda line: None)
    return tune_on(asked, width, cache, tuning.bench(kernels), choices.identity())


def tune_on(asked: Asked, width: int, cache: Path, bench: Bench, who: dict[str, str]) -> str:
    """The same on any bench; who: what its choices hold for."""
    from pytest_perfq.contracts import Resources
    from pytest_perfq.kernels import choices, tuning, weights
    from pytest_perfq.materials import Materials

    case = Case(
        task=Spec.parse(asked.task), dataset="synthetic", model=asked.model, model_name=asked.model, backend=Spec("native")
    )
    materials = Materials(Resources(cache))
    try:
        whole = weights.read(materials.model(case))
    finally:
        materials.close()
    with _tf32(asked.precision, bench.place):
        problems = tuning.problems(whole, NUMBERS[asked.precision], asked.tokens)
        found = list(tuning.tune(problems, bench))
    return f"{_gained(found, width)}\n{choices.save(cache, who, found)} keeps them for {who['gpu']} with torch {who['torch']}."


def check(asked: Asked) -> None:
    """Raises UsageError where this machine has no GPU, or not the one asked for, or torch cannot use it."""
    if not device.gpu_present():
        raise UsageError(
            "perfq tune times products on an NVIDIA GPU, and this machine has none; without it the usual ways serve"
        )
    here = device.gpu_name()
    if asked.gpu not in ("auto", here):
        raise UsageError(
            f"--gpu={asked.gpu} asserts a {asked.gpu}, and this machine has a {here or 'GPU of another kind'}; run it on one"
        )
    from pytest_perfq.backends import _torch

    reasons = _torch.cuda_refusals(asked.precision)
    if reasons:
        raise UsageError(reasons[0])


def _tf32(precision: str, place: Any) -> Any:
    from pytest_perfq.backends._torch import Tf32

    return Tf32(precision == "tf32") if place.type == "cuda" else nullcontext()


def _gained(found: Sequence[Timed], width: int) -> str:
    better = [one for one in found if one.best != one.usual]
    columns = [Column(name, right=False) for name in ("tokens", "product", "epilogue", "usual", "us", "fastest", "us", "gain")]
    table = render(columns, [_row(one) for one in better], width) + "\n" if better else ""
    lines = [f"{len(found)} products were timed; {len(better)} have a faster way than the usual one."]
    largest = max(one.problem.rows for one in found)
    for rows in sorted({min(one.problem.rows for one in found), largest}):
        layer = [one for one in found if one.problem.rows == rows]
        before, after = (sum(one.ns[name(one)] for one in layer) / 1e3 for name in (_usual, _best))
        share = f" ({after / before - 1.0:+.1%})" if after < before else ""
        lines.append(f"Those of a layer at {rows} tokens take {after:.1f} us instead of {before:.1f}{share}.")
    return "\n".join([table, *lines]).lstrip("\n")


def _usual(one: Timed) -> str:
    return one.usual


def _best(one: Timed) -> str:
    return one.best


def _row(one: Timed) -> list[str]:
    of = one.problem
    epilogue = " and ".join([*(["bias"] if of.bias else []), *([of.activation] if of.activation != "none" else [])]) or "none"
    usual_us, best_us = one.ns[one.usual] / 1e3, one.ns[one.best] / 1e3
    gain = f"{usual_us / best_us:.2f}x"
    return [str(of.rows), f"{of.deep} -> {of.out}", epilogue, one.usual, f"{usual_us:.1f}", one.best, f"{best_us:.1f}", gain]
