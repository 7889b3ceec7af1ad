"""A PyTorch callable as a program: eager, traced or compiled, on the CPU or on the current CUDA device.

CUDA_VISIBLE_DEVICES says which device is the current one. Knows nothing of how the callable was made.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from pytest_perfq.backends import _profile, _refusals
from pytest_perfq.contracts import Arrays, Batch, Lack, Model, Resources
from pytest_perfq.core.case import Case
from pytest_perfq.errors import BuildError, ProgramError

GIB = 1024**3
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# Lowest compute capability of a precision: half precision arithmetic came with 5.3, TF32 and BF16 tensor cores with Ampere.
CAPABILITY = {"fp32": (0, 0), "fp16": (5, 3), "tf32": (8, 0), "bf16": (8, 0)}


def refusals(case: Case) -> list[str]:
    """What no PyTorch program here does, whatever made it: quantization, several devices, missing devices and precisions."""
    reasons = _refusals.one_device(case) + _refusals.floating_point_only(case)
    return reasons + (cuda_refusals(case.precision) if case.device == "cuda" else _refusals.cpu_precision(case))


def cuda_refusals(precision: str) -> list[str]:
    """Why the current CUDA device cannot be used with `precision`."""
    if torch.version.cuda is None:
        build = f"device cuda needs a CUDA build of PyTorch; {torch.__version__} is not one: install one or use device cpu"
        return [Lack(build)]
    if not torch.cuda.is_available():
        found = f"PyTorch {torch.__version__} finds no CUDA device: check nvidia-smi and CUDA_VISIBLE_DEVICES or use device cpu"
        return [Lack(found)]
    has, needs = torch.cuda.get_device_capability(), CAPABILITY[precision]
    if has < needs:
        there = f"{torch.cuda.get_device_name()} has {has[0]}.{has[1]}"
        return [Lack(f"{precision} needs compute capability {needs[0]}.{needs[1]}; {there}: use precision fp32")]
    return []


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of PyTorch or Python says that memory ran out."""
    text = str(error)
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and ("DefaultCPUAllocator" in text or "CUDA out of memory" in text)
    )


def memory_sentence(what: str, device: torch.device, advice: str) -> str:
    """One sentence for a person: what ran out, how much there is and what to do."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
    else:
        import psutil

        memory = psutil.virtual_memory()
        free, total = memory.available, memory.total
    return f"out of memory on {device} while {what}: {free / GIB:.1f} of {total / GIB:.1f} GiB are free; {advice}"


def place(model: Model, case: Case, resources: Resources) -> tuple[Any, torch.device]:
    """The module on the case's device in its precision, and the device. The loaded module itself where nothing changes;
    otherwise a copy, since other programs share it. Sets the number of threads of the process."""
    torch.set_num_threads(resources.threads)
    device = torch.device("cuda", torch.cuda.current_device()) if case.device == "cuda" else torch.device("cpu")
    dtype = DTYPES[case.precision]
    if device.type == "cpu" and dtype == torch.float32:
        return model.module, device
    try:
        return copy.deepcopy(model.module).to(device=device, dtype=dtype).eval(), device
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        what = f"copying {model.source} ({model.bytes / GIB:.2f} GiB in fp32)"
        raise BuildError(memory_sentence(what, device, "use a smaller model")) from error


class Head(torch.nn.Module):  # type: ignore[misc]
    """A module with positional inputs in the model's order and its logits as a tuple: what tracing and exporting want."""

    def __init__(self, module: Any, model: Model) -> None:
        super().__init__()
        self.module, self.inputs, self.outputs = module, model.inputs, model.outputs

    def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        output = self.module(**dict(zip(self.inputs, values, strict=True)))
        return tuple(getattr(output, name) for name in self.outputs)


class Tf32:
    """Sets whether CUDA rounds fp32 products to TF32, for the calls inside; other programs of the process choose anew."""

    __slots__ = ("before", "wanted")

    def __init__(self, wanted: bool) -> None:
        self.wanted, self.before = wanted, (False, False)

    def __enter__(self) -> None:
        self.before = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.wanted

    def __exit__(self, *_: object) -> None:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = self.before


class TorchProgram:
    """Feeds tensors of the input names to `call` and reads logits from what it returns: a transformers output object, or a
    tuple in the order of the model's outputs."""

    def __init__(self, call: Callable[..., Any], module: Any, device: torch.device, model: Model, case: Case) -> None:
        self._call, self._device, self._inputs, self._outputs = call, device, model.inputs, model.outputs
        self._cuda = device.type == "cuda"
        self._tf32 = case.precision == "tf32"
        self.bytes = sum(weight.numel() * weight.element_size() for weight in module.parameters())
        self.facts: dict[str, str | int | float | bool] = {"threads": torch.get_num_threads(), "torch_device": str(device)}
        if self._cuda:
            self.facts["torch_device_name"] = torch.cuda.get_device_name(device)

    def feed(self, batch: Batch) -> dict[str, torch.Tensor]:
        """int64 tensors [batch, seq] on the device; the copies are done when it returns."""
        tensors = {name: torch.from_numpy(np.ascontiguousarray(batch.arrays[name])) for name in self._inputs}
        if not self._cuda:
            return tensors
        moved = {name: tensor.pin_memory().to(self._device, non_blocking=True) for name, tensor in tensors.items()}
        torch.cuda.synchronize(self._device)
        return moved

    def refill(self, feed: dict[str, torch.Tensor], batch: Batch) -> None:
        """Into the same tensors; see contracts.Refilled."""
        feed["input_ids"].copy_(torch.from_numpy(batch.arrays["input_ids"]))
        self.synchronize()

    def run(self, feed: dict[str, torch.Tensor]) -> Any:
        """One forward pass; on cuda it returns when the work is queued."""
        try:
            if self._cuda:
                with torch.inference_mode(), Tf32(self._tf32):
                    return self._call(**feed)
            with torch.inference_mode():
                return self._call(**feed)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            rows, columns = next(iter(feed.values())).shape
            what, advice = f"running a batch of {rows} x {columns}", "use a smaller batch_size or seq_len"
            raise ProgramError(memory_sentence(what, self._device, advice)) from error

    def fetch(self, output: Any) -> Arrays:
        """Output name -> float32 array on the host; waits for the device."""
        if isinstance(output, tuple):
            values = dict(zip(self._outputs, output, strict=True))
        else:
            values = {name: getattr(output, name) for name in self._outputs}
        return {name: value.detach().float().cpu().numpy() for name, value in values.items()}

    def profile(self, feed: dict[str, torch.Tensor], calls: int) -> dict[str, tuple[int, int]]:
        """Operators on the CPU, kernels on cuda; see contracts.Profiled."""
        return _profile.operators(lambda: self.run(feed), calls, self._cuda)

    def predict(self, batch: Batch) -> Arrays:
        """Logits of one batch: feed, run and fetch."""
        return self.fetch(self.run(self.feed(batch)))

    def synchronize(self) -> None:
        """Waits for the device; there is nothing to wait for on a CPU."""
        if self._cuda:
            torch.cuda.synchronize(self._device)

    def close(self) -> None:
        """Forgets the module; its memory goes with the last other owner."""
        self._call = _closed
        if self._cuda:
            torch.cuda.empty_cache()


def _closed(**_: object) -> None:
    raise ProgramError("this program was closed; build it again")
