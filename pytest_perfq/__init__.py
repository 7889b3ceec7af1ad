"""pytest-perfq: accuracy and latency gates for quantized and optimized transformer encoders.

The public words for a suite file: Sweep, Budget, Dynamic, Static, Quantization.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_perfq.core.budget import Budget
    from pytest_perfq.core.quantization import Dynamic, Quantization, Static
    from pytest_perfq.core.sweep import Sweep

__version__ = "0.1.0"
__all__ = ["Budget", "Dynamic", "Quantization", "Static", "Sweep", "__version__"]

_HOMES = {
    "Budget": "pytest_perfq.core.budget",
    "Dynamic": "pytest_perfq.core.quantization",
    "Quantization": "pytest_perfq.core.quantization",
    "Static": "pytest_perfq.core.quantization",
    "Sweep": "pytest_perfq.core.sweep",
}


def __getattr__(name: str) -> Any:
    # Lazy, so that an ordinary pytest run beside the plugin pays for none of this.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
