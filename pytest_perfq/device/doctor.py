"""What `perfq doctor` prints of the machine: its facts, what other packages add, and for every backend, device, precision
and kind of quantization why it cannot be used.

Asks the backends themselves, by name through the registry; knows none of them.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pytest_perfq import registry
from pytest_perfq.core.case import DEVICES, PRECISIONS, Case
from pytest_perfq.core.quantization import APPROACHES, Quantization
from pytest_perfq.core.spec import Spec
from pytest_perfq.device import cpu, gpu
from pytest_perfq.device.identity import fingerprint
from pytest_perfq.errors import UsageError

# What is asked of every backend on every device, by the name it has in a case's id: every precision, and every approach to
# quantization of whatever operators the backend can.
NUMERICS: dict[str, dict[str, Any]] = {precision: {"precision": precision} for precision in PRECISIONS} | {
    f"int8-{approach}": {"quantization": Quantization(approach=approach)} for approach in APPROACHES
}


def doctor_facts() -> dict[str, Any]:
    """machine: fingerprint tiers as JSON; gpu: its names or None; threads; foreign: see `foreign`; backends: name -> device ->
    precision or kind of quantization -> list of reasons, empty where the backend can be used. A backend that cannot even be
    imported gives its import error as reason."""
    threads = cpu.available_threads()
    present = gpu.gpu_present()
    return {
        "machine": fingerprint("cuda" if present else "cpu", threads).to_json(),
        "gpu": {"name": gpu.gpu_name(), "marketing_name": gpu.gpu_marketing_name()} if present else None,
        "threads": threads,
        "foreign": {kind: foreign(kind) for kind in registry.KINDS},
        "backends": {name: _reasons(name) for name in sorted(registry.names("backend"))},
    }


def foreign(kind: str) -> list[dict[str, str | None]]:
    """The backends, tasks or metrics that other packages bring by entry points, each with its package, where it points to,
    and why it cannot be used (None: it can)."""
    points = sorted(entry_points(group=registry.KINDS[kind][2]), key=lambda point: point.name)
    return [
        {
            "name": point.name,
            "package": "unknown" if point.dist is None else f"{point.dist.name} {point.dist.version}",
            "object": point.value,
            "problem": _problem(kind, point),
        }
        for point in points
    ]


def _problem(kind: str, point: EntryPoint) -> str | None:
    try:
        loaded = point.load()
    except Exception as error:  # somebody else's module: whatever it raises is what there is to say
        return f"cannot be loaded: {type(error).__name__}: {error}"
    if registry.load(kind, point.name) is not loaded:
        return f"is hidden by another {kind} of this name: give it a name of its own"
    return None


def _reasons(name: str) -> dict[str, dict[str, list[str]]]:
    try:
        backend = registry.load("backend", name)
    except (ImportError, UsageError) as error:
        return {device: {numeric: [f"cannot be imported: {error}"] for numeric in NUMERICS} for device in DEVICES}
    case = {"task": Spec("question-answering"), "dataset": "synthetic", "model": "synthetic:bert", "model_name": "bert"}
    return {
        device: {
            numeric: backend.refuses(Case(**case, backend=Spec(name), device=device, **fields))  # type: ignore[arg-type]
            for numeric, fields in NUMERICS.items()
        }
        for device in DEVICES
    }
