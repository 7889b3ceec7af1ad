"""The ways that tuning found to be the fastest, in the cache: a JSON file for each GPU and each set of library versions.

Without a file the usual ways serve. Knows neither how they were timed nor any model.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from pytest_perfq.errors import DataError
from pytest_perfq.kernels import build_cuda, products
from pytest_perfq.kernels.cuda_ops import Problem
from pytest_perfq.kernels.tuning import Timed

# Wheels that hold cuBLAS, of CUDA 13 and of CUDA 12.
CUBLAS = ("nvidia-cublas", "nvidia-cublas-cu12")


def identity() -> dict[str, str]:
    """What choices hold for: the current GPU, and the versions of all that computes."""
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {
        "gpu": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": str(properties.multi_processor_count),  # a slice of a GPU has fewer
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
        "cublas": _cublas(),
        "kernels": build_cuda.recipe_cuda([(properties.major, properties.minor)]).content(),
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
