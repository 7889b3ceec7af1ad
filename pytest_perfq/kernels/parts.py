"""A part of a model, and what is read of it: modules and tensors by name, or the one sentence that says what is not there.

Knows how torch keeps modules, and no architecture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pytest_perfq.errors import BuildError

ADVICE = "the native encoder reads what transformers makes: use backend eager or ort"


@dataclass(frozen=True, slots=True)
class Part:
    """module: a torch.nn.Module. source: of the model, as sentences call it. path: where the module is in it."""

    module: Any
    source: str
    path: str = ""

    def part(self, name: str) -> Part:
        """The module of this name, `a.b` being b of a. Raises BuildError."""
        path = f"{self.path}.{name}".lstrip(".")
        try:
            return Part(self.module.get_submodule(name), self.source, path)
        except AttributeError as error:
            raise BuildError(f"{self.source} has no module {path}; {ADVICE}") from error

    def parts(self, name: str) -> list[Part]:
        """The modules of a list of modules, in its order. Raises BuildError."""
        return [self.part(f"{name}.{number}") for number in range(len(self.part(name).module))]

    def has(self, name: str) -> bool:
        return hasattr(self.module, name)

    def tensor(self, name: str) -> Tensor:
        """A parameter of this module, detached. Raises BuildError where it has none, such as a bias that was left out, or a
        weight that somebody quantized."""
        found = getattr(self.module, name, None)
        if not isinstance(found, Tensor):
            raise BuildError(f"{self.source} has no {name} in {self.path}, which is a {type(self.module).__name__}; {ADVICE}")
        return found.detach()

    def number(self, name: str) -> float:
        """A number that this module keeps. Raises BuildError."""
        found = getattr(self.module, name, None)
        if not isinstance(found, (int, float)):
            raise BuildError(f"{self.source} has no {name} in {self.path}, which is a {type(self.module).__name__}; {ADVICE}")
        return float(found)
