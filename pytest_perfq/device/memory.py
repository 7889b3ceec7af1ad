"""Peak memory of a stretch of work: reset before, read after.

On the CPU the peak of the whole process's resident memory; on cuda what PyTorch's allocator held: of a program that allocates
by itself it says nothing, and must not be asked. Knows no program.
"""

from __future__ import annotations

from pathlib import Path

# Writing 5 to it sets VmHWM back to the present resident size (Linux 4.0, proc(5)).
CLEAR_REFS = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")


def reset_peak_memory(device: str) -> bool:
    """Starts a new stretch on 'cpu' or 'cuda'; False where the system cannot (then nothing can be read either)."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return True
    try:
        CLEAR_REFS.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def peak_memory_bytes(device: str) -> int | None:
    """The peak since the last reset, or None where the system does not tell."""
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    try:
        lines = STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)
