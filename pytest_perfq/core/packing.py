"""Raw samples and outcomes as compact bytes and back, exactly. Knows neither database nor file.

Numbers are kept in the smallest type that gives every bit back, texts as JSON, all of it deflated: a thousand outcomes take
a few kilobytes, and the same input gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Sequence
from typing import Any

from pytest_perfq.core.conditions import Conditions
from pytest_perfq.core.measurement import SIDES, Outcomes, Samples, Visit

FLOATS = ("u1", "f2", "f4", "f8")
INTEGERS = ("u4", "i8")


def digest(data: bytes) -> str:
    """32 hex digits that name a content."""
    return hashlib.sha256(data).hexdigest()[:32]


def smallest(values: Any, kinds: Sequence[str]) -> tuple[str, bytes]:
    """The first of these little-endian numpy types that keeps every bit of the array, and its bytes."""
    import numpy as np

    with np.errstate(all="ignore"):
        for kind in kinds:
            packed = values.astype(f"<{kind}")
            if np.array_equal(packed.astype(values.dtype).view(np.int64), values.view(np.int64)):
                return kind, packed.tobytes()
    raise ValueError(f"none of {kinds} holds {values.dtype}")


def _join(header: dict[str, Any], arrays: Sequence[bytes]) -> bytes:
    text = json.dumps(header, separators=(",", ":")).encode()
    return zlib.compress(b"".join([struct.pack("<I", len(text)), text, *arrays]), 6)


def _split(data: bytes) -> tuple[dict[str, Any], memoryview]:
    plain = memoryview(zlib.decompress(data))
    length = struct.unpack_from("<I", plain)[0]
    return json.loads(bytes(plain[4 : 4 + length])), plain[4 + length :]


def pack_texts(texts: Sequence[str]) -> bytes:
    """Texts, such as example ids, which many outcomes share."""
    return zlib.compress(json.dumps(list(texts), separators=(",", ":")).encode(), 6)


def unpack_texts(data: bytes) -> tuple[str, ...]:
    """The inverse of pack_texts."""
    return tuple(json.loads(zlib.decompress(data)))


def pack_outcomes(outcomes: Outcomes) -> bytes:
    """Everything but the ids."""
    import numpy as np

    numbers = {"": outcomes.margins, **outcomes.columns}
    packed = {name: smallest(np.asarray(values, dtype=np.float64), FLOATS) for name, values in numbers.items()}
    header = {
        "predictions": outcomes.predictions,
        "numbers": [[name, kind, len(data)] for name, (kind, data) in packed.items()],
    }
    return _join(header, [data for _, data in packed.values()])


def unpack_outcomes(data: bytes, ids: tuple[str, ...]) -> Outcomes:
    """The inverse of pack_outcomes, given the ids."""
    import numpy as np

    header, arrays = _split(data)
    numbers: dict[str, tuple[float, ...]] = {}
    for name, kind, size in header["numbers"]:
        numbers[name] = tuple(np.frombuffer(arrays[:size], dtype=f"<{kind}").astype(np.float64).tolist())
        arrays = arrays[size:]
    return Outcomes(ids, tuple(header["predictions"]), numbers.pop(""), numbers)


def pack_visits(visits: Sequence[Visit]) -> bytes:
    """Raw samples of all sides, in nanoseconds, and the conditions that they were taken under."""
    import numpy as np

    layout: list[list[list[float] | None]] = []
    numbers: list[int] = []
    for visit in visits:
        sides: list[Samples | None] = [getattr(visit, side) for side in SIDES]
        layout.append([None if one is None else [len(one.durations_ns), len(one.warmup_ns), one.started_s] for one in sides])
        for one in sides:
            if one is not None:
                numbers += one.durations_ns
                numbers += one.warmup_ns
    kind, data = smallest(np.asarray(numbers, dtype=np.int64), INTEGERS)
    header: dict[str, Any] = {"visits": layout, "kind": kind}
    if any(visit.conditions is not None for visit in visits):
        header["conditions"] = [None if visit.conditions is None else visit.conditions.to_json() for visit in visits]
    return _join(header, [data])


def unpack_visits(data: bytes) -> tuple[Visit, ...]:
    """The inverse of pack_visits."""
    import numpy as np

    header, array = _split(data)
    numbers = np.frombuffer(array, dtype=f"<{header['kind']}").tolist()
    start, visits = 0, []
    conditions = header.get("conditions") or [None] * len(header["visits"])
    for sides, watched in zip(header["visits"], conditions, strict=True):
        found: list[Samples | None] = []
        for one in sides:
            if one is None:
                found.append(None)
                continue
            middle, end = start + one[0], start + one[0] + one[1]
            found.append(Samples(tuple(numbers[start:middle]), tuple(numbers[middle:end]), one[2]))
            start = end
        values: dict[str, Any] = dict(zip(SIDES, found, strict=False))  # an earlier version knew fewer
        visits.append(Visit(**values, conditions=None if watched is None else Conditions.from_json(watched)))
    return tuple(visits)
