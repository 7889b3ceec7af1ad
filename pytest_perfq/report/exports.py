"""A run in the formats of others: pytest-benchmark's JSON (which trackers read), JUnit, CSV and plain JSON.

Knows no database: takes what a store gives. Times are in the unit each format has: seconds in pytest-benchmark and JUnit.
"""

from __future__ import annotations

import csv
import datetime
import io
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

from pytest_perfq.core import stats
from pytest_perfq.core.finding import FAILED, Verdict
from pytest_perfq.core.measurement import Measurement
from pytest_perfq.core.summary import summarize
from pytest_perfq.report.explain import explain, reasons
from pytest_perfq.report.properties import properties

# The version of pytest-benchmark whose file format this is.
BENCHMARK_VERSION = "5.1.0"
# Statuses of cases that nothing is known of: skipped, or failed where a run was strict.
UNUSABLE = frozenset({"unmeasured", "invalid"})


@dataclass(frozen=True, slots=True)
class Exported:
    """One record to export. nodeid: of the test item. started_s: unix time of the run. strict: whether unmeasured and invalid
    cases failed in it."""

    nodeid: str
    measurement: Measurement
    verdict: Verdict
    started_s: float = 0.0
    argv: tuple[str, ...] = field(default=())
    strict: bool = False


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat()


def _stats(durations_ns: Sequence[int], iterations: int) -> dict[str, Any]:
    """pytest-benchmark's statistics, in seconds, by its definitions (quartiles of the halves, Tukey's fences).

    iterations: calls in a round, of which each duration is the mean."""
    data = sorted(duration / 1e9 for duration in durations_ns)
    n, mean, middle = len(data), statistics.fmean(data), stats.median(data)
    half = n // 2
    q1 = stats.median(data[: half + n % 2]) if n > 1 else data[0]
    q3 = stats.median(data[half:]) if n > 1 else data[0]
    iqr, deviation = q3 - q1, statistics.stdev(data) if n > 1 else 0.0
    low, high = q1 - 1.5 * iqr, q3 + 1.5 * iqr
    outliers = sum(one < low or one > high for one in data)
    far = sum(abs(one - mean) > deviation for one in data)
    return {
        "min": data[0], "max": data[-1], "mean": mean, "stddev": deviation, "rounds": n, "median": middle, "iqr": iqr,
        "q1": q1, "q3": q3, "iqr_outliers": outliers, "stddev_outliers": far, "outliers": f"{far};{outliers}",
        "ld15iqr": next(one for one in data if one >= low), "hd15iqr": next(one for one in reversed(data) if one <= high),
        "ops": 1.0 / mean if mean else 0.0, "total": sum(data), "data": [duration / 1e9 for duration in durations_ns],
        "iterations": iterations,
    }  # fmt: skip


def _benchmark(one: Exported) -> dict[str, Any]:
    measurement, numbers = one.measurement, summarize(one.measurement)
    case = measurement.case
    extra: dict[str, Any] = {f"{name}_ms": value for name, value in numbers.percentiles_ms.items()}
    extra |= {"status": one.verdict.status, "speedup": numbers.speedup, "bytes": numbers.bytes, **measurement.facts}
    return {
        "group": case.program().id if case.test is None else None,
        "name": case.id if case.test is None else case.test,
        "fullname": f"{one.nodeid.partition('::')[0]}::{case.id if case.test is None else case.test}",
        "params": {name: value for name, value in case.axes().items() if value is not None},
        "param": case.id,
        "extra_info": {name: value for name, value in extra.items() if value is not None},
        "options": {
            "disable_gc": True, "timer": "perf_counter_ns", "min_rounds": 1, "max_time": 0.0, "min_time": 0.0, "warmup": True,
        },
        "stats": _stats(measurement.durations_ns(), int(measurement.facts.get("iterations", 1))),
    }  # fmt: skip


def pytest_benchmark(records: Sequence[Exported]) -> str:
    """The latency cases as pytest-benchmark saves them. Scores have no place there."""
    timed = [one for one in records if one.measurement.durations_ns()]
    first = records[0].measurement.fingerprint if records else None
    identity, stack, volatile = ({}, {}, {}) if first is None else (first.identity, first.stack, first.volatile)
    cpu = {"brand_raw": identity.get("cpu"), "count": identity.get("logical_cpus"), "arch": identity.get("architecture")}
    system, _, release = str(stack.get("os", "")).partition(" ")
    values = {
        "machine_info": {
            "node": volatile.get("hostname"), "processor": "", "machine": identity.get("architecture"), "python_compiler": "",
            "python_implementation": "CPython", "python_implementation_version": stack.get("python"),
            "python_version": stack.get("python"), "python_build": ["", ""], "release": release, "system": system,
            "cpu": cpu, "perfq": {"identity": identity, "stack": stack},
        },
        "commit_info": {
            "id": stack.get("revision"), "time": None, "author_time": None, "dirty": bool(stack.get("dirty")), "project": None,
            "branch": None,
        },
        "benchmarks": [_benchmark(one) for one in timed],
        "datetime": _time(records[0].started_s if records else 0.0),
        "version": BENCHMARK_VERSION,
    }  # fmt: skip
    return json.dumps(values, indent=2)


def junit(records: Sequence[Exported]) -> str:
    """One test case a record, failed and skipped as pytest showed them. Undecided cases pass with their reason as output."""
    root = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(root, "testsuite", name="perfq")
    kinds = [_testcase(suite, one) for one in records]
    counts = {"tests": len(kinds), "failures": kinds.count("failure"), "errors": 0, "skipped": kinds.count("skipped")}
    for name, number in counts.items():
        suite.set(name, str(number))
    suite.set("time", _seconds(sum(sum(one.measurement.durations_ns()) for one in records)))
    suite.set("timestamp", _time(records[0].started_s if records else 0.0))
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True)


def _testcase(suite: ElementTree.Element, one: Exported) -> str | None:
    """Adds a record to its suite. Returns 'failure', 'skipped' or 'system-out', None for one that just passed."""
    item = ElementTree.SubElement(suite, "testcase", classname=_classname(one.nodeid), name=one.measurement.case.id)
    if durations := one.measurement.durations_ns():
        # Of the timed calls; how long anything else took is not kept.
        item.set("time", _seconds(sum(durations)))
    told = ElementTree.SubElement(item, "properties")
    for name, value in properties(one.measurement, one.verdict):
        ElementTree.SubElement(told, "property", name=name, value=str(value))
    kind = _kind(one)
    if kind is not None:
        found = ElementTree.SubElement(item, kind)
        found.text = explain(one.verdict)
        if kind != "system-out":
            found.set("message", reasons(one.verdict)[0])
    return kind


def _kind(one: Exported) -> str | None:
    status = one.verdict.status
    # A mistake of the suite fails in any run.
    misused = any(finding.rule == "usage" for finding in one.verdict.findings)
    if status in FAILED or (status in UNUSABLE and (one.strict or misused)):
        return "failure"
    if status in UNUSABLE:
        return "skipped"
    return "system-out" if status == "inconclusive" else None


def _classname(nodeid: str) -> str:
    """Module and class, as pytest writes them: `suites.test_squad`."""
    file, *inside = nodeid.partition("[")[0].split("::")
    return ".".join([file.removesuffix(".py").replace("/", "."), *inside[:-1]])


def _seconds(duration_ns: int) -> str:
    # Milliseconds, as JUnit's schema has them.
    return f"{duration_ns / 1e9:.3f}"


def _flat(one: Exported) -> dict[str, Any]:
    numbers = summarize(one.measurement)
    return {
        "case": one.measurement.case.id,
        "nodeid": one.nodeid,
        "status": one.verdict.status,
        **one.measurement.case.axes(),
        **{f"{name}_ms": numbers.percentiles_ms.get(name) for name in ("p50", "p90", "p95", "p99")},
        "mean_ms": numbers.mean_ms,
        "rounds": numbers.rounds,
        "sequences_per_s": numbers.sequences_per_s,
        "speedup": numbers.speedup,
        "metric": numbers.metric,
        "score": numbers.score,
        "original_score": numbers.original_score,
        "drop": numbers.drop,
        "bytes": numbers.bytes,
        "machine": one.measurement.fingerprint.key,
    }


def as_csv(records: Sequence[Exported]) -> str:
    """One line a record, one column a number; empty where it was not measured."""
    text = io.StringIO()
    rows = [_flat(one) for one in records]
    if rows:
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


def as_json(records: Sequence[Exported]) -> str:
    """Everything: what Measurement.from_json and Verdict.from_json read, and the numbers of the CSV."""
    found = [{**_flat(one), "measurement": one.measurement.to_json(), "verdict": one.verdict.to_json()} for one in records]
    return json.dumps(found)


FORMATS = {"pytest-benchmark": pytest_benchmark, "junit": junit, "csv": as_csv, "json": as_json}
