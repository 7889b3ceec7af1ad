"""Is a native program the model that it was made of? Asked twice, on the same batches: of its weights in fp32, before they are
rounded or quantized, and of the program itself.

A quantized model is meant to give other logits, and how far other tells nothing of why: a model whose activations somebody
swapped lies no further from eager than a coarse quantization does. So what was read and packed is judged where nothing else can
differ. Knows not how a program is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pytest_perfq.backends import _check
from pytest_perfq.backends._native.machine import Facts
from pytest_perfq.backends._native.program import NativeProgram
from pytest_perfq.contracts import Arrays, Batch, Model, Predict
from pytest_perfq.errors import BuildError, ProgramError
from pytest_perfq.kernels import encoder, ops, packing
from pytest_perfq.kernels.weights import Weights

ADVICE = "use backend eager and report the model"
FINER = "use bits=w8a8, or no quantization"


@dataclass(frozen=True, slots=True)
class Eager:
    """A model, and the check batches with its own logits of each."""

    model: Model
    seen: tuple[tuple[Batch, Arrays], ...]


def eager(model: Model) -> Eager:
    """Raises BuildError for a model that eager has no answer of, or none in fp32."""
    if model.module.training:
        raise BuildError(f"{model.source} is in training mode, in which eager drops values at random; call its eval() before")
    for name, weight in model.module.named_parameters():
        if weight.dtype != torch.float32:
            kind = str(weight.dtype).removeprefix("torch.")
            raise BuildError(f"{model.source} has {name} in {kind}, and the native encoder reads float32; load it in float32")
    seen = tuple((batch, _check.reference(model, batch)) for batch in _check.check_batches(model))
    if not all(np.isfinite(_real(batch, logits)).all() for batch, logits in seen):
        raise BuildError(f"eager itself gives logits of {model.source} that are no numbers; check its weights")
    return Eager(model, seen)


def same_weights(whole: Weights, given: Eager) -> None:
    """Holds weights as they were read, packed in fp32 on this CPU, to what fp32 is held to, and forgets what it packed: its
    memory serves the packing that follows. Raises BuildError."""
    made = encoder.Encoder(packing.pack(whole, ops, packing.FP32), ops)
    _logits(NativeProgram(made, 0, given.model).predict, given, "fp32", "the native encoder in fp32")


def distances(predict: Predict, given: Eager, precision: str | None) -> Facts:
    """Absolute differences of the logits of real tokens from eager's, and the cosine of all of them. precision: what they are
    judged by, None where another model is meant. Raises BuildError, there too for logits that are not finite."""
    logits = _logits(predict, given, precision, "the native encoder")
    mine = np.concatenate([_real(batch, got) for got, (batch, _) in zip(logits, given.seen, strict=True)])
    theirs = np.concatenate([_real(batch, wanted) for batch, wanted in given.seen])
    if not np.isfinite(mine).all():
        raise BuildError(f"the quantized encoder of {given.model.source} gives logits that are no numbers; {FINER}")
    found = [
        difference
        for got, (batch, wanted) in zip(logits, given.seen, strict=True)
        for difference in encoder.differences(got, wanted, batch.arrays["attention_mask"]).values()
    ]
    norms = np.linalg.norm(mine) * np.linalg.norm(theirs)
    return {
        "max_abs_difference": max(one.max for one in found),
        "mean_abs_difference": sum(one.mean for one in found) / len(found),
        "min_abs_difference": min(one.min for one in found),
        "eager_cosine": float(mine @ theirs / norms) if norms else float(np.array_equal(mine, theirs)),
    }


def line(how: str, found: Facts) -> str:
    """`distances` for a person, as FasterTransformer's bert_example prints them. how: the program computes, such as 'w8a7'."""
    gaps = ", ".join(f"{name} {found[f'{name}_abs_difference']:.3g}" for name in ("max", "mean", "min"))
    return f"native {how}: logits against eager, {gaps}, cosine {found['eager_cosine']:.5f}"


def _logits(predict: Predict, given: Eager, precision: str | None, name: str) -> list[Arrays]:
    """Of every check batch, each judged as it comes."""
    logits = []
    for batch, wanted in given.seen:
        try:
            got = predict(batch)
        except ProgramError as error:
            raise BuildError(str(error)) from error
        if precision is not None:
            _check.judge(given.model, batch, got, wanted, precision, name, ADVICE)
        logits.append(got)
    return logits


def _real(batch: Batch, logits: Arrays) -> np.ndarray[Any, Any]:
    """The logits of real tokens, or of sequences, all outputs in one row."""
    mask = batch.arrays["attention_mask"].astype(bool)
    per_token = {name: one.ndim == 3 or name != "logits" for name, one in logits.items()}
    return np.concatenate([(one[mask] if per_token[name] else one).ravel() for name, one in logits.items()]).astype(np.float64)
