"""An ONNX file as an onnxruntime session on one provider. Knows no transformer, and nothing of how a session is run."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime

from pytest_perfq.backends._onnx import placement
from pytest_perfq.errors import BuildError

LEVELS = {
    0: onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    1: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    2: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    99: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
# onnxruntime logs what facts and BuildErrors say; only its fatal messages are worth a line on a terminal.
FATAL = 4
CUDA_DEVICE = 0  # of the visible ones
NO_FALLBACK = "fallback to CPU EP has been explicitly disabled"
OUT_OF_MEMORY = ("Failed to allocate memory", "BFCArena", "out of memory", "bad_alloc")


@dataclass(frozen=True, slots=True)
class Plan:
    """How to run a file. provider: onnxruntime's name. precision: of the case. level: of graph optimization. graph: what is run
    many times is a CUDA graph. sizes: of the free dimensions of a session for one shape only, (name, size); that one alone
    records a graph, of its first run. engines: where TensorRT keeps what it builds of such a session; an engine of free
    dimensions follows from the shapes that it has met, in their order, and is never kept."""

    provider: str
    precision: str
    level: int
    threads: int
    graph: bool = False
    sizes: tuple[tuple[str, int], ...] = ()
    engines: Path | None = None

    def provider_options(self) -> dict[str, str]:
        """What the provider is told. TF32 is on by default in both of NVIDIA's; here only when the case says so."""
        recorded = self.graph and bool(self.sizes)
        if self.provider == "CUDAExecutionProvider":
            told = {"device_id": str(CUDA_DEVICE), "use_tf32": str(int(self.precision == "tf32"))}
            return told | ({"enable_cuda_graph": "1"} if recorded else {})
        if self.provider == "TensorrtExecutionProvider":
            told = {"device_id": str(CUDA_DEVICE), "trt_fp16_enable": str(int(self.precision == "fp16"))}
            if self.engines is not None and self.sizes:
                told |= {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(self.engines)}
            return told | ({"trt_cuda_graph_enable": "1"} if recorded else {})
        return {}


def open_session(path: Path, plan: Plan, profile: Path | None = None) -> tuple[Any, dict[str, str | int | float | bool]]:
    """The session and facts of its placement. Raises BuildError where the provider is not the one asked for. profile: what
    the file of its profile begins with; None for a session that is not profiled."""
    strict = plan.provider != placement.CPU
    try:
        session, facts = _open(path, plan, strict, profile)
    except BuildError:
        raise
    except Exception as error:  # onnxruntime's exceptions have no common type of their own
        if NO_FALLBACK not in str(error):
            raise BuildError(_sentence(path, plan, error)) from error
        # It names no node. A second session that may use the CPU tells which ones and what they compute.
        strict = False
        session, facts = _open(path, plan, strict, profile)
    return session, {**facts, "cpu_fallback_disabled": strict} if plan.provider != placement.CPU else facts


def _open(path: Path, plan: Plan, strict: bool, profile: Path | None) -> tuple[Any, dict[str, str | int | float | bool]]:
    options = onnxruntime.SessionOptions()
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    options.intra_op_num_threads, options.inter_op_num_threads = plan.threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = LEVELS[plan.level]
    options.log_severity_level = FATAL
    for name, size in plan.sizes:
        options.add_free_dimension_override_by_name(name, size)
    # Its threads go on spinning after a run and would slow whatever is timed next, the original first of all: measured here
    # at up to twice the original's time, and so twice the speed-up. Within a run they spin as ever.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if strict:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    # Only a session that may use the CPU has to show its graph. TensorRT's holds compiled nodes, which cannot be written: the
    # file it was made from must do, and nodes that are not in it count as work.
    shown = plan.provider == "CUDAExecutionProvider" and not strict
    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        if shown:
            options.optimized_model_filepath = str(optimized)
        providers = [(plan.provider, plan.provider_options())]
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        # What onnxruntime would do after a failed run: open a CPU session and say so in one printed line.
        session.disable_fallback()
        _right_provider(session, plan.provider)
        return session, placement.verify(session, plan.provider, optimized if shown else path)


def _right_provider(session: Any, provider: str) -> None:
    if session.get_providers()[0] != provider:
        raise BuildError(
            f"{provider} was asked for and onnxruntime opened {', '.join(session.get_providers())}; "
            "check its libraries with `perfq doctor` or use device cpu"
        )


def _sentence(path: Path, plan: Plan, error: Exception) -> str:
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    if any(text in str(error) for text in OUT_OF_MEMORY) or isinstance(error, MemoryError):
        size = path.stat().st_size / 1024**3
        return f"out of memory while opening a model of {size:.2f} GiB on {plan.provider}: {line}; use a smaller model"
    step = "try another opset or level" + (", or leave graph=true out" if plan.graph else "")
    return f"onnxruntime {onnxruntime.__version__} cannot open the graph on {plan.provider}: {line}; {step}"
