"""`perfq doctor`: the machine, the native kernels, the places of results and caches, what other packages add, and every refusal
with its reason, each sentence once."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pytest_perfq.cli import kernels
from pytest_perfq.cli.places import described, places
from pytest_perfq.report.explain import size
from pytest_perfq.report.folding import wrap
from pytest_perfq.report.grid import Column, render

TIERS = {
    "identity": "must match for timings to be compared",
    "stack": "compared and named",
    "volatile": "recorded, never compared",
}
# How wide the names of facts stand.
NAMES = 24

Refusals = dict[str, dict[str, dict[str, list[str]]]]


def doctor(how: str, store: str, cache: str | None, data: str | None, width: int) -> tuple[str, int]:
    """Everything as a text or as JSON, and the exit status: what was found is no mistake, a mirror that is none is one."""
    from pytest_perfq import device

    where = places(store, cache, data)
    facts = device.doctor_facts() | {"places": where, "kernels": kernels.facts(Path(where["cache"]["folder"]))}
    status = 3 if data is not None and where["data"]["problem"] is not None else 0
    if how == "json":
        return json.dumps(facts, indent=1, default=str), status
    blocks = {f"{tier} ({TIERS[tier]})": values for tier, values in facts["machine"].items()}
    blocks["a run here uses"] = {"gpu": _gpu(facts["gpu"]), "threads": facts["threads"]}
    blocks["watched beside each visit"] = {part: ", ".join(told) or None for part, told in facts["watched"].items()}
    blocks["places"] = described(facts["places"])
    blocks["native kernels"] = kernels.described(facts["kernels"])
    lines: list[str] = []
    for title, values in blocks.items():
        lines += [title, *(part for name, value in values.items() for part in _fact(name, value, width)), ""]
    lines += ["from other packages, by entry points", *_foreign(facts["foreign"], width), ""]
    return "\n".join([*lines, _table(facts["backends"], width), "", *_reasons(facts["backends"], width)]), status


def _fact(name: str, value: Any, width: int) -> list[str]:
    if value is None:
        value = "none"
    elif name.endswith("_bytes"):
        name, value = name.removesuffix("_bytes"), size(value)
    return wrap(f"  {name:{NAMES}} {value}", width, " " * (NAMES + 5))


def _gpu(gpu: dict[str, Any] | None) -> str | None:
    if gpu is None:
        return None
    return gpu["name"] or gpu["marketing_name"] or "present, of no known name"


def _foreign(kinds: dict[str, list[dict[str, str | None]]], width: int) -> list[str]:
    lines = []
    for kind, found in kinds.items():
        texts = [
            f"{one['name']} ({one['package']}, {one['object']})" + (f" {one['problem']}" if one["problem"] else "")
            for one in found
        ]
        for index, text in enumerate(texts or ["none"]):
            lines += _fact(f"{kind}s" if not index else "", text, width)
    return lines


def _table(backends: Refusals, width: int) -> str:
    columns = (Column("backend", right=False), Column("device", right=False), Column("can", right=False, folds=True))
    rows = [
        [
            name if not index else "",
            place,
            ", ".join(numeric for numeric, reasons in numerics.items() if not reasons) or "nothing",
        ]
        for name, devices in backends.items()
        for index, (place, numerics) in enumerate(devices.items())
    ]
    return render(columns, rows, width)


def _general(reason: str, backend: str, numeric: str) -> str:
    """The sentence without the two names that stand before it, so that backends which say the same say it once."""
    reason = re.sub(rf"^{re.escape(backend)} ", "it ", reason)
    return re.sub(rf" {re.escape(numeric)}(?![\w-])", " that", reason) if numeric.startswith(("int8-", "fp8-")) else reason


def _reasons(backends: Refusals, width: int) -> list[str]:
    """Each reason once, after the backends, devices, and precisions or approaches to quantization that it is about."""
    # reason -> (backend, device) -> what; then what is alike together: (reason, what) -> device -> backends.
    about: dict[str, dict[tuple[str, str], list[str]]] = {}
    for name, devices in backends.items():
        for place, numerics in devices.items():
            for numeric, reasons in numerics.items():
                for reason in reasons:
                    said = about.setdefault(_general(reason, name, numeric), {})
                    said.setdefault((name, place), []).append(numeric)
    lines = []
    for reason, cells in about.items():
        alike: dict[str, dict[str, list[str]]] = {}
        for (name, place), found in cells.items():
            what = "anything" if found == list(backends[name][place]) else ", ".join(found)
            alike.setdefault(what, {}).setdefault(place, []).append(name)
        for what, at in alike.items():
            together: dict[tuple[str, ...], list[str]] = {}
            for place, names in at.items():
                together.setdefault(tuple(names), []).append(place)
            for names_there, places_there in together.items():
                who = f"{', '.join(names_there)} on {' and '.join(places_there)} with {what}"
                lines += wrap(f"{who}: {reason}", width)
    return lines
