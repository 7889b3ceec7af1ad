"""What `perfq doctor` prints of the machine: its facts, what can be watched beside a visit, what other packages add, and for
every backend, device, precision and kind of quantization why it cannot be used.

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
from pytest_perfq.device.nvml import NAMESPACE
from pytest_perfq.device.sampler import Sampler, sampler
from pytest_perfq.errors import UsageError

# What is asked of every backend on every device, by the name it has in a case's id: every precision, and every approach to
# quantization of whatever operators the backend can.
NUMERICS: dict[str, dict[str, Any]] = {precision: {"precision": precision} for precision in PRECISIONS} | {
    (wanted := Quantization(approach=approach, type=kind)).id: {"quantization": wanted} | given
    for kind, approaches, given in (("int8", APPROACHES, {}), ("fp8", APPROACHES[:1], {"precision": "bf16"}))
    for approach in approaches
}
# Fields of core.conditions, as a person calls them.
CPU_FACTS = {
    "others_cpus": "time of other processes",
    "steal": "steal",
    "throttled": "cgroup quota",
    "pressure": "pressure",
    "load_1min": "load",
    "mean_mhz": "clocks",
    "max_temperature_c": "temperature",
}
GPU_FACTS = {"power_cap_w": "power cap", "max_power_w": "power", "max_temperature_c": "temperature"}


def doctor_facts() -> dict[str, Any]:
    """machine: fingerprint tiers as JSON; gpu: its names or None; threads; watched, foreign: see those functions; backends:
    name -> device -> precision or kind of quantization -> list of reasons, empty where the backend can be used. A backend that
    cannot even be imported gives its import error as reason."""
    threads = cpu.available_threads()
    present = gpu.gpu_present()
    return {
        "machine": fingerprint("cuda" if present else "cpu", threads).to_json(),
        "gpu": {"name": gpu.gpu_name(), "marketing_name": gpu.gpu_marketing_name()} if present else None,
        "threads": threads,
        "watched": watched("cuda" if present else "cpu", sampler()),
        "foreign": {kind: foreign(kind) for kind in registry.KINDS},
        "backends": {name: _reasons(name) for name in sorted(registry.names("backend"))},
    }


def watched(on: str, watcher: Sampler) -> dict[str, list[str]]:
    """What can be known of the machine while a visit on 'cpu' or 'cuda' goes on: cpu and gpu, the facts by name; untold, the
    names of those that this system does not tell; missing, sentences."""
    watcher.begin(device=on, threads=1)
    seen = watcher.end()
    watcher.close()
    parts = {"cpu": (seen.cpu, CPU_FACTS)} | ({} if on == "cpu" else {"gpu": (seen.gpu, GPU_FACTS)})
    found: dict[str, list[str]] = {part: [] for part in (*parts, "untold")}
    for part, (facts, names) in parts.items():
        told = {field for field in names if facts is not None and getattr(facts, field) is not None}
        found[part] = [name for field, name in names.items() if field in told]
        found["untold"] += [f"{part}: {name}" for field, name in names.items() if field not in told]
    if seen.cpu is not None and seen.cpu.mhz_source == "cpuinfo":
        found["untold"].append("cpu: clocks as they are, for cycles (there is no cpufreq)")
    # Nothing of ours is on the GPU now, and nobody need be told so.
    found["missing"] = [one for one in seen.missing if one != NAMESPACE] + ([seen.unknown] if seen.unknown else [])
    return found


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
