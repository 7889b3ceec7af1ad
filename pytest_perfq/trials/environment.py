"""Where one side's worker runs: a Python, a folder, variables. Plain values; starts nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

# By these pytest, its plugins and coverage would take a worker for a part of the run that started it, and coverage would time
# itself. Whatever else is set for pytest is meant for its collection of the suites too.
OF_ANOTHER_RUN = ("PYTEST_CURRENT_TEST", "PYTEST_VERSION", "PYTEST_XDIST_", "COV_CORE_", "COVERAGE_PROCESS_")


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
        """All variables of its worker."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(OF_ANOTHER_RUN)}
        return {**inherited, **self.variables}
