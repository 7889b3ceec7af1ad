"""Saving a baseline: all of it or nothing, and nothing that stood there is lost. Knows no reading."""

from __future__ import annotations

import datetime
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pytest_perfq.baselines.layout import CASES, DEFAULTS, FORMAT, LATENCY, META, OUTCOMES, PLAIN, checksum, meta_checksum
from pytest_perfq.core import packing
from pytest_perfq.core.case import Case
from pytest_perfq.core.finding import Verdict
from pytest_perfq.core.measurement import SIDES, Measurement, Outcomes, Samples, Visit
from pytest_perfq.core.summary import summarize
from pytest_perfq.errors import BaselineError


def check_free(folder: str | Path) -> None:
    """Raises BaselineError where something stands already that saving would have to move."""
    path = Path(folder)
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if (path / META).is_file():
        raise BaselineError(
            f"{path} holds a baseline already; replace it by --perf-overwrite in a run or --overwrite of perfq accept (the old "
            f"one is kept as {_aside(path).name}), or save under another name"
        )
    raise BaselineError(f"{path} exists and is not a baseline; save under another name")


def save(
    folder: str | Path,
    measurements: Sequence[Measurement],
    verdicts: Sequence[Verdict],
    *,
    overwrite: bool = False,
    provenance: Mapping[str, Any] | None = None,
) -> Path:
    """Writes a baseline and returns its folder. Of a case measured twice the later measurement is kept. overwrite: a
    baseline that stands there is moved aside to NAME.previous, never deleted. provenance: where it comes from, plain JSON
    such as the run and its command. Raises BaselineError."""
    path = Path(folder)
    if not (overwrite and (path / META).is_file()):
        check_free(path)
    cases = {one.case.id: (one, verdict) for one, verdict in zip(measurements, verdicts, strict=True)}
    if not cases:
        raise BaselineError(f"there is no case to save as {path}; a baseline needs at least one measured case")
    pairs = [cases[name] for name in sorted(cases)]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            _write(building, pairs, provenance or {})
            building.chmod(0o755)
            if path.exists() and any(path.iterdir()):
                path.rename(_aside(path))
            building.rename(path)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    except OSError as error:
        raise BaselineError(f"cannot write the baseline {path}: {error}; save it elsewhere") from error
    return path


def _aside(path: Path) -> Path:
    """A free name for the baseline that stands there."""
    names = [f"{path.name}.previous", *(f"{path.name}.previous-{number}" for number in range(2, 10_000))]
    return next(path.with_name(name) for name in names if not path.with_name(name).exists())


def _write(folder: Path, pairs: Sequence[tuple[Measurement, Verdict]], provenance: Mapping[str, Any]) -> None:
    (folder / "samples").mkdir()
    machines: dict[str, Any] = {}
    contents: dict[str, bytes] = {}
    lines = [_line(measurement, verdict, machines, contents) for measurement, verdict in pairs]
    (folder / CASES).write_text("".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines), encoding="utf-8")
    _write_latency(folder / LATENCY, [visit for measurement, _ in pairs for visit in measurement.visits])
    _write_outcomes(folder / OUTCOMES, contents)
    meta = {
        "format": FORMAT,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "version": version("pytest-perfq"),
        "provenance": provenance,
        "cases": len(lines),
        "machines": machines,
        "sha256": {name: checksum((folder / name).read_bytes()) for name in (CASES, LATENCY, OUTCOMES)},
    }
    text = json.dumps({**meta, "meta_sha256": meta_checksum(meta)}, indent=1, sort_keys=True, ensure_ascii=False)
    (folder / META).write_text(text + "\n", encoding="utf-8")


def _line(measurement: Measurement, verdict: Verdict, machines: dict[str, Any], contents: dict[str, bytes]) -> dict[str, Any]:
    """One case as plain JSON in a fixed order: what a reviewer reads first, then what is needed to rebuild it exactly."""
    numbers = summarize(measurement)
    tiers = measurement.fingerprint
    machine = packing.digest(json.dumps([tiers.identity, tiers.stack], sort_keys=True).encode())[:12]
    machines[machine] = {"identity": tiers.identity, "stack": tiers.stack}
    readable = {
        "score": numbers.score,
        "drop": numbers.drop,
        **{f"{name}_ms": value for name, value in numbers.percentiles_ms.items()},
        "speedup": numbers.speedup,
    }

    def keep(outcomes: Outcomes | None) -> list[str] | None:
        if outcomes is None:
            return None
        packed = [packing.pack_texts(outcomes.ids), packing.pack_outcomes(outcomes)]
        names = [packing.digest(data) for data in packed]
        contents.update(zip(names, packed, strict=True))
        return names

    return {
        "id": measurement.case.id,
        "status": verdict.status,
        **{name: float(f"{value:.4g}") for name, value in readable.items() if value is not None},
        "limits": [limit.to_json() for limit in verdict.limits],
        "scores": [score.to_json() for score in measurement.scores],
        "original_scores": [score.to_json() for score in measurement.original_scores],
        **{name: getattr(measurement, name) for name in PLAIN},
        "visits": len(measurement.visits),
        "outcomes": keep(measurement.outcomes),
        "original_outcomes": keep(measurement.original_outcomes),
        "machine": machine,
        "volatile": tiers.volatile,
        "case": _short(measurement.case),
    }


def _short(case: Case) -> dict[str, Any]:
    """The case without the fields that stand at their defaults, which are part of the format: a line is half as long."""
    values = case.to_json()
    return {name: value for name, value in values.items() if name != "id" and value != DEFAULTS.get(name, ...)}


def _write_latency(file: Path, visits: Sequence[Visit]) -> None:
    """counts: int32 [visits, side, (rounds, warm-ups)], -1 where there was no such side. started_s: [visits, side].
    durations_ns: all rounds and warm-ups in that order. medians_ns, median_errors: of the rounds, [visits, side], so that
    comparing two baselines need not read them all; 0 and -1 where there are none. Where a visit was watched also
    conditions: of every visit, a line of JSON each, empty for none; and disturbed: whether it was, for the same reason."""
    import numpy as np

    counts: list[list[list[int]]] = []
    started: list[list[float]] = []
    medians: list[list[float]] = []
    errors: list[list[float]] = []
    durations: list[int] = []
    for visit in visits:
        sides: list[Samples | None] = [getattr(visit, side) for side in SIDES]
        counts.append([[-1, -1] if one is None else [len(one.durations_ns), len(one.warmup_ns)] for one in sides])
        started.append([0.0 if one is None else one.started_s for one in sides])
        medians.append([0.0 if one is None or not one.durations_ns else one.median_ns for one in sides])
        errors.append([-1.0 if one is None or one.median_error is None else one.median_error for one in sides])
        for one in sides:
            if one is not None:
                durations += one.durations_ns
                durations += one.warmup_ns
    kind, data = packing.smallest(np.asarray(durations, dtype=np.int64), packing.INTEGERS)
    watched: dict[str, Any] = {}
    known = [visit.conditions for visit in visits]
    if any(one is not None for one in known):
        lines = ["" if one is None else json.dumps(one.to_json(), separators=(",", ":")) for one in known]
        watched["conditions"] = np.frombuffer("\n".join(lines).encode(), dtype=np.uint8)
        watched["disturbed"] = np.asarray([bool(visit.disturbances) for visit in visits])
    np.savez_compressed(
        file,
        **watched,
        counts=np.asarray(counts, dtype=np.int32).reshape(len(visits), len(SIDES), 2),
        started_s=np.asarray(started, dtype=np.float64).reshape(len(visits), len(SIDES)),
        medians_ns=np.asarray(medians, dtype=np.float64).reshape(len(visits), len(SIDES)),
        median_errors=np.asarray(errors, dtype=np.float64).reshape(len(visits), len(SIDES)),
        durations_ns=np.frombuffer(data, dtype=f"<{kind}"),
    )


def _write_outcomes(file: Path, contents: dict[str, bytes]) -> None:
    """digests: names of the contents, sorted. offsets: where each begins in data, and the end. See core.packing."""
    import numpy as np

    names = sorted(contents)
    np.savez(
        file,
        digests=np.asarray(names, dtype="S32"),
        offsets=np.cumsum([0, *(len(contents[name]) for name in names)], dtype=np.int64),
        data=np.frombuffer(b"".join(contents[name] for name in names), dtype=np.uint8),
    )
