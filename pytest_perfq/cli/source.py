"""Where the two sides of a comparison come from: a baseline folder, a run of the store, or `last`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pytest_perfq import baselines
from pytest_perfq.cli.storing import opened
from pytest_perfq.core.budget import Limit
from pytest_perfq.core.finding import Finding, Verdict
from pytest_perfq.core.measurement import Measurement
from pytest_perfq.errors import StoreError, UsageError
from pytest_perfq.report.exports import Exported
from pytest_perfq.report.order import in_walk

# Where baselines are kept unless somebody says otherwise.
BASELINES = "baselines"


class Source(Protocol):
    """Measurements by case id, with what they were promised."""

    @property
    def created_s(self) -> float:
        """When they were made, unix time."""

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

    @property
    def created_s(self) -> float:
        return next(iter(self.records.values())).started_s

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
    """The records of a run by its id or `last`: the last attempt of every item, in the order of the walk. Raises UsageError
    for a run that holds none."""
    with opened(store_url, readonly=True) as store:
        run = store.run(name)
        found = {
            record.nodeid: Exported(
                nodeid=record.nodeid,
                measurement=Measurement.from_json(record.measurement),
                verdict=Verdict.from_json(record.verdict),
                started_s=run.started_s,
                argv=run.argv,
                strict=bool(run.settings.get("strict")),
            )
            for record in store.records(run.id, latest=True)
        }
    if not found:
        raise UsageError(f"the run {run.id} holds no record: no case was judged in it; name another run, see `perfq list runs`")
    # A run that does not know how many items it had was measured by several processes, which finish in an order of chance.
    walk = found if run.settings.get("items") is not None else ()
    return [found[nodeid] for nodeid in in_walk({nodeid: one.measurement.case for nodeid, one in found.items()}, walk)]


def open_source(name: str, store_url: str, like: Source | None = None) -> Source:
    """The source of this name. Raises UsageError, BaselineError or StoreError. like: see baselines.load."""
    if is_folder(name):
        return baselines.load(name, like if isinstance(like, baselines.Baseline) else None)
    try:
        return RunSource({one.measurement.case.id: one for one in exported(store_url, name)})
    except StoreError as error:
        near = [path for path in baselines.inside(BASELINES) if path.name == name]
        if not near:
            raise
        raise UsageError(f"{error}; a baseline is named by its folder, as {near[0]}") from error


def is_folder(name: str) -> bool:
    """Whether the name is that of a baseline: a folder here, or a path. Anything else is the id of a run."""
    return Path(name).is_dir() or "/" in name or "\\" in name


def broken(measurement: Measurement | None, status: str) -> Finding | None:
    """Why a case could not be built or run, or was asked for wrongly, which no promise shows: it has no numbers. status: as
    stored."""
    rules = {"fail": "build", "invalid": "usage"}
    if measurement is None or measurement.unmeasured is None or status not in rules:
        return None
    return Finding(rule=rules[status], status=status, note=measurement.unmeasured)
