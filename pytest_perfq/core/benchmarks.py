"""Tests that time something themselves, by pytest-benchmark, as cases and measurements. Pure: reads no file, runs no test.

Such a test belongs to no sweep: it has no model, no batch and no original, and its name is that of the test item.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pytest_perfq.core.case import Case
from pytest_perfq.core.fingerprint import Fact, Fingerprint
from pytest_perfq.core.measurement import Measurement, Samples, Visit
from pytest_perfq.core.spec import Spec
from pytest_perfq.errors import DataError

TASK, BACKEND, DATASET = Spec("benchmark"), Spec("pytest-benchmark"), "benchmark"
# Order statistics that pytest-benchmark keeps where it keeps no rounds: the median among them is the median of them.
KEPT = ("min", "q1", "median", "q3", "max")
ONCE = "benchmark.pedantic(rounds=1) is one call and is not repeated"


def case_of(nodeid: str) -> Case:
    """The case of a test by its name, `tests/test_sort.py::test_sort[10]`."""
    file, separator, test = nodeid.partition("::")
    if not separator:
        file, test = "unknown", nodeid
    return Case(task=TASK, dataset=DATASET, model=file, model_name=file, backend=BACKEND, test=test)


def nodeid_of(case: Case) -> str:
    """The name of the test item that a case is of: the inverse of case_of."""
    return f"{case.model_name}::{case.test}"


def called_once(measurement: Measurement) -> bool:
    """Whether the test lets its call be made a single time only, so that nobody can time it beside anything."""
    return measurement.facts.get("rounds") == ONCE


def per_call(samples: Samples, loops: int) -> Samples:
    """Durations of one call, by those of rounds of so many: whole nanoseconds, one at least."""

    def divided(rounds: Sequence[int]) -> tuple[int, ...]:
        return tuple(max(1, round(one / loops)) for one in rounds)

    return replace(samples, durations_ns=divided(samples.durations_ns), warmup_ns=divided(samples.warmup_ns))


def nanoseconds(seconds: float) -> int:
    """Whole nanoseconds of a duration, one at least."""
    return max(1, round(seconds * 1e9))


def read(values: Any) -> list[Measurement]:
    """The measurements in what `pytest --benchmark-json` wrote, one visit each. Where only statistics were saved, the visit
    holds the five order statistics among them, and the facts say so. Raises DataError."""
    if not isinstance(values, dict) or not isinstance(values.get("benchmarks"), list):
        raise DataError("it is not of pytest-benchmark: there is no list of `benchmarks` in it")
    if not values["benchmarks"]:
        raise DataError("it holds no benchmarks: none ran, or pytest-benchmark was disabled, as it is under xdist")
    fingerprint, started_s = fingerprint_of(values), _started_s(values.get("datetime"))
    return [_measurement(one, fingerprint, started_s) for one in values["benchmarks"]]


def fingerprint_of(values: Mapping[str, Any]) -> Fingerprint:
    """The machine and software that the file names."""
    machine, commit = values.get("machine_info") or {}, values.get("commit_info") or {}
    ours = machine.get("perfq")
    if ours is not None:  # of an export of our own: nothing was lost
        return Fingerprint(ours["identity"], ours["stack"], {"hostname": machine.get("node")})
    cpu = machine.get("cpu") or {}
    identity: dict[str, Fact] = {
        "cpu": cpu.get("brand_raw") or machine.get("processor") or None,
        "architecture": machine.get("machine"),
        "logical_cpus": cpu.get("count"),
    }
    system = " ".join(str(machine[name]) for name in ("system", "release") if machine.get(name))
    stack: dict[str, Fact] = {
        "python": machine.get("python_version"), "os": system or None, "pytest_benchmark": values.get("version"),
        "revision": commit.get("id"), "dirty": commit.get("dirty"),
    }  # fmt: skip
    return Fingerprint(
        identity, {name: fact for name, fact in stack.items() if fact is not None}, {"hostname": machine.get("node")}
    )


def _started_s(text: object) -> float:
    """Unix time; of a file without one, 0."""
    try:
        found = datetime.datetime.fromisoformat(str(text))
    except ValueError:
        return 0.0
    return (found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).timestamp()


def _measurement(one: Any, fingerprint: Fingerprint, started_s: float) -> Measurement:
    name = one.get("fullname") or one.get("name") if isinstance(one, dict) else None
    stats = one.get("stats") if isinstance(one, dict) else None
    if not isinstance(name, str) or not isinstance(stats, dict):
        raise DataError(f"a benchmark in it lacks its `fullname` or its `stats`: {str(one)[:80]}")
    rounds, facts = stats.get("data"), dict[str, str | int | float | bool]()
    if not rounds:
        rounds = [stats.get(kept) for kept in KEPT]
        facts["rounds"] = f"{', '.join(KEPT)} alone of {stats.get('rounds')} rounds"
    durations = _durations(name, rounds)
    facts["iterations"] = int(stats.get("iterations") or 1)
    visit = Visit(Samples(durations, started_s=started_s))
    return Measurement(case=case_of(name), fingerprint=fingerprint, visits=(visit,), facts=facts)


def _durations(name: str, rounds: Sequence[Any]) -> tuple[int, ...]:
    for one in rounds:
        if not isinstance(one, (int, float)) or not 0.0 <= one < float("inf"):
            raise DataError(f"{name} has a round of {one!r} seconds in it; a duration is a number of at least 0")
    return tuple(nanoseconds(one) for one in rounds)
