"""Loading a baseline: every file is checked, measurements are rebuilt when asked for. Writes nothing."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from pytest_perfq.baselines.layout import CASES, DEFAULTS, FORMAT, LATENCY, META, OUTCOMES, PLAIN, checksum, meta_checksum
from pytest_perfq.baselines.samples import Contents, Latency
from pytest_perfq.core.budget import Limit
from pytest_perfq.core.case import Case
from pytest_perfq.core.fingerprint import Fingerprint
from pytest_perfq.core.measurement import Measurement, Outcomes, Score
from pytest_perfq.core.quantization import Quantization
from pytest_perfq.core.spec import Spec
from pytest_perfq.errors import BaselineError

# Names of other baselines in a message.
SHOWN_NAMES = 5


def load(folder: str | Path, like: Baseline | None = None) -> Baseline:
    """The baseline in a folder, its files checked. like: another one whose cases are taken over where they are the same,
    which saves making them again. Raises BaselineError."""
    path = Path(folder)
    meta = _read_meta(path)
    files: dict[str, bytes] = {}
    for name in (CASES, LATENCY, OUTCOMES):
        try:
            data = (path / name).read_bytes()
        except OSError as error:
            raise BaselineError(
                f"the baseline {path} lacks {name} ({error.strerror}); restore it from version control, or save it again"
            ) from None
        found, wanted = checksum(data), meta["sha256"][name]
        if found != wanted:
            raise BaselineError(
                f"{path / name} was edited or torn: its checksum is {found[:12]}, meta.json says {wanted[:12]}; restore it "
                "from version control, or save the baseline again"
            )
        files[name] = data
    lines = {line["id"]: line for line in map(json.loads, files[CASES].splitlines())}
    if len(lines) != meta["cases"]:
        raise BaselineError(
            f"{path / CASES} holds {len(lines)} cases and meta.json says {meta['cases']}; restore the baseline from version "
            "control, or save it again"
        )
    return Baseline(path, meta, lines, files, like)


def _read_meta(path: Path) -> dict[str, Any]:
    file = path / META
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
        number = meta["format"]
    except OSError:
        raise BaselineError(_why_not(path)) from None
    except (ValueError, KeyError, TypeError):
        raise BaselineError(f"{file} is torn: it is not the JSON of a baseline; restore it from version control") from None
    if number != FORMAT:
        raise BaselineError(
            f"the baseline {path} has format {number} and this version of pytest-perfq reads {FORMAT}; upgrade pytest-perfq, "
            "or save the baseline again"
        )
    found, wanted = meta_checksum(meta), str(meta.get("meta_sha256"))
    if found != wanted:
        raise BaselineError(
            f"{file} was edited: its checksum is {found[:12]}, it says {wanted[:12]}; restore it from version control, or save "
            "the baseline again"
        )
    return dict(meta)


def inside(folder: str | Path) -> list[Path]:
    """The folders right below this one that hold a baseline, whole or torn, in order of their names."""
    found = {file.parent for name in (META, CASES) for file in Path(folder).glob(f"*/{name}")}
    # Names that begin with a dot are baselines in the making.
    return sorted(path for path in found if not path.name.startswith("."))


def _why_not(path: Path) -> str:
    """Why no meta.json can be read in this folder, and what to do."""
    if path.is_file():
        return f"{path} is a file, and a baseline is a folder; name the folder that holds {META}"
    if (path / META).exists():
        return f"{path / META} cannot be read; see to its permissions, or save the baseline again"
    if (path / CASES).exists():
        unchecked = f"the baseline {path} lacks {META}, without which nothing in it can be checked"
        return f"{unchecked}; restore it from version control, or save it again"
    within = [str(one) for one in inside(path)]
    if within:
        baselines = "a baseline" if len(within) == 1 else f"{len(within)} baselines"
        return f"{path} is not a baseline, it is a folder of {baselines}: {_few(within)}; name one of them"
    near = [one.name for one in inside(path.parent)]
    known = f"; beside it there are: {_few(near)}" if near else ""
    if not path.is_dir():
        return f"there is no baseline at {path}{known}; save one with --perf-save {path}"
    # In a folder that holds anything else none is saved.
    step = "under another name, such as --perf-save baselines/NAME" if any(path.iterdir()) else f"with --perf-save {path}"
    return f"the folder {path} holds no {META}, so it is no baseline{known}; save one {step}"


def _few(names: list[str]) -> str:
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else "")


class Baseline:
    """An open baseline. Measurements are rebuilt when asked for."""

    def __init__(
        self,
        folder: Path,
        meta: dict[str, Any],
        lines: dict[str, dict[str, Any]],
        files: dict[str, bytes],
        like: Baseline | None,
    ) -> None:
        """Not called directly: see `load`."""
        self.folder, self.meta = folder, meta
        self._files, self._like = files, like
        self._made: dict[str, Case] = {}
        self._lines = lines
        self._samples: Latency | None = None
        self._contents: Contents | None = None
        starts, start = {}, 0
        for name, line in lines.items():
            starts[name] = start
            start += line["visits"]
        self._starts = starts

    @property
    def created_s(self) -> float:
        """When it was saved, unix time."""
        return datetime.datetime.fromisoformat(self.meta["created"]).timestamp()

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[str]:
        """Case ids, sorted."""
        return iter(self._lines)

    def __contains__(self, case_id: object) -> bool:
        return case_id in self._lines

    def line(self, case_id: str) -> dict[str, Any]:
        """The case as cases.jsonl has it."""
        return self._lines[case_id]

    def limits(self, case_id: str) -> tuple[Limit, ...]:
        """What was promised for the case when it was saved."""
        return tuple(Limit.from_json(one) for one in self._lines[case_id]["limits"])

    def status(self, case_id: str) -> str:
        """The status of the case when it was saved."""
        return str(self._lines[case_id]["status"])

    def get(self, case_id: str) -> Measurement | None:
        """The measurement of a case; None where the baseline has none."""
        line = self._lines.get(case_id)
        if line is None:
            return None
        machine = self.meta["machines"][line["machine"]]
        return Measurement(
            case=self.case(case_id),
            fingerprint=Fingerprint(machine["identity"], machine["stack"], line["volatile"]),
            visits=self._latency.visits(self._starts[case_id], line["visits"]) if line["visits"] else (),
            scores=tuple(Score.from_json(one) for one in line["scores"]),
            outcomes=self._of(line["outcomes"]),
            original_scores=tuple(Score.from_json(one) for one in line["original_scores"]),
            original_outcomes=self._of(line["original_outcomes"]),
            **{name: line[name] for name in PLAIN},
        )

    def case(self, case_id: str) -> Case:
        """The case of this id."""
        if case_id not in self._made:
            line, like = self._lines[case_id], self._like
            if like is not None and case_id in like and like.line(case_id)["case"] == line["case"]:
                self._made[case_id] = like.case(case_id)
            else:
                self._made[case_id] = _case(case_id, line["case"], self.folder)
        return self._made[case_id]

    @property
    def _latency(self) -> Latency:
        if self._samples is None:
            self._samples = Latency(self._files[LATENCY])
        return self._samples

    def _of(self, names: list[str] | None) -> Outcomes | None:
        if names is None:
            return None
        if self._contents is None:
            self._contents = Contents(self._files[OUTCOMES])
        return self._contents.outcomes(names[0], names[1])


@lru_cache(maxsize=1024)
def _quantization(text: str) -> Quantization:
    return Quantization.from_json(json.loads(text))


_spec = lru_cache(maxsize=1024)(Spec.parse)


def _case(case_id: str, values: dict[str, Any], folder: Path) -> Case:
    """The case of a line. What sweeps repeat (tasks, backends, quantizations) is made once."""
    given = {**DEFAULTS, **values}
    quantization = given["quantization"]
    given |= {
        "task": _spec(given["task"]),
        "backend": _spec(given["backend"]),
        "quantization": None if quantization is None else _quantization(json.dumps(quantization)),
        "metrics": tuple(given["metrics"]),
    }
    case = Case(**given)
    if case.id != case_id:
        raise BaselineError(
            f"{folder / CASES}: the case {case_id!r} is called {case.id!r} by this version of pytest-perfq; save the baseline "
            "again"
        )
    return case
