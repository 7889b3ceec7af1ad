"""The walk from a model to a program: export, fuse, halve, quantize, open. Every file on the way is cached by content, and
every floating point file is checked against eager before anything is made of it.

Knows no rule about what may be asked for: ort.py has refused what cannot be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from pytest_perfq.backends import _check
from pytest_perfq.backends._onnx import cache, export, optimize, placement, quantize, session
from pytest_perfq.backends._onnx.options import Options
from pytest_perfq.backends._onnx.program import OrtProgram
from pytest_perfq.contracts import Batch, Model, Resources
from pytest_perfq.core.case import Case
from pytest_perfq.core.quantization import Quantization
from pytest_perfq.errors import BuildError
from pytest_perfq.kernels.isas import cpu_flags

FILE = "model.onnx"
# Any of these sums products of bytes without saturating.
DOT_PRODUCT_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})
Calibration = Callable[[], Iterator[Batch]]


@dataclass(frozen=True, slots=True)
class Walk:
    """One walk: what is asked for, of which model, with what at hand."""

    case: Case
    options: Options
    model: Model
    resources: Resources
    calibration: Calibration

    @property
    def plan(self) -> session.Plan:
        options = self.options
        threads = self.resources.threads
        engines = self.resources.cache / "tensorrt" if options.provider == "tensorrt" else None
        return session.Plan(options.provider_name, self.case.precision, options.level, threads, options.graph, engines=engines)


def build(walk: Walk) -> OrtProgram:
    """The program of the case. Raises BuildError."""
    try:
        entries = _files(walk)
    except MemoryError as error:
        size = walk.model.bytes / 1024**3
        raise BuildError(
            f"out of memory while making ONNX files of {walk.model.source} ({size:.2f} GiB): use a smaller model"
        ) from error
    program = _program(walk, entries[-1].folder / FILE, walk.plan)
    for entry in entries:
        program.facts |= entry.facts
    program.facts |= {
        "opset": walk.options.opset,
        "optimizer": walk.options.optimizer,
        "cache_hit": all(entry.hit for entry in entries),
        "max_abs_difference": _held_against_eager(walk, program),
    }
    if walk.case.quantization is not None:
        program.facts["int8_dot_product"] = bool(cpu_flags() & DOT_PRODUCT_FLAGS)
    return program


def _held_against_eager(walk: Walk, program: OrtProgram) -> float:
    """Largest difference of the program as it will run, after onnxruntime's own optimizations; judged unless it is INT8."""
    if walk.case.quantization is not None:
        return _check.distance(walk.model, program.predict, f"{walk.model.source} for {walk.case.backend}")
    advice = "try a lower level, ort[optimizer=false] or another opset"
    return _check.faithful(walk.model, program.predict, walk.case.precision, "the onnxruntime session", advice)


def _files(walk: Walk) -> list[cache.Entry]:
    """The cache entries of the case, the last one being the file to run."""
    steps = [_entry(walk, "export", {"model": walk.model.key, "opset": walk.options.opset}, partial(_export, walk))]
    if walk.options.optimizer or walk.case.precision == "fp16":
        key = {
            "of": steps[-1].digest,
            "device": walk.case.device,
            "precision": walk.case.precision,
            "fuse": walk.options.optimizer,
        }
        steps.append(_entry(walk, "optimize", key, partial(_optimize, walk, steps[-1].folder / FILE)))
    if walk.case.quantization is not None:
        steps.append(_quantized(walk, walk.case.quantization, steps[-1]))
    return steps


def _quantized(walk: Walk, wanted: Quantization, source: cache.Entry) -> cache.Entry:
    """The INT8 file of the last floating point one, keyed by the content of the calibration batches too."""
    static = wanted.approach == "static"
    batches = quantize.collect(walk.calibration, wanted.calibration_samples) if static else []
    key: dict[str, Any] = {"of": source.digest, "quantization": wanted.to_json()}
    if static:
        key["data"] = quantize.data_key(batches)

    def make(folder: Path) -> cache.Facts:
        name = f"{walk.model.source} for {walk.case.backend}"
        symbolic = walk.options.opset <= export.TRACED_OPSET  # the dynamo exporter writes all shapes itself
        facts = quantize.quantize(source.folder / FILE, folder / FILE, wanted, batches, name, symbolic=symbolic)
        session.open_session(folder / FILE, replace(walk.plan, level=0))  # one that cannot be opened is not kept
        return facts

    return _entry(walk, "quantize", key, make)


def _entry(walk: Walk, step: str, key: dict[str, Any], make: Callable[[Path], cache.Facts]) -> cache.Entry:
    def build(folder: Path) -> cache.Facts:
        walk.resources.progress(f"{step} of {walk.model.source} for {walk.case.backend} ({walk.case.numeric})")
        return make(folder)

    return cache.entry(walk.resources.cache / "onnx", {"step": step, **key, **versions()}, build, walk.resources.progress)


def versions() -> dict[str, str]:
    """Versions that change what is made, by package."""
    found = {}
    for name in ("torch", "transformers", "onnx", "onnxruntime", "onnxruntime-gpu", "onnxscript"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _program(walk: Walk, path: Path, plan: session.Plan) -> OrtProgram:
    opened, facts = session.open_session(path, plan)
    size = sum(file.stat().st_size for file in path.parent.iterdir() if file.name != "meta.json")
    program = OrtProgram(opened, plan, (walk.model.inputs, walk.model.outputs), size, path)
    program.facts |= facts
    return program


def _export(walk: Walk, folder: Path) -> cache.Facts:
    path = folder / FILE
    export.export(walk.model, walk.options.opset, path)
    # As exported, on the CPU and without any optimization: this holds the exporter alone against eager.
    plan = session.Plan(placement.CPU, "fp32", 0, walk.resources.threads)
    advice = "try another opset"
    return {"export_max_abs_difference": _difference(walk, path, plan, f"the export at opset {walk.options.opset}", advice)}


def _optimize(walk: Walk, source: Path, folder: Path) -> cache.Facts:
    path, facts = folder / FILE, cache.Facts()
    if walk.options.optimizer:
        facts |= optimize.fuse(source, path, walk.model, walk.case.device)
    if walk.case.precision == "fp16":
        optimize.halve(path if walk.options.optimizer else source, path)
    name, advice = f"the optimized graph at opset {walk.options.opset}", "try ort[optimizer=false]"
    plan = replace(walk.plan, level=0)  # the file alone; what the session makes of it is checked in the program
    return {**facts, "optimized_max_abs_difference": _difference(walk, path, plan, name, advice)}


def _difference(walk: Walk, path: Path, plan: session.Plan, name: str, advice: str) -> float:
    """Largest difference of a file's logits from eager's; raises BuildError when it is another model."""
    program = _program(walk, path, plan)
    try:
        return _check.faithful(walk.model, program.predict, plan.precision, name, advice)
    finally:
        program.close()
