"""The options of a run: each `--perf-NAME` and its ini twin `perf_NAME`, what they take and how it is read. Knows no values."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pytest

KINDS = ("accuracy", "latency")
L2 = ("warm", "cold")
DEFAULT_TIME = "15s"
DEFAULT_STORE = ".perfq/results.db"
_UNITS_S = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class Option(NamedTuple):
    """One option: `--perf-NAME` and its ini twin `perf_NAME`. read: text -> value, raises ValueError with a sentence."""

    name: str
    default: str | None
    metavar: str
    help: str
    read: Callable[[str], Any]


def seconds(text: str) -> float:
    """'15', '15s', '500ms', '2m' -> seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)?", text.strip())
    if match is None or float(match[1]) == 0:
        raise ValueError("give a duration over zero, such as 500ms, 15s or 2m")
    return float(match[1]) * _UNITS_S[match[2] or "s"]


def duration(seconds: float) -> str:
    """The other way, rounded up: '0.5s', '80s', '3m'."""
    if seconds < 10.0:
        return f"{math.ceil(round(seconds * 10.0, 6)) / 10.0:g}s"
    return f"{math.ceil(seconds)}s" if seconds <= 120.0 else f"{math.ceil(seconds / 60.0)}m"


def fraction(text: str) -> float:
    """'1%' or '0.01' -> 0.01."""
    try:
        value = float(text.strip().removesuffix("%")) / (100.0 if text.strip().endswith("%") else 1.0)
    except ValueError:
        value = -1.0
    if not 0.0 < value < 1.0:
        raise ValueError("give a fraction between 0 and 1, such as 1% or 0.01")
    return value


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not text.strip().isdigit() or int(text) < 1:
        raise ValueError("give a whole number of at least 1")
    return int(text)


def _passes(text: str) -> int:
    if not text.strip().isdigit():
        raise ValueError("give a whole number, 0 for none")
    return int(text)


def truth(text: str) -> bool:
    """What an ini file says of a flag."""
    known = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    if text.strip().lower() not in known:
        raise ValueError("give true or false")
    return known[text.strip().lower()]


def _gpu(text: str) -> str:
    if text == "auto":
        return text  # the default costs an unrelated run no import
    from pytest_perfq.core.budget import GPUS, known_gpu
    from pytest_perfq.errors import UnknownName

    name = text.strip().lower()
    if name != "auto" and not known_gpu(name):
        raise ValueError(str(UnknownName("gpu", text, ("auto", *GPUS))))
    return name


def _l2(text: str) -> str:
    if text not in L2:
        raise ValueError("give warm or cold")
    return text


def _only(text: str) -> str:
    if text not in KINDS:
        raise ValueError("give accuracy or latency")
    return text


OPTIONS = (
    Option(
        "gpu",
        "auto",
        "NAME",
        "the GPU this run asserts: auto, cpu, t4, a100, a100-1g.10gb ... Its budgets are looked up by it.",
        _gpu,
    ),
    Option("against", None, "DIR", "judge against this stored baseline as well", str),
    Option("save", None, "DIR", "save this run's measurements as a baseline folder", str),
    Option("store", DEFAULT_STORE, "URL", "results database: a file or any SQLAlchemy URL (default .perfq/results.db)", str),
    Option("data", None, "DIR", "local mirror of data sets, DIR/<name>/<split>.parquet, instead of the hub", str),
    Option("cache", None, "DIR", "folder of checkpoints and exports, keyed by content (default: the user's cache folder)", str),
    Option(
        "time",
        DEFAULT_TIME,
        "TIME",
        "most time for timing. Where latency is timed before the tests (--perf-passes, --perf-vs) that of the whole run, kept "
        "to a visit or two: half of it is held back for --perf-vs and --perf-confirm, and cases that it does not reach are "
        "inconclusive (default: no limit). Elsewhere that of a case, all sides together (default 15s)",
        seconds,
    ),
    Option(
        "precision", "1%", "FRACTION", "stop timing when the 95%% interval of the median is within this (default 1%%)", fraction
    ),
    Option("visits", "3", "N", "visits a latency case, each with its own warm-up (default 3)", count),
    Option(
        "passes",
        None,
        "N",
        "visit latency cases in N passes over the suite, each in fresh processes; 0 visits them in this "
        "process (default: 3 with --perf-save, --perf-against or --perf-vs, else 0)",
        _passes,
    ),
    Option("confirm", None, "REV", "confirm what --perf-against suspects side by side with this revision", str),
    Option(
        "vs",
        None,
        "AXIS=VALUE",
        "hold every latency case side by side against itself under another backend, precision ..., or its original; cases "
        "refused there are named and left out, and where all are pytest ends with 4 before anything is measured",
        str,
    ),
    Option(
        "l2",
        "warm",
        "warm|cold",
        "a GPU's L2 before every timed call: as the call before left it, or emptied (default warm); the two are never compared",
        _l2,
    ),
    Option("threads", None, "N", "threads of every CPU backend (default: the physical cores this process may use)", count),
    Option("only", None, "KIND", "measure only 'accuracy' or only 'latency' cases", _only),
)
FLAGS = (
    (
        "strict",
        "cases fail that are invalid or unmeasured, whatever this machine lacks or cannot fetch (default: on where the "
        "variable CI is set)",
    ),
    ("resume", "go on with the unfinished run of the store: only what is missing is measured"),
    ("allow-pickle", "let weights load from pickle files too, which can run code; the default is safetensors only"),
    ("benchmarks", "visit and judge the tests of pytest-benchmark as well, beside what it measures itself"),
    ("overwrite", "with --perf-save: put an existing baseline of that name aside and save in its place"),
)


def add_options(parser: pytest.Parser) -> None:
    """Adds every option and its ini twin to pytest's parser."""
    group = parser.getgroup("perfq", "accuracy and latency gates (perfq)")
    for option in OPTIONS:
        name = option.name.replace("-", "_")
        group.addoption(f"--perf-{option.name}", dest=f"perf_{name}", metavar=option.metavar, default=None, help=option.help)
        parser.addini(f"perf_{name}", option.help.replace("%%", "%"), default=None)
    for flag, text in FLAGS:
        name = flag.replace("-", "_")
        group.addoption(f"--perf-{flag}", dest=f"perf_{name}", action=argparse.BooleanOptionalAction, default=None, help=text)
        parser.addini(f"perf_{name}", text, default=None)
