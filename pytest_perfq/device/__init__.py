"""What this machine is and how it feels: the home of machine facts.

fingerprint(device, threads) is what measurements carry; gpu_present, gpu_name and available_threads are asked before
anything is loaded, other_gpu once PyTorch is; keep_memory settles what the allocator does, cores_for, hold and lead where
threads run; reset_peak_memory and peak_memory_bytes frame a case; doctor_facts is what `perfq doctor` prints.
Importing this imports neither torch nor any other framework. Knows no case and judges nothing.
"""

from __future__ import annotations

from pytest_perfq.device.allocator import keep_memory
from pytest_perfq.device.cpu import available_threads, cores_for, hold, lead
from pytest_perfq.device.doctor import doctor_facts
from pytest_perfq.device.gpu import gpu_name, gpu_present, other_gpu
from pytest_perfq.device.identity import fingerprint
from pytest_perfq.device.memory import peak_memory_bytes, reset_peak_memory

__all__ = [
    "available_threads",
    "cores_for",
    "doctor_facts",
    "fingerprint",
    "gpu_name",
    "gpu_present",
    "hold",
    "keep_memory",
    "lead",
    "other_gpu",
    "peak_memory_bytes",
    "reset_peak_memory",
]
