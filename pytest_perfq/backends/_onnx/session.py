"""An ONNX file as an onnxruntime session on one provider, and the session as a program.

Knows no transformer: names of inputs and outputs are all it is told.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from pytest_perfq.backends._onnx import placement, profile
from pytest_perfq.contracts import Arrays, Batch
from pytest_perfq.errors import BuildError, ProgramError

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
    """How to run a file. provider: onnxruntime's name. precision: of the case. level: of graph optimization."""

    provider: str
    precision: str
    level: int
    threads: int

    def provider_options(self) -> dict[str, str]:
        """What the provider is told. TF32 is on by default in both of NVIDIA's; here only when the case says so."""
        if self.provider == "CUDAExecutionProvider":
            return {"device_id": str(CUDA_DEVICE), "use_tf32": str(int(self.precision == "tf32"))}
        if self.provider == "TensorrtExecutionProvider":
            return {"device_id": str(CUDA_DEVICE), "trt_fp16_enable": str(int(self.precision == "fp16"))}
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
    return f"onnxruntime {onnxruntime.__version__} cannot open the graph on {plan.provider}: {line}; try another opset or level"


class OrtProgram:
    """A session behind IO binding: inputs are bound in `feed`, outputs are left where they are until `fetch`.

    `run` returns when the provider is done; onnxruntime synchronizes at the end of a run."""

    def __init__(
        self, session: Any, plan: Plan, names: tuple[tuple[str, ...], tuple[str, ...]], size: int, path: Path | None = None
    ) -> None:
        """path: of the file that the session was opened from; without it the program cannot be profiled."""
        self._session, self._inputs, self._outputs = session, *names
        self._path, self._plan = path, plan
        self._place = ("cpu", 0) if plan.provider == placement.CPU else ("cuda", CUDA_DEVICE)
        self.bytes = size
        self.facts: dict[str, str | int | float | bool] = {
            "provider": plan.provider,
            "threads": plan.threads,
            "level": plan.level,
        }

    def feed(self, batch: Batch) -> Any:
        """The batch bound to the session as int64 [batch, seq] on its device; copies are done when it returns."""
        values = {}
        for name in self._inputs:
            array = np.ascontiguousarray(batch.arrays[name])
            values[name] = onnxruntime.OrtValue.ortvalue_from_numpy(array, *self._place)
        return self._bound(self._session, values), batch.shape, values

    def _bound(self, session: Any, values: Mapping[str, Any]) -> Any:
        binding = session.io_binding()
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        for name in self._outputs:
            binding.bind_output(name, *self._place)
        binding.synchronize_inputs()
        return binding

    def run(self, feed: Any) -> Any:
        binding, shape, _ = feed
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:  # onnxruntime's exceptions have no common type of their own
            raise ProgramError(self._failure(error, shape)) from error
        return binding

    def _failure(self, error: Exception, shape: tuple[int, int]) -> str:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        batch = f"a batch of {shape[0]} x {shape[1]} on {self.facts['provider']}"
        if any(text in str(error) for text in OUT_OF_MEMORY):
            return f"out of memory while running {batch}: {line}; use a smaller batch_size or seq_len"
        return f"onnxruntime failed while running {batch}: {line}; see whether the eager backend takes the same batch"

    def fetch(self, output: Any) -> Arrays:
        """Output name -> float32 array on the host."""
        values = zip(self._outputs, output.get_outputs(), strict=True)
        return {name: value.numpy().astype(np.float32, copy=False) for name, value in values}

    def profile(self, feed: Any, calls: int) -> dict[str, tuple[int, int]]:
        """Nodes by their operator, see contracts.Profiled: of a second session on the same file, which goes with its profile;
        the one that is timed is never slowed by it."""
        if self._path is None:
            raise ProgramError("this session was opened from no file that is still known; it cannot be profiled")
        _, _, values = feed
        with tempfile.TemporaryDirectory() as folder:
            session, _ = open_session(self._path, self._plan, Path(folder) / "profile")
            binding = self._bound(session, values)
            for _ in range(profile.WARMUPS + calls):
                session.run_with_iobinding(binding)
            return profile.operators(Path(session.end_profiling()), calls)

    def predict(self, batch: Batch) -> Arrays:
        """Logits of one batch: feed, run and fetch."""
        return self.fetch(self.run(self.feed(batch)))

    def synchronize(self) -> None:
        """Nothing to wait for: `run` has waited."""

    def close(self) -> None:
        """Frees the session with its weights and arena."""
        self._session = None
