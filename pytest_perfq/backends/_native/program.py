"""A forward pass of the native encoder as a program. Knows not how it was made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pytest_perfq.backends import _profile, _torch
from pytest_perfq.contracts import Arrays, Batch, Model
from pytest_perfq.errors import ProgramError
from pytest_perfq.kernels import encoder

CPU = torch.device("cpu")
QUESTION = ("start_logits", "end_logits")


class NativeProgram:
    """call: from a Feed on `device` to logits [B, S, C] or [B, C] there. shut: gives back what the call holds outside this
    process. tf32: whether a GPU may round fp32 products so."""

    def __init__(
        self,
        call: Callable[[encoder.Feed], torch.Tensor],
        size: int,
        model: Model,
        shut: Callable[[], None] = lambda: None,
        device: torch.device = CPU,
        tf32: bool = False,
    ) -> None:
        self._call, self._shut, self._device, self._tf32 = call, shut, device, tf32
        self._cuda = device.type == "cuda"
        self._outputs, self._typed = model.outputs, "token_type_ids" in model.inputs
        self.bytes = size
        self.facts: dict[str, str | int | float | bool] = {}

    def feed(self, batch: Batch) -> encoder.Feed:
        """Tensors on the device (on a CPU they share the batch's memory), and the number of tokens. The copies are done when it
        returns. Raises ProgramError for a batch over a limit."""
        fed = encoder.feed(batch.arrays, batch.lengths, self._typed)
        if not self._cuda:
            return fed
        moved = moved_to(self._device, fed)
        torch.cuda.synchronize(self._device)
        return moved

    def run(self, feed: encoder.Feed) -> torch.Tensor:
        """One forward pass; on a GPU it returns when the work is queued. Raises ProgramError for a batch that an op refuses, as
        for an id that the model has no word for."""
        try:
            if self._cuda:
                with torch.inference_mode(), _torch.Tf32(self._tf32):
                    return self._call(feed)
            with torch.inference_mode():
                return self._call(feed)
        except (MemoryError, RuntimeError) as error:
            rows, columns = feed.mask.shape
            if (refusal := str(error).partition("\n")[0]).startswith("perfq::"):
                raise ProgramError(
                    f"the native encoder cannot run a batch of {rows} x {columns}: {refusal}; give it what the model takes"
                ) from error
            if not _torch.out_of_memory(error):
                raise
            what, advice = f"running a batch of {rows} x {columns}", "use a smaller batch_size or seq_len"
            raise ProgramError(_torch.memory_sentence(what, self._device, advice)) from error

    def fetch(self, output: torch.Tensor) -> Arrays:
        """Logits by the model's output names, float32; rows of padding are zero. Waits for the device."""
        logits = output.float().cpu().numpy()
        if self._outputs == QUESTION:
            return {name: logits[..., number] for number, name in enumerate(QUESTION)}
        return {self._outputs[0]: logits}

    def profile(self, feed: encoder.Feed, calls: int) -> dict[str, tuple[int, int]]:
        """Operators of this process, kernels on a GPU; see contracts.Profiled: none where other processes compute."""
        return _profile.operators(lambda: self.run(feed), calls, self._cuda)

    def predict(self, batch: Batch) -> Arrays:
        """Logits of one batch: feed, run and fetch."""
        return self.fetch(self.run(self.feed(batch)))

    def synchronize(self) -> None:
        """Waits for the GPU; on a CPU nothing runs on after `run`."""
        if self._cuda:
            torch.cuda.synchronize(self._device)

    def close(self) -> None:
        """Forgets the weights and ends other processes."""
        self._call = _closed
        self._shut()
        self._shut = lambda: None
        if self._cuda:
            torch.cuda.empty_cache()


def moved_to(device: torch.device, feed: encoder.Feed) -> encoder.Feed:
    """The feed on a GPU, by copies from pinned memory that may still run."""
    tensors = (feed.input_ids, feed.mask, feed.token_type_ids)
    ids, mask, types = (None if one is None else one.pin_memory().to(device, non_blocking=True) for one in tensors)
    assert ids is not None and mask is not None
    return encoder.Feed(ids, mask, types, feed.tokens)


def _closed(*_: Any) -> torch.Tensor:
    raise ProgramError("this program was closed; build it again")
