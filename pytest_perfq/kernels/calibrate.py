"""Scales of a model's activations, from what its layers do to real examples.

Watches the model's own modules through forward hooks, in fp32 and with padding left out, so that what is found does not
depend on any kernel. Knows neither where the examples come from nor what is made of the scales.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pytest_perfq.contracts import Batch, Model
from pytest_perfq.core.quantization import Quantization
from pytest_perfq.errors import BuildError
from pytest_perfq.kernels.packed import LayerScales, Scale
from pytest_perfq.kernels.weights import NAMES, Names

POINTS = tuple(field.name for field in dataclasses.fields(LayerScales))
# Of histograms of absolute values: TensorRT's number, fine enough that a bin is an eighth of a level or less.
BINS = 2048
# What an empty bin of the quantized histogram holds instead: the divergence of nothing is not a number.
EMPTY = 1e-4

Key = tuple[int, str]  # layer number, name of a point
See = Callable[[Key, Tensor], None]
Watch = Callable[[See], None]  # runs all examples and shows each watched tensor, [tokens, features]


@dataclasses.dataclass(frozen=True, slots=True)
class Range:
    """Smallest and largest value seen."""

    low: float
    high: float

    @property
    def reach(self) -> float:
        """The largest absolute value."""
        return max(abs(self.low), abs(self.high))

    def cut(self, threshold: float) -> Range:
        """The part of it within +-threshold."""
        return Range(max(self.low, -threshold), min(self.high, threshold))


def calibrate(
    model: Model, batches: Callable[[], Iterator[Batch]], quantization: Quantization, levels: int
) -> tuple[LayerScales, ...]:
    """Scales of every layer, by `quantization.calibration`. levels: the largest uint8 value (255 or 127). minmax keeps all
    that was seen; percentile keeps that share of absolute values; entropy cuts where the quantized histogram is nearest to
    the true one. Raises BuildError when there was nothing to see or something that is no number."""

    def watch(see: See) -> None:
        _run(model, batches(), see)

    ranges = extremes(watch)
    if not ranges:
        raise BuildError(f"static quantization of {model.source} was given no calibration examples; give a split that has some")
    for (layer, point), found in ranges.items():
        if not np.isfinite(found.reach):
            raise BuildError(
                f"{model.source} gives {point} of layer {layer} between {found.low} and {found.high} on the calibration "
                "examples; static quantization needs finite numbers: check the model"
            )
    if quantization.calibration != "minmax":
        counts = histograms(watch, ranges)
        ranges = {key: found.cut(_threshold(counts[key], found.reach, quantization, levels)) for key, found in ranges.items()}
    layers = 1 + max(layer for layer, _ in ranges)
    return tuple(LayerScales(**{point: affine(ranges[layer, point], levels) for point in POINTS}) for layer in range(layers))


def affine(seen: Range, levels: int) -> Scale:
    """The scale and zero by which 0..levels covers the range and, exactly, 0."""
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    scale = (high - low) / levels or 1.0
    zero = min(max(round(-low / scale), 0), levels)
    return Scale(torch.tensor([scale], dtype=torch.float32), torch.tensor([zero], dtype=torch.int32))


def extremes(watch: Watch) -> dict[Key, Range]:
    """The range of each watched tensor over all examples."""
    found: dict[Key, Range] = {}

    def see(key: Key, x: Tensor) -> None:
        low, high = (float(one) for one in torch.aminmax(x))
        before = found.get(key, Range(low, high))
        # A NaN must stay one: min and max of Python would drop it, depending on the order.
        found[key] = Range(float(np.minimum(low, before.low)), float(np.maximum(high, before.high)))

    watch(see)
    return found


def histograms(watch: Watch, ranges: dict[Key, Range]) -> dict[Key, np.ndarray[Any, Any]]:
    """Counts of absolute values in BINS equal bins from 0 to the largest, of each watched tensor."""
    counts = {key: np.zeros(BINS) for key in ranges}

    def see(key: Key, x: Tensor) -> None:
        reach = ranges[key].reach or 1.0
        counts[key] += torch.histc(x.abs().float(), bins=BINS, min=0.0, max=reach).numpy()

    watch(see)
    return counts


def percentile_bins(counts: np.ndarray[Any, Any], percentile: float) -> int:
    """How many bins, from 0 on, hold at least `percentile` per cent of the counts."""
    share = np.cumsum(counts) / counts.sum()
    return int(np.searchsorted(share, percentile / 100.0)) + 1


def entropy_bins(counts: np.ndarray[Any, Any], levels: int) -> int:
    """How many bins, from 0 on, to keep, so that the histogram quantized to `levels` levels of either sign diverges least
    (Kullback-Leibler) from the true one with its tail clipped into the last bin: TensorRT's calibration."""
    cells = (levels + 1) // 2
    best, kept = np.inf, len(counts)
    for bins in range(cells, len(counts) + 1, max(cells // 8, 1)):
        true = counts[:bins].copy()
        true[-1] += counts[bins:].sum()
        divergence = _divergence(true, _coarse(counts[:bins], cells))
        if divergence < best:
            best, kept = divergence, bins
    return kept


def _coarse(counts: np.ndarray[Any, Any], cells: int) -> np.ndarray[Any, Any]:
    """The counts as `cells` levels can tell them: each cell's sum, spread over those of its bins that are not empty."""
    cell = np.arange(len(counts)) * cells // len(counts)
    sums = np.bincount(cell, weights=counts, minlength=cells)
    filled = np.bincount(cell, weights=counts > 0, minlength=cells)
    return np.where(counts > 0, sums[cell] / np.maximum(filled[cell], 1), 0.0)


def _divergence(true: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    """Kullback-Leibler divergence of `other` from `true`, both made to sum to one."""
    held = true > 0
    if not other.sum():
        return float("inf")
    p, q = true[held] / true.sum(), np.maximum(other[held] / other.sum(), EMPTY / true.sum())
    return float(np.sum(p * np.log(p / q)))


def _threshold(counts: np.ndarray[Any, Any], reach: float, quantization: Quantization, levels: int) -> float:
    if quantization.calibration == "percentile":
        return reach * percentile_bins(counts, quantization.percentile) / BINS
    return reach * entropy_bins(counts, levels) / BINS


def _run(model: Model, batches: Iterator[Batch], see: See) -> None:
    """Runs the model over the batches and shows the real tokens of every watched tensor."""
    mask: list[Tensor] = []

    def show(key: Key, x: Tensor) -> None:
        see(key, x.detach()[mask[-1]])

    with _hooks(model, show), torch.no_grad():
        for batch in batches:
            mask[:] = [torch.from_numpy(batch.arrays["attention_mask"]).bool()]
            model.module(**{name: torch.from_numpy(batch.arrays[name]) for name in model.inputs})


@contextmanager
def _hooks(model: Model, show: See) -> Iterator[None]:
    """Hooks on the modules of every layer, for as long as it lasts."""
    names = NAMES[model.config.model_type]
    held = []
    for number, layer in enumerate(model.module.get_submodule(f"{names.base}.{names.layers}")):
        before, after = _points(names)
        for point, name in before:
            held.append(layer.get_submodule(name).register_forward_pre_hook(_before(show, (number, point))))
        for point, name in after:
            held.append(layer.get_submodule(name).register_forward_hook(_after(show, (number, point))))
    try:
        yield
    finally:
        for hook in held:
            hook.remove()


def _points(names: Names) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(point, module) pairs: where a point is what the module takes, and where it is what it gives."""
    before = [("input", names.query), ("context", names.out), ("inner", names.down)]
    qkv = [("qkv", names.query), ("qkv", names.key), ("qkv", names.value)]
    norms = [("middle", names.attention_norm), ("output", names.output_norm)]
    return before, [*qkv, ("out", names.out), ("down", names.down), *norms]


def _before(show: See, key: Key) -> Callable[[Any, tuple[Tensor, ...]], None]:
    return lambda module, inputs: show(key, inputs[0])


def _after(show: See, key: Key) -> Callable[[Any, Any, Tensor], None]:
    return lambda module, inputs, output: show(key, output)
