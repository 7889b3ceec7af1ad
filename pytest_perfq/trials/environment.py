"""Where one side's worker runs: a Python, a folder, variables. Plain values; starts nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """label: what people call it, such as a revision. python: the interpreter. folder: the root of the project, where the
    worker runs. variables: over those of this process. revision: of git, where it is one."""

    label: str
    python: str = sys.executable
    folder: Path = field(default_factory=Path.cwd)
    variables: Mapping[str, str] = field(default_factory=dict)
    revision: str | None = None

    def variables_of_process(self) -> dict[str, str]:
        """All variables of its worker. Not those by which pytest and coverage would take it for a part of this run."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
        return {**inherited, **self.variables}
