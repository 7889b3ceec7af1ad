"""Another configuration to hold cases against: one axis with another value, or the original. Knows no cases but those given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pytest_perfq.core.case import Case
from pytest_perfq.core.quantization import Quantization
from pytest_perfq.core.sweep import read_axis
from pytest_perfq.errors import UnknownName, UsageError

ORIGINAL = "original"
# Axes that leave the work the same: the others would compare two things that should differ.
VARIED = ("backend", "precision", "quantization", "tp", "pp")


def check(text: str) -> None:
    """Raises UsageError and UnknownName for what no case could be varied by. Which quantizations there are the cases alone
    know."""
    axis, equals, value = text.partition("=")
    if text != ORIGINAL and not equals:
        raise UsageError(f"{text!r} names no configuration; give AXIS=VALUE, such as backend=eager, or original")
    if equals:
        UnknownName.check("axis to vary", [axis], VARIED)
        if axis != "quantization":
            _read(axis, value)


def other(case: Case, text: str, quantizations: Mapping[str, Quantization]) -> Case:
    """The case in the other configuration. text: one that `check` lets pass. quantizations: those there are, by id. Raises
    UnknownName for one that is none of them."""
    if text == ORIGINAL:
        return case.original()
    axis, _, value = text.partition("=")
    if axis == "quantization":
        UnknownName.check("quantization among the cases", [value], {*quantizations, "none"})
        return replace(case, quantization=quantizations.get(value))
    return replace(case, **{axis: _read(axis, value)})


def _read(axis: str, value: str) -> Any:
    return read_axis(axis, int(value) if axis in ("tp", "pp") and value.isdigit() else value)
