"""What people write behind `ort[...]`, as it stands for one case. Imports no framework, so that refusing a case is cheap."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_perfq.backends import _declared
from pytest_perfq.backends._declared import PROVIDERS
from pytest_perfq.core.case import Case

DEVICE_OF = {"cpu": "cpu", "cuda": "cuda", "tensorrt": "cuda"}


@dataclass(frozen=True, slots=True)
class Options:
    """opset: of the export. level: onnxruntime's graph optimization. optimizer: fuse with its transformers optimizer.
    provider: a key of PROVIDERS. graph: time a CUDA graph of the session."""

    opset: int
    level: int
    optimizer: bool
    provider: str
    graph: bool = False

    @property
    def provider_name(self) -> str:
        """What onnxruntime calls the provider."""
        return PROVIDERS[self.provider]


def read(case: Case) -> Options:
    """The options of `case.backend`. Raises UsageError for unknown ones and for values that cannot be."""
    given = _declared.options(case.backend)
    provider = str(given["provider"]) or case.device
    return Options(int(given["opset"]), int(given["level"]), bool(given["optimizer"]), provider, bool(given["graph"]))
