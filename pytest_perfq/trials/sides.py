"""Both sides of a run of trials: their environments, their workers, and what each of the two can do.

Two environments are two workers. One environment under two configurations is one worker, in which the sides differ by a
third of the noise.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_perfq.core.case import Case
from pytest_perfq.errors import PerfqError, TrialError, UsageError
from pytest_perfq.trials.entry import Collected
from pytest_perfq.trials.environment import Environment
from pytest_perfq.trials.passes import Blamed
from pytest_perfq.trials.worker import PREPARE_S, Remote, Worker

# Reading a suite of ten thousand cases takes seconds; imports of the suite's own may take more.
COLLECT_S = 300.0


@dataclass(frozen=True, slots=True)
class Sides:
    """base, candidate: where each is measured. given: how, see pytest_perfq.worker.Given."""

    base: Environment
    candidate: Environment
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shared(self) -> bool:
        """Whether both are one environment."""
        return self.base == self.candidate

    def collected(self, args: Sequence[str]) -> tuple[list[Collected], list[Collected]]:
        """The cases of each side for these arguments of pytest. Raises UsageError and TrialError."""
        return collect(self.base, self.given, args), collect(self.candidate, self.given, args)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Workers]:
        """Fresh workers."""
        with contextlib.ExitStack() as stack:
            a = stack.enter_context(Worker(self.base, self.given))
            b = a if self.shared else stack.enter_context(Worker(self.candidate, self.given))
            yield Workers(a, b)


def collect(environment: Environment, given: Mapping[str, Any], args: Sequence[str]) -> list[Collected]:
    """The cases that pytest finds in an environment. Raises UsageError and TrialError."""
    with Worker(environment, given) as worker:
        found = [Collected.from_json(one) for one in worker.ask("collect", COLLECT_S, args=list(args))]
    if not found:
        raise UsageError(
            f"{environment.label}: pytest {' '.join(args)} finds no case of a Sweep in {environment.folder}; "
            "name the folder or file of a suite, as for pytest"
        )
    return found


class Workers:
    """Two workers that wait for requests, or one for both sides."""

    def __init__(self, base: Worker, candidate: Worker) -> None:
        self._workers = {"a": base, "b": candidate}

    def prepare(self, base: Case, candidate: Case) -> None:
        """Builds a case on both sides. Raises Blamed for what a side cannot do, TrialError for a lost worker."""
        self.check(base, candidate)
        cases = {"a": base.to_json(), "b": candidate.to_json()}
        self._both("prepare", {side: {"side": side, "case": case} for side, case in cases.items()})

    def check(self, base: Case, candidate: Case) -> None:
        """Raises Blamed where a side refuses its case, TrialError for a lost worker."""
        cases = {"a": base.to_json(), "b": candidate.to_json()}
        for side, refusals in self._both("refuses", {side: {"case": case} for side, case in cases.items()}).items():
            if refusals:
                label = self._workers[side].environment.label
                raise Blamed(f"{label} refuses {cases[side]['id']}: {'; '.join(refusals)}", candidate=side == "b")

    def sides(self) -> Mapping[str, Remote]:
        """'a', the base, and 'b', the candidate, as prepared."""
        return {side: Remote(worker, side) for side, worker in self._workers.items()}

    def fingerprints(self, device: str) -> dict[str, dict[str, Any]]:
        """The machine and software of each side, as plain JSON."""
        return self._both("fingerprint", {side: {"device": device} for side in self._workers})

    def measure(self, base: Case, candidate: Case) -> dict[str, dict[str, Any]]:
        """An accuracy case, measured whole on each side: side -> measurement as plain JSON."""
        return self._both("measure", {"a": {"case": base.to_json()}, "b": {"case": candidate.to_json()}})

    def _both(self, do: str, fields: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """One request to each side, at once where they are two processes. Raises Blamed for the first side that fails."""
        answers: dict[str, Any] = {}
        troubles: list[Blamed] = []

        def take(side: str, ask: Callable[[], Any]) -> None:
            try:
                answers[side] = ask()
            except TrialError:
                raise
            except PerfqError as error:
                # Taken before it is raised: an answer left in the pipe would be the next request's.
                troubles.append(Blamed(str(error), candidate=side == "b"))

        a, b = self._workers["a"], self._workers["b"]
        if a is b:
            for side in ("a", "b"):
                take(side, lambda side=side: a.ask(do, PREPARE_S, **fields[side]))  # type: ignore[misc]
        else:
            for side, worker in self._workers.items():
                worker.post(do, **fields[side])
            for side, worker in self._workers.items():
                take(side, lambda worker=worker: worker.answer(do, PREPARE_S))  # type: ignore[misc]
        if troubles:
            raise troubles[0]
        return answers
