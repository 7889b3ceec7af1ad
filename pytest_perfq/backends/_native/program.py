"""A forward pass of the native encoder as a program. Knows neither how it was made nor where it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pytest_perfq.backends import _profile, _torch
from pytest_perfq.contracts import Arrays, Batch, Model
from pytest_perfq.errors import ProgramError
from pytest_perfq.kernels import encoder

QUESTION = ("start_logits", "end_logits")


class NativeProgram:
    """call: from a Feed to logits [B, S, C] or [B, C]. shut: gives back what the call holds outside this process."""

    def __init__(
        self, call: Callable[[encoder.Feed], torch.Tensor], size: int, model: Model, shut: Callable[[], None] = lambda: None
    ) -> None:
        self._call, self._shut = call, shut
        self._outputs, self._typed = model.outputs, "token_type_ids" in model.inputs
        self.bytes = size
        self.facts: dict[str, str | int | float | bool] = {}

    def feed(self, batch: Batch) -> encoder.Feed:
        """Tensors that share the batch's memory, and its number of tokens. Raises ProgramError for a batch over a limit."""
        return encoder.feed(batch.arrays, batch.lengths, self._typed)

    def run(self, feed: encoder.Feed) -> torch.Tensor:
        """One forward pass."""
        try:
            with torch.inference_mode():
                return self._call(feed)
        except (MemoryError, RuntimeError) as error:
            if not _torch.out_of_memory(error):
                raise
            rows, columns = feed.mask.shape
            what, advice = f"running a batch of {rows} x {columns}", "use a smaller batch_size or seq_len"
            raise ProgramError(_torch.memory_sentence(what, torch.device("cpu"), advice)) from error

    def fetch(self, output: torch.Tensor) -> Arrays:
        """Logits by the model's output names, float32; rows of padding are zero."""
        logits = output.numpy()
        if self._outputs == QUESTION:
            return {name: logits[..., number] for number, name in enumerate(QUESTION)}
        return {self._outputs[0]: logits}

    def profile(self, feed: encoder.Feed, calls: int) -> dict[str, tuple[int, int]]:
        """Operators of this process, see contracts.Profiled: none where other processes compute."""
        return _profile.operators(lambda: self.run(feed), calls, cuda=False)

    def predict(self, batch: Batch) -> Arrays:
        """Logits of one batch: feed, run and fetch."""
        return self.fetch(self.run(self.feed(batch)))

    def synchronize(self) -> None:
        """Nothing runs on after `run`."""

    def close(self) -> None:
        """Forgets the weights and ends other processes."""
        self._call = _closed
        self._shut()
        self._shut = lambda: None


def _closed(*_: Any) -> torch.Tensor:
    raise ProgramError("this program was closed; build it again")
