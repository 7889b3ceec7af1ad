"""Is a program the same model as the fp32 eager one? Asked of every traced, compiled or exported program before its use.

Knows no backend: it is given a function from a batch to logits.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from pytest_perfq.contracts import Arrays, Batch, Model, Predict
from pytest_perfq.errors import BuildError

# Largest allowed difference of any logit, relative to the largest logit of eager (at least 1.0).
# fp32: the same sums in another order; exports of 12 layers were seen within 4e-6, so 1e-4 leaves room for deeper models.
# tf32, fp16: 10 bits of mantissa, 4.9e-4 a rounding; some 120 roundings on the way add up to 5e-3 as a random walk, times 4.
# bf16: 7 bits, 3.9e-3 a rounding; the same reckoning.
TOLERANCE = {"fp32": 1e-4, "tf32": 2e-2, "fp16": 2e-2, "bf16": 1.6e-1}

# (rows, columns, real tokens of each row): one full row; ragged rows down to one token; another length, half of it padding.
SHAPES = ((1, 7, (7,)), (3, 16, (16, 5, 1)), (2, 40, (40, 20)))


def check_batches(model: Model) -> list[Batch]:
    """Random batches (always the same ones) of several shapes, with padding, no longer than the model allows."""
    random = np.random.default_rng(20)
    batches = []
    for rows, columns, lengths in SHAPES:
        columns = min(columns, model.max_positions)
        kept = tuple(min(length, columns) for length in lengths)
        mask = (np.arange(columns)[None, :] < np.array(kept)[:, None]).astype(np.int64)
        padding = int(getattr(model.config, "pad_token_id", 0) or 0)
        tokens = random.integers(padding + 1 if padding + 1 < model.vocab_size else 0, model.vocab_size, (rows, columns))
        arrays = {"input_ids": np.where(mask == 1, tokens, padding).astype(np.int64), "attention_mask": mask}
        if "token_type_ids" in model.inputs:
            second = int(getattr(model.config, "type_vocab_size", 1) > 1)
            arrays["token_type_ids"] = (np.arange(columns)[None, :] >= columns // 2) * mask * second
        batches.append(Batch({name: arrays[name] for name in model.inputs}, kept))
    return batches


def reference(model: Model, batch: Batch) -> dict[str, np.ndarray[Any, Any]]:
    """Logits of the model as it was loaded: fp32, on the CPU, eager."""
    with torch.inference_mode():
        output = model.module(**{name: torch.from_numpy(batch.arrays[name]) for name in model.inputs})
    return {name: getattr(output, name).float().numpy() for name in model.outputs}


def difference(batch: Batch, got: Arrays, wanted: Arrays) -> tuple[float, float]:
    """Largest absolute difference of the logits of real tokens, and the largest wanted logit. What a model says of padding
    means nothing, so it is left out. Raises BuildError for missing outputs and other shapes."""
    largest, scale = 0.0, 0.0
    mask = batch.arrays["attention_mask"].astype(bool)
    for name, true in wanted.items():
        if name not in got:
            raise BuildError(f"the program gives {', '.join(got) or 'nothing'} and lacks output {name!r} of the model")
        if got[name].shape != true.shape:
            raise BuildError(f"output {name!r} of the program has shape {got[name].shape}, that of the model {true.shape}")
        per_token = true.ndim == 3 or name in ("start_logits", "end_logits")
        mine, theirs = (got[name][mask], true[mask]) if per_token else (got[name], true)
        gap = float(np.max(np.abs(mine.astype(np.float64) - theirs)))
        largest = gap if gap != gap else max(largest, gap)
        scale = max(scale, float(np.max(np.abs(theirs))))
        if largest != largest:
            break
    return largest, scale


def judge(model: Model, batch: Batch, got: Arrays, wanted: Arrays, precision: str, name: str, advice: str) -> float:
    """The largest absolute difference of one batch's logits. Raises BuildError as `faithful` does."""
    gap, scale = difference(batch, got, wanted)
    allowed = TOLERANCE[precision] * max(1.0, scale)
    if not gap <= allowed:
        rows, columns = batch.shape
        raise BuildError(
            f"{name} of {model.source} differs from eager by {gap:.3g} at batch {rows} x {columns}, where {precision} may "
            f"differ by {allowed:.3g}; it is not the same model: {advice}"
        )
    return gap


def faithful(model: Model, predict: Predict, precision: str, name: str, advice: str) -> float:
    """The largest absolute difference from eager over the check batches. Raises BuildError when it is over the tolerance of
    `precision` or not a number. name: what the message calls the program; advice: its next step."""
    return max(
        judge(model, batch, predict(batch), reference(model, batch), precision, name, advice) for batch in check_batches(model)
    )


def distance(model: Model, predict: Predict, name: str) -> float:
    """The same difference without a judgement: of a quantized program, which is meant to be another model. Raises
    BuildError only for logits that are not finite."""
    gaps = [difference(batch, predict(batch), reference(model, batch))[0] for batch in check_batches(model)]
    if not all(math.isfinite(gap) for gap in gaps):
        raise BuildError(f"the quantized graph of {name} gives logits that are not finite; exclude softmax and layernorm")
    return max(gaps)
