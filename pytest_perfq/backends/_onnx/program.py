"""A session as a program: behind IO binding, and of a CUDA graph where one is asked for.

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

from pytest_perfq.backends._onnx import graphs, placement, profile
from pytest_perfq.backends._onnx.session import CUDA_DEVICE, OUT_OF_MEMORY, Plan, open_session
from pytest_perfq.contracts import Arrays, Batch
from pytest_perfq.errors import ProgramError


@dataclass(slots=True)
class Fed:
    """A batch bound to a session. values: input name -> its OrtValue. shape: rows and columns. replayed: of a batch whose CUDA
    graph is recorded, the session and the binding with the graph's own buffers."""

    binding: Any
    values: Mapping[str, Any]
    shape: tuple[int, int]
    replayed: tuple[Any, Any] | None = None


class OrtProgram:
    """A session behind IO binding: inputs are bound in `feed`, outputs are left where they are until `fetch`.

    `run` returns when the provider is done; onnxruntime synchronizes at the end of a run."""

    own_allocator = True

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
        if plan.graph:
            self.facts["graph"] = True

    def feed(self, batch: Batch) -> Fed:
        """The batch bound to the session as int64 [batch, seq] on its device; copies are done when it returns."""
        values = {}
        for name in self._inputs:
            array = np.ascontiguousarray(batch.arrays[name])
            values[name] = onnxruntime.OrtValue.ortvalue_from_numpy(array, *self._place)
        return Fed(self._bound(self._session, values), values, batch.shape)

    def refill(self, feed: Fed, batch: Batch) -> None:
        """Into the same buffers, which a CUDA graph reads too; see contracts.Refilled."""
        feed.values["input_ids"].update_inplace(np.ascontiguousarray(batch.arrays["input_ids"]))

    def record(self, feed: Fed) -> None:
        """See contracts.Recorded; of a program without graph=true nothing happens."""
        if self._plan.graph:
            assert self._path is not None
            found = graphs.session_of_one_shape(self._path, self._plan, self._session, feed.values)
            outputs = dict(zip(self._outputs, self.run(feed).get_outputs(), strict=True))
            binding = graphs.fixed(found, feed.values, outputs, self._place)
            feed.replayed = found, binding
            self.run(feed)  # records

    def _bound(self, session: Any, values: Mapping[str, Any]) -> Any:
        binding = session.io_binding()
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        for name in self._outputs:
            binding.bind_output(name, *self._place)
        binding.synchronize_inputs()
        return binding

    def run(self, feed: Fed) -> Any:
        session, binding = feed.replayed or (self._session, feed.binding)
        try:
            session.run_with_iobinding(binding)
        except Exception as error:  # onnxruntime's exceptions have no common type of their own
            raise ProgramError(self._failure(error, feed.shape)) from error
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

    def profile(self, feed: Fed, calls: int) -> dict[str, tuple[int, int]]:
        """Nodes by their operator, see contracts.Profiled: of a second session on the same file, which goes with its profile;
        the one that is timed is never slowed by it. Of a CUDA graph they are those of the session without it."""
        if self._path is None:
            raise ProgramError("this session was opened from no file that is still known; it cannot be profiled")
        with tempfile.TemporaryDirectory() as folder:
            session, _ = open_session(self._path, self._plan, Path(folder) / "profile")
            binding = self._bound(session, feed.values)
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
