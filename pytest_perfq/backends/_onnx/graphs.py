"""A CUDA graph of an onnxruntime session: of one shape, with buffers that stay where they are.

A graph replays the addresses and sizes that it was recorded with, whatever is bound later, so each shape has a session of its
own in which every dimension is a constant. onnxruntime records in the first run (after a few that it makes itself) and replays
in every later one; it refuses to open a session whose nodes are not all its provider's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from pytest_perfq.backends._onnx import cache, session
from pytest_perfq.errors import BuildError

# Distributions whose versions an engine follows from: TensorRT has a name for each version of CUDA.
LIBRARIES = ("onnxruntime", "tensorrt")


def sizes(free: Any, values: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    """Name -> size of the free dimensions of a session, by what its inputs are given; sorted. Raises BuildError for a name that
    stands for two sizes, and for inputs that fit no name."""
    found: dict[str, int] = {}
    for one in free.get_inputs():
        given = values[one.name].shape()
        for dimension, size in zip(one.shape, given, strict=True):
            if isinstance(dimension, str) and found.setdefault(dimension, size) != size:
                raise BuildError(
                    f"dimension {dimension!r} of the graph is {found[dimension]} and {size} in one batch, so it cannot be "
                    "fixed for a CUDA graph; leave graph=true out"
                )
    if not found:
        raise BuildError("the graph names none of its free dimensions, so no CUDA graph can fix them; leave graph=true out")
    return tuple(sorted(found.items()))


def session_of_one_shape(path: Path, plan: session.Plan, free: Any, values: Mapping[str, Any]) -> Any:
    """A session on the same file that takes this shape only and records. free: the session of every shape. values: the inputs.
    Raises BuildError."""
    plan = replace(plan, sizes=sizes(free, values))
    if plan.engines is not None:
        plan = replace(plan, engines=plan.engines / engine_key(path, plan, gpu()))
    opened, _ = session.open_session(path, plan)
    return opened


def gpu() -> str:
    """What an engine is built for: name and compute capability of the GPU, which onnxruntime does not tell."""
    import torch

    return f"{torch.cuda.get_device_name()} {torch.cuda.get_device_capability()}"


def engine_key(path: Path, plan: session.Plan, gpu: str) -> str:
    """Digest of all that an engine follows from: the file's content, sizes, precision, level, the GPU and the libraries."""
    found = {one.name: one.version for one in metadata.distributions() if (one.name or "").lower().startswith(LIBRARIES)}
    return cache.digest(
        {
            "file": cache.checksum(path),
            "sizes": plan.sizes,
            "precision": plan.precision,
            "level": plan.level,
            "gpu": gpu,
            "libraries": found,
            "tf32": os.environ.get("NVIDIA_TF32_OVERRIDE"),
        }
    )


def fixed(opened: Any, values: Mapping[str, Any], outputs: Mapping[str, Any], place: tuple[str, int]) -> Any:
    """The binding that the session records and replays. values: the inputs on the device. outputs: of a run without a graph;
    they say shape and type of the buffers, which begin as zeros: a graph that writes nothing shall not look right."""
    binding = opened.io_binding()
    for name, value in values.items():
        binding.bind_ortvalue_input(name, value)
    for name, value in outputs.items():
        empty = np.zeros_like(value.numpy())
        binding.bind_ortvalue_output(name, onnxruntime.OrtValue.ortvalue_from_numpy(empty, *place))
    binding.synchronize_inputs()
    return binding
