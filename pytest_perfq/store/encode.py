"""A measurement and its verdict as one row of `records` and the shared contents it points to, and back, exactly.

Knows the columns; runs no statement.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_perfq.core import packing
from pytest_perfq.core.fingerprint import Fingerprint
from pytest_perfq.core.measurement import Measurement, Outcomes, Visit
from pytest_perfq.core.summary import summarize

# Fields of a measurement with columns or contents of their own; the others stand in `rest_json`.
APART = ("case", "fingerprint", "visits", "outcomes", "original_outcomes")


@dataclass(slots=True)
class Row:
    """values: of the columns of `records`, but `visits`, which are apart. blobs: digest -> packed content. facts: of the
    fingerprint, without volatile."""

    values: dict[str, Any]
    visits: tuple[Visit, ...]
    machine: str
    facts: str
    stack: dict[str, Any]
    blobs: dict[str, bytes] = field(default_factory=dict)

    def keep(self, data: bytes) -> str:
        """The digest under which the content is kept."""
        name = packing.digest(data)
        self.blobs[name] = data
        return name


def text(values: Any) -> str:
    """Compact JSON that sorts nothing: what goes in comes out in the same order."""
    return json.dumps(values, separators=(",", ":"), ensure_ascii=False)


def encode(measurement_json: dict[str, Any], verdict_json: dict[str, Any]) -> Row:
    """The row of one judged item, without run, nodeid, attempt and time. Takes the plain JSON, as it crosses processes."""
    measurement = Measurement.from_json(measurement_json)
    numbers = summarize(measurement)
    tiers = measurement_json["fingerprint"]
    facts = text({"identity": tiers["identity"], "stack": tiers["stack"]})
    values = {
        "case_id": measurement.case.id,
        "status": verdict_json["status"],
        "p50_ms": numbers.percentiles_ms.get("p50"),
        "p95_ms": numbers.percentiles_ms.get("p95"),
        "metric": numbers.metric,
        "score": numbers.score,
        "drop": numbers.drop,
        "speedup": numbers.speedup,
        "bytes": numbers.bytes,
        "fingerprint": packing.digest(facts.encode()),
        "volatile": text(tiers["volatile"]),
        "case_json": text(measurement_json["case"]),
        "verdict_json": text(verdict_json),
        "rest_json": text({name: one for name, one in measurement_json.items() if name not in APART}),
    }
    row = Row(values, measurement.visits, measurement.fingerprint.key, facts, tiers["stack"])
    for ids, name in (("ids", "outcomes"), ("original_ids", "original_outcomes")):
        outcomes: Outcomes | None = getattr(measurement, name)
        values[ids] = None if outcomes is None else row.keep(packing.pack_texts(outcomes.ids))
        values[name] = None if outcomes is None else row.keep(packing.pack_outcomes(outcomes))
    return row


def pack(visits: Sequence[Visit]) -> bytes | None:
    """The column `visits`; None of none."""
    return packing.pack_visits(visits) if visits else None


def marks(visits: Sequence[Visit]) -> tuple[int, ...]:
    """A number a visit, by which this process knows it again."""
    return tuple(hash((one.case, one.original, one.anchor, one.base, repr(one.conditions))) for one in visits)


class Decoder:
    """Rows back to plain JSON. Contents that rows share are unpacked once."""

    def __init__(self, blob: Any, facts: Any) -> None:
        """blob: digest -> packed bytes. facts: digest -> JSON text of a fingerprint without its volatile tier."""
        self._blob, self._facts = blob, facts
        self._ids: dict[str, tuple[str, ...]] = {}
        self._outcomes: dict[tuple[str, str], dict[str, Any]] = {}
        self._tiers: dict[str, dict[str, Any]] = {}
        self._visits: dict[int, list[dict[str, Any]]] = {}

    def measurement(self, chain: Sequence[Any]) -> dict[str, Any]:
        """The plain JSON of Measurement.to_json. chain: rows of an attempt and of those before it that it continues, the first
        of them first, with the columns of `records` as attributes."""
        row = chain[-1]
        if row.fingerprint not in self._tiers:
            self._tiers[row.fingerprint] = json.loads(self._facts(row.fingerprint))
        fingerprint = Fingerprint(**self._tiers[row.fingerprint], volatile=json.loads(row.volatile))
        return {
            "case": json.loads(row.case_json),
            "fingerprint": fingerprint.to_json(),
            "visits": [visit for part in chain for visit in self._of_row(part)],
            "outcomes": self._of(row.ids, row.outcomes),
            "original_outcomes": self._of(row.original_ids, row.original_outcomes),
            **json.loads(row.rest_json),
        }

    def _of_row(self, row: Any) -> list[dict[str, Any]]:
        if row.id not in self._visits:
            found = packing.unpack_visits(row.visits) if row.visits is not None else ()
            self._visits[row.id] = [visit.to_json() for visit in found]
        return self._visits[row.id]

    def _of(self, ids: str | None, outcomes: str | None) -> dict[str, Any] | None:
        if ids is None or outcomes is None:
            return None
        if (ids, outcomes) not in self._outcomes:
            if ids not in self._ids:
                self._ids[ids] = packing.unpack_texts(self._blob(ids))
            self._outcomes[ids, outcomes] = packing.unpack_outcomes(self._blob(outcomes), self._ids[ids]).to_json()
        return self._outcomes[ids, outcomes]
