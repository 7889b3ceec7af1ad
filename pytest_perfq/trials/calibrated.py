"""Whether a case is promised a finer slow-down than calibration found to be visible on this machine. Measures nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pytest_perfq.core.budget import Limit
from pytest_perfq.core.case import Case
from pytest_perfq.report.seen import too_fine
from pytest_perfq.store import Calibration, Store, state


@dataclass(slots=True)
class Calibrated:
    """store: SQLAlchemy URL or file. machine: the key of this machine for 'cpu' or 'cuda'; asked only where a promised case was
    calibrated somewhere, since whoever answers may have to load PyTorch."""

    store: str
    machine: Callable[[str], str]
    _anywhere: frozenset[str] | None = None
    _here: dict[str, dict[str, Calibration]] = field(default_factory=dict)

    def too_fine(self, case: Case, limits: Sequence[Limit]) -> str | None:
        """Why a promised slow-down is finer than what is visible here; None where it is not, or nobody looked."""
        promised = min((limit.value for limit in limits if limit.rule == "max_slowdown"), default=None)
        if promised is None or case.kind != "latency" or case.id not in self._names():
            return None
        if case.device not in self._here:
            machine = self.machine(case.device)
            with Store.open(self.store, readonly=True) as store:
                self._here[case.device] = store.calibrations(machine)
        found = self._here[case.device].get(case.id)
        return None if found is None else too_fine(promised, found.deviation)

    def _names(self) -> frozenset[str]:
        """Cases that were calibrated on any machine."""
        if self._anywhere is None:
            self._anywhere = frozenset()
            if state(self.store).exists:
                with Store.open(self.store, readonly=True) as store:
                    self._anywhere = frozenset(store.calibrations())
        return self._anywhere
