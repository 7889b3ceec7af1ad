"""The raw samples of a baseline, unpacked as late as may be: comparing ten thousand cases needs a few numbers of each.

Knows the arrays in samples/, no case and no checksum.
"""

from __future__ import annotations

import io
import json
from functools import cached_property
from typing import Any

from pytest_perfq.core import packing
from pytest_perfq.core.conditions import Conditions
from pytest_perfq.core.measurement import SIDES, Outcomes, Samples, Visit


class _Stored(Samples):
    """Samples that are made into tuples when somebody asks for them."""

    __slots__ = ("_bounds", "_latency", "median_error", "median_ns", "started_s")
    _latency: Latency
    _bounds: list[int]

    def __init__(self, latency: Latency, bounds: list[int], started_s: float, median_ns: float, error: float) -> None:
        """bounds: where rounds begin, warm-ups begin, and both end among the baseline's durations. error: of the median, -1
        where there is none."""
        put = object.__setattr__
        put(self, "_latency", latency)
        put(self, "_bounds", bounds)
        put(self, "started_s", started_s)
        put(self, "median_ns", median_ns)
        put(self, "median_error", None if error < 0 else error)

    @property
    def durations_ns(self) -> tuple[int, ...]:
        return tuple(self._latency.durations[self._bounds[0] : self._bounds[1]].tolist())

    @property
    def warmup_ns(self) -> tuple[int, ...]:
        return tuple(self._latency.durations[self._bounds[1] : self._bounds[2]].tolist())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Samples):
            return NotImplemented
        mine = (self.durations_ns, self.warmup_ns, self.started_s)
        return mine == (other.durations_ns, other.warmup_ns, other.started_s)

    def __hash__(self) -> int:
        return hash((self.durations_ns, self.warmup_ns, self.started_s))

    def __reduce__(self) -> tuple[Any, ...]:
        return Samples, (self.durations_ns, self.warmup_ns, self.started_s)


class _Watched(Visit):
    """A visit whose conditions are unpacked when somebody asks for them."""

    __slots__ = ("_disturbed", "_index", "_latency")
    _latency: Latency
    _index: int
    _disturbed: bool

    def __init__(self, sides: list[Samples | None], latency: Latency, index: int, disturbed: bool) -> None:
        """index: of the visit among the baseline's. disturbed: as it was judged when it was saved."""
        put = object.__setattr__
        for name, samples in zip(SIDES, (*sides, *[None] * (len(SIDES) - len(sides))), strict=True):
            put(self, name, samples)
        put(self, "_latency", latency)
        put(self, "_index", index)
        put(self, "_disturbed", disturbed)

    @property
    def conditions(self) -> Conditions | None:
        text = self._latency.conditions[self._index]
        return Conditions.from_json(json.loads(text)) if text else None

    @property
    def disturbances(self) -> tuple[str, ...]:
        return super().disturbances if self._disturbed else ()

    def _plain(self) -> Visit:
        return Visit(self.case, self.original, self.anchor, self.base, self.conditions)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Visit):
            return NotImplemented
        return self._plain() == (other._plain() if isinstance(other, _Watched) else other)

    def __hash__(self) -> int:
        return hash(self._plain())

    def __reduce__(self) -> tuple[Any, ...]:
        return Visit, (self.case, self.original, self.anchor, self.base, self.conditions)


class Latency:
    """latency.npz. The durations themselves are unpacked when the first of them is asked for."""

    def __init__(self, data: bytes) -> None:
        import numpy as np

        self._data = data
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            counts = arrays["counts"]
            self._started = arrays["started_s"].tolist()
            self._medians = arrays["medians_ns"].tolist()
            self._errors = arrays["median_errors"].tolist()
            # Baselines of earlier versions watched nothing.
            self._disturbed = arrays["disturbed"].tolist() if "disturbed" in arrays else None
        ends = np.cumsum(np.maximum(counts, 0).reshape(-1), dtype=np.int64).reshape(-1, 2)
        starts = np.concatenate([[0], ends[:-1, 1]])[: len(ends)]
        self._bounds = np.column_stack([starts, ends]).reshape(*counts.shape[:2], 3).tolist()
        self._present = (counts[:, :, 0] >= 0).tolist()

    @cached_property
    def durations(self) -> Any:
        """All rounds and warm-ups, nanoseconds."""
        import numpy as np

        with np.load(io.BytesIO(self._data), allow_pickle=False) as arrays:
            return arrays["durations_ns"]

    @cached_property
    def conditions(self) -> list[str]:
        """Of every visit, as JSON; empty where it was not watched."""
        import numpy as np

        with np.load(io.BytesIO(self._data), allow_pickle=False) as arrays:
            lines: list[str] = arrays["conditions"].tobytes().decode().split("\n")
        return lines

    def visits(self, first: int, number: int) -> tuple[Visit, ...]:
        """`number` visits from the `first` on."""
        found: list[Visit] = []
        for index in range(first, first + number):
            bounds, started = self._bounds[index], self._started[index]
            medians, errors = self._medians[index], self._errors[index]
            sides: list[Samples | None] = [
                _Stored(self, bounds[side], started[side], medians[side], errors[side]) if here else None
                for side, here in enumerate(self._present[index])
            ]
            if self._disturbed is not None:
                found.append(_Watched(sides, self, index, self._disturbed[index]))
            else:
                values: dict[str, Any] = dict(zip(SIDES, sides, strict=False))
                found.append(Visit(**values))
        return tuple(found)


class Contents:
    """outcomes.npz; what cases share is unpacked once."""

    def __init__(self, data: bytes) -> None:
        import numpy as np

        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            self._index = {name.decode(): index for index, name in enumerate(arrays["digests"].tolist())}
            self._offsets = arrays["offsets"].tolist()
            self._data = arrays["data"].tobytes()
        self._ids: dict[str, tuple[str, ...]] = {}
        self._outcomes: dict[tuple[str, str], Outcomes] = {}

    def _packed(self, name: str) -> bytes:
        index = self._index[name]
        data: bytes = self._data[self._offsets[index] : self._offsets[index + 1]]
        return data

    def outcomes(self, ids: str, name: str) -> Outcomes:
        if (ids, name) not in self._outcomes:
            if ids not in self._ids:
                self._ids[ids] = packing.unpack_texts(self._packed(ids))
            self._outcomes[ids, name] = packing.unpack_outcomes(self._packed(name), self._ids[ids])
        return self._outcomes[ids, name]
