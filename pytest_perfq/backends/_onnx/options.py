"""What people write behind `ort[...]`. Imports no framework, so that refusing a case is cheap."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_perfq.core.case import Case
from pytest_perfq.errors import UnknownName, UsageError

LEVELS = (0, 1, 2, 99)
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
DEVICE_OF = {"cpu": "cpu", "cuda": "cuda", "tensorrt": "cuda"}
DEFAULT_OPSET = 17  # attention, layer normalization and GELU fuse, and LayerNormalization is one node even where nothing does


@dataclass(frozen=True, slots=True)
class Options:
    """opset: of the export. level: onnxruntime's graph optimization. optimizer: fuse with its transformers optimizer.
    provider: a key of PROVIDERS."""

    opset: int
    level: int
    optimizer: bool
    provider: str

    @property
    def provider_name(self) -> str:
        """What onnxruntime calls the provider."""
        return PROVIDERS[self.provider]


def read(case: Case) -> Options:
    """The options of `case.backend`. Raises UsageError for unknown ones and for values that cannot be."""
    given = case.backend.only("backend", opset=DEFAULT_OPSET, level=99, optimizer=True, provider="")
    provider = str(given["provider"]) or case.device
    if provider not in PROVIDERS:
        raise UnknownName("provider of backend ort", provider, PROVIDERS)
    if DEVICE_OF[provider] != case.device:
        raise UsageError(f"provider {provider} of backend ort needs device {DEVICE_OF[provider]}; the case has {case.device}")
    if given["level"] not in LEVELS:
        raise UsageError(f"level of backend ort is {given['level']}; onnxruntime has {', '.join(map(str, LEVELS))}")
    return Options(int(given["opset"]), int(given["level"]), bool(given["optimizer"]), provider)
