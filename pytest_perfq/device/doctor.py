"""What `perfq doctor` prints: the machine, and for every backend, device and precision why it cannot be used.

Asks the backends themselves, by name through the registry; knows none of them.
"""

from __future__ import annotations

from typing import Any

from pytest_perfq import registry
from pytest_perfq.core.case import DEVICES, PRECISIONS, Case
from pytest_perfq.core.spec import Spec
from pytest_perfq.device import cpu, gpu
from pytest_perfq.device.identity import fingerprint


def doctor_facts() -> dict[str, Any]:
    """machine: fingerprint tiers as JSON; gpu: its names or None; threads; backends: name -> device -> precision -> list of
    reasons, empty where the backend can be used. A backend that cannot even be imported gives its import error as reason."""
    threads = cpu.available_threads()
    present = gpu.gpu_present()
    return {
        "machine": fingerprint("cuda" if present else "cpu", threads).to_json(),
        "gpu": {"name": gpu.gpu_name(), "marketing_name": gpu.gpu_marketing_name()} if present else None,
        "threads": threads,
        "backends": {name: _reasons(name) for name in sorted(registry.names("backend"))},
    }


def _reasons(name: str) -> dict[str, dict[str, list[str]]]:
    try:
        backend = registry.load("backend", name)
    except ImportError as error:
        return {device: {precision: [f"cannot be imported: {error}"] for precision in PRECISIONS} for device in DEVICES}
    case = {"task": Spec("question-answering"), "dataset": "synthetic", "model": "synthetic:bert", "model_name": "bert"}
    return {
        device: {
            precision: backend.refuses(Case(**case, backend=Spec(name), device=device, precision=precision))  # type: ignore[arg-type]
            for precision in PRECISIONS
        }
        for device in DEVICES
    }
