"""Where the two sides of a comparison come from: a baseline folder, a run of the store, or `last`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pytest_perfq import baselines
from pytest_perfq.core.budget import Limit
from pytest_perfq.core.finding import Finding, Verdict
from pytest_perfq.core.measurement import Measurement
from pytest_perfq.errors import UsageError
from pytest_perfq.report.exports import Exported


class Source(Protocol):
    """Measurements by case id, with what they were promised."""

    def __iter__(self) -> Iterator[str]: ...

    def get(self, case_id: str) -> Measurement | None:
        """The measurement; None where there is none."""

    def limits(self, case_id: str) -> tuple[Limit, ...]:
        """The promises held against it."""

    def status(self, case_id: str) -> str:
        """The status it was stored with."""


@dataclass(frozen=True, slots=True)
class RunSource:
    """One run of a store: the last attempt of every item; of a case in several items the last one recorded."""

    records: dict[str, Exported]

    def __iter__(self) -> Iterator[str]:
        return iter(self.records)

    def get(self, case_id: str) -> Measurement | None:
        found = self.records.get(case_id)
        return None if found is None else found.measurement

    def limits(self, case_id: str) -> tuple[Limit, ...]:
        return self.records[case_id].verdict.limits

    def status(self, case_id: str) -> str:
        return self.records[case_id].verdict.status


def exported(store_url: str, name: str) -> list[Exported]:
    """The records of a run by its id or `last`, the last attempt of every item."""
    from pytest_perfq.store import Store

    with Store.open(store_url, readonly=True) as store:
        run = store.run(name)
        return [
            Exported(
                nodeid=record.nodeid,
                measurement=Measurement.from_json(record.measurement),
                verdict=Verdict.from_json(record.verdict),
                started_s=run.started_s,
                argv=run.argv,
            )
            for record in store.records(run.id, latest=True)
        ]


def open_source(name: str, store_url: str, like: Source | None = None) -> Source:
    """The source of this name. Raises UsageError, BaselineError or StoreError. like: see baselines.load."""
    if Path(name).is_dir() or "/" in name:
        return baselines.load(name, like if isinstance(like, baselines.Baseline) else None)
    found = RunSource({one.measurement.case.id: one for one in exported(store_url, name)})
    if not found.records:
        raise UsageError(f"the run {name!r} holds no record; compare another one: see `perfq list runs`")
    return found


def broken(measurement: Measurement | None, status: str) -> Finding | None:
    """The failure of a case that could not be built or run, which no promise shows: it has no numbers. status: as stored."""
    if measurement is None or measurement.unmeasured is None or status != "fail":
        return None
    return Finding(rule="build", status="fail", note=measurement.unmeasured)
