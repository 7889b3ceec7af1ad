"""Command line and ini file -> one frozen Settings. The command line beats the ini file; the ini file beats the default.

Knows nothing of what the options do. Imports nothing heavy: it is loaded with pytest.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_perfq.arguments import DEFAULT_TIME, FLAGS, OPTIONS, seconds, truth
from pytest_perfq.errors import UsageError

if TYPE_CHECKING:
    import pytest

# What workers of xdist are told of where a relative store is.
BASE = "perfq_base"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How this run measures, judges and remembers. time: seconds a case; run_time: seconds of all that is timed before the
    items, in passes or side by side, None without a bound; precision: half width of the 95 % interval of the median, relative;
    store: SQLAlchemy URL or file; threads: None for the physical cores."""

    gpu: str
    against: str | None
    save: str | None
    store: str
    data: Path | None
    cache: Path
    time: float
    run_time: float | None = None
    precision: float
    visits: int
    l2: str = "warm"
    passes: int = 0
    confirm: str | None = None
    vs: str | None = None
    threads: int | None
    only: str | None
    strict: bool
    resume: bool
    allow_pickle: bool
    overwrite: bool
    benchmarks: bool = False

    def measuring(self) -> dict[str, Any]:
        """What must be equal for two runs to be one resumed run."""
        names = ("gpu", "time", "precision", "visits", "l2", "passes", "threads", "allow_pickle")
        return {name: getattr(self, name) for name in names} | {"data": None if self.data is None else str(self.data)}


def _given(config: pytest.Config, name: str) -> Any:
    value = config.getoption(f"perf_{name}", None)
    if value is None:
        value = config.getini(f"perf_{name}")
    return None if value in (None, "", []) else value


def default_cache() -> Path:
    """`$PERFQ_CACHE`, else `perfq` in the user's cache folder."""
    given = os.environ.get("PERFQ_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "perfq"


def base(config: pytest.Config) -> Path:
    """The folder that a relative store is below: that of the ini file, so that a project has one store wherever in it pytest is
    started; without an ini file the one where it was started. pytest's rootdir then is no project: it takes the value of
    `--perf-data DIR` for a path of tests, and goes up to what the two share."""
    told: str | None = getattr(config, "workerinput", {}).get(BASE)
    if told is not None:
        return Path(told)
    return config.rootpath if config.inipath is not None else Path(config.invocation_params.dir)


def read(config: pytest.Config) -> Settings:
    """The settings of this run. Raises UsageError naming the option, its value and what it takes."""
    values: dict[str, Any] = {}
    for option in OPTIONS:
        given = _given(config, option.name)
        text = option.default if given is None else str(given)
        try:
            values[option.name] = None if text is None else option.read(text)
        except ValueError as error:
            raise UsageError(f"--perf-{option.name} is {text!r}: {error}") from None
    for flag, _ in FLAGS:
        name = flag.replace("-", "_")
        given = _given(config, name)
        try:
            values[name] = given if isinstance(given, bool) else truth(str(given)) if given is not None else False
        except ValueError as error:
            raise UsageError(f"perf_{name} is {given!r}: {error}") from None
        if name == "strict" and given is None:
            values[name] = os.environ.get("CI", "").lower() not in ("", "0", "false")
    if values["data"] is not None and not Path(values["data"]).is_dir():
        raise UsageError(
            f"--perf-data is {values['data']!r}, which is not a folder; give one that holds <name>/<split>.parquet"
        )
    values["data"] = None if values["data"] is None else Path(values["data"]).resolve()
    values["cache"] = Path(values["cache"]) if values["cache"] else default_cache()
    _ahead(values, _given(config, "time"))
    if "://" not in values["store"]:
        values["store"] = str((base(config) / values["store"]).resolve())
    return Settings(**values)


def _ahead(values: dict[str, Any], time: Any) -> None:
    """What is measured before the items, and whose time --perf-time is then. time: as given, None where it was not. Raises
    UsageError for options that contradict each other, and for a configuration that is none."""
    vs, confirm = values["vs"], values["confirm"]
    if vs is not None:
        from pytest_perfq.core.configuration import check

        check(vs)
    if values["passes"] is None:
        values["passes"] = 3 if values["save"] or values["against"] or vs else 0
    values["run_time"] = None
    if values["passes"] and time is not None:
        values["run_time"], values["time"] = values["time"], seconds(DEFAULT_TIME)
    elif vs is not None and time is not None:
        raise UsageError(
            f"--perf-time is {time!r}, which with --perf-vs is that of the whole run, and --perf-passes is 0, by which every "
            "test times its case once more and nobody keeps to it; leave one of the two out"
        )
    if confirm is not None and values["against"] is None:
        raise UsageError(
            f"--perf-confirm is {confirm!r}, but nothing nominates suspects; give --perf-against DIR as well, or "
            "compare two revisions with `perfq ab`"
        )
    if confirm is not None and not values["passes"]:
        raise UsageError(
            f"--perf-confirm is {confirm!r}, and --perf-passes=0 measures nothing that could be suspected; leave that out"
        )
