"""From rows of token ids to padded batches, and from logits back to rows, checked. Knows no task and no metric."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pytest_perfq.contracts import Batch, Model, Predict
from pytest_perfq.core.measurement import Outcomes
from pytest_perfq.errors import ProgramError

Row = Mapping[str, list[int]]
Array = np.ndarray[Any, Any]
LARGEST_MARGIN = 65504.0  # the largest finite float16; also the margin of a prediction without a rival


def pad(rows: Sequence[Row], model: Model) -> Batch:
    """A batch padded on the right to its longest row, with the inputs that the model takes."""
    lengths = tuple(len(row["input_ids"]) for row in rows)
    fill = {"input_ids": model.tokenizer.pad_token_id or 0}
    arrays = {}
    for name in model.inputs:
        array = np.full((len(rows), max(lengths)), fill.get(name, 0), dtype=np.int64)
        for at, row in enumerate(rows):
            array[at, : lengths[at]] = row[name]
        arrays[name] = array
    return Batch(arrays, lengths)


def batches(rows: Sequence[Row], model: Model, batch_size: int) -> Iterator[Batch]:
    """Padded batches in the order of the rows."""
    for start in range(0, len(rows), batch_size):
        yield pad(rows[start : start + batch_size], model)


def logits(
    predict: Predict,
    model: Model,
    rows: Sequence[Row],
    batch_size: int,
    shape: Callable[[int, int], tuple[int, ...]],
    per_token: bool,
) -> list[dict[str, Array]]:
    """Logits of every row, in the order of the rows, by output name, float32.

    Rows of like length run together, which saves padding. shape: (batch, seq) -> the promised shape of every output.
    per_token: outputs are [batch, seq, ...] and each row keeps its real tokens only. Raises ProgramError.
    """
    found: list[dict[str, Array]] = [{} for _ in rows]
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index]["input_ids"]))
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        batch = pad([rows[index] for index in indices], model)
        output = predict(batch)
        _check_shapes(output, model.outputs, shape(*batch.shape))
        for at, index in enumerate(indices):
            kept = {name: output[name][at] for name in model.outputs}
            if per_token:
                kept = {name: values[: batch.lengths[at]] for name, values in kept.items()}
            found[index] = {name: np.array(values, dtype=np.float32) for name, values in kept.items()}
        _check_finite([found[index] for index in indices], indices)
    return found


def _check_shapes(output: Mapping[str, Array], names: Sequence[str], shape: tuple[int, ...]) -> None:
    for name in names:
        if name not in output:
            raise ProgramError(
                f"the program gave {', '.join(output) or 'nothing'}, but the task reads {name}; name its outputs so"
            )
        if tuple(output[name].shape) != shape:
            raise ProgramError(
                f"{name} has shape {tuple(output[name].shape)} where {shape} is promised; the program does not keep its batch"
            )


def _check_finite(rows: Sequence[Mapping[str, Array]], indices: Sequence[int]) -> None:
    """Only real tokens count: what a program leaves in padded places is its own affair."""
    total = sum(values.size for row in rows for values in row.values())
    bad = sum(int(np.count_nonzero(~np.isfinite(values))) for row in rows for values in row.values())
    if bad:
        raise ProgramError(
            f"{bad} of {total} logits are not finite in the batch of rows {min(indices)} to {max(indices)}; "
            "try another precision, or exclude more nodes from the quantization"
        )


def margin(best: float, rival: float) -> float:
    """The logit distance between a prediction and its best rival, through float16, never infinite."""
    return float(np.float16(min(max(best - rival, -LARGEST_MARGIN), LARGEST_MARGIN)))


def gaps(values: Array) -> Array:
    """Largest minus second largest along the last axis, [...]; with one class only, the largest margin."""
    if values.shape[-1] < 2:
        return np.full(values.shape[:-1], LARGEST_MARGIN, dtype=np.float32)
    top = np.partition(values, values.shape[-1] - 2, axis=-1)
    return np.asarray(top[..., -1] - top[..., -2])


def collect(
    ids: Sequence[str], predictions: Sequence[str], margins: Sequence[float], columns: Sequence[Mapping[str, float]]
) -> Outcomes:
    """Outcomes from one mapping of columns an example."""
    names = list(columns[0]) if columns else ["right"]
    table = {name: tuple(one[name] for one in columns) for name in names}
    return Outcomes(tuple(ids), tuple(predictions), tuple(margins), table)
