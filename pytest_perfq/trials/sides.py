"""Both sides of a run of trials: their environments, their workers, and what each of the two can do.

Two environments are two workers. One environment under two configurations is one worker, in which the sides differ by a
third of the noise.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_perfq import device
from pytest_perfq.core.case import Case
from pytest_perfq.errors import DataError, PerfqError, TrialError, Unavailable, UsageError
from pytest_perfq.trials.entry import Collected
from pytest_perfq.trials.environment import Environment
from pytest_perfq.trials.opened import Blamed, Lost, Refused
from pytest_perfq.trials.worker import BLOCK_S, PREPARE_S, Worker

# Reading a suite of ten thousand cases takes seconds; imports of the suite's own may take more.
COLLECT_S = 300.0


@dataclass(frozen=True, slots=True)
class Sides:
    """base, candidate: where each is measured. given: how, see pytest_perfq.worker.Given. args: of pytest, by which tests of
    pytest-benchmark are found again. loops: by case id, calls a round of those, once that is known: of both sides in all
    visits."""

    base: Environment
    candidate: Environment
    given: Mapping[str, Any] = field(default_factory=dict)
    args: Sequence[str] = ()
    loops: dict[str, int] = field(default_factory=dict, compare=False)
    _openings: Iterator[int] = field(default_factory=itertools.count, compare=False, repr=False)

    @property
    def shared(self) -> bool:
        """Whether both are one environment."""
        return self.base == self.candidate

    def collected(self, args: Sequence[str]) -> tuple[list[Collected], list[Collected]]:
        """The cases of each side for these arguments of pytest. Raises UsageError and TrialError."""
        if self.shared:
            one = collect(self.base, self.given, args)
            return one, one
        with _started([self.base, self.candidate], self.given) as workers:
            for worker in workers:
                worker.post("collect", args=list(args))
            base, candidate = (_cases(worker, worker.answer("collect", COLLECT_S), args) for worker in workers)
        return base, candidate

    @contextlib.contextmanager
    def opened(self) -> Iterator[Workers]:
        """Fresh workers. Which side is built first alternates: where its memory lies follows from that, and some programs'
        time from where it lies. Both are timed on the same cores, one for each thread, from opening to opening others: two
        processes that the system places would meet different neighbours."""
        opening = next(self._openings)
        given = {**self.given, "cores": device.cores_for(int(self.given.get("threads", 1)), opening // 2)}
        turned = opening % 2 == 1
        sides = [self.base] if self.shared else [self.base, self.candidate]
        with _started(sides[::-1] if turned else sides, given) as workers:
            yield Workers(workers[-1 if turned else 0], workers[0 if turned else -1], turned, self.args, self.loops)


@contextlib.contextmanager
def _started(environments: Sequence[Environment], given: Mapping[str, Any]) -> Iterator[list[Worker]]:
    """A worker in each, which load side by side."""
    with contextlib.ExitStack() as stack:
        workers = []
        for environment in environments:
            workers.append(Worker(environment, given))
            stack.callback(workers[-1].close)
        yield [stack.enter_context(worker) for worker in workers]


def settings(environment: Environment, args: Sequence[str]) -> dict[str, Any]:
    """What the ini files of an environment say with these arguments of pytest: {cache, data, pickle, threads}, None where
    they say nothing. Raises UsageError and TrialError."""
    with Worker(environment, {"cache": ""}) as worker:
        found: dict[str, Any] = worker.ask("settings", COLLECT_S, args=list(args))
    return found


def collect(environment: Environment, given: Mapping[str, Any], args: Sequence[str], none: bool = False) -> list[Collected]:
    """The cases and tests of pytest-benchmark that pytest finds in an environment. none: there may be none. Raises UsageError
    and TrialError."""
    with Worker(environment, given) as worker:
        found = worker.ask("collect", COLLECT_S, args=list(args))
        return _cases(worker, found, args) if found or not none else []


def _cases(worker: Worker, answer: Sequence[dict[str, Any]], args: Sequence[str]) -> list[Collected]:
    found, where = [Collected.from_json(one) for one in answer], worker.environment
    if not found:
        raise UsageError(
            f"{where.label}: pytest {' '.join(args)} finds no case of a Sweep and no test of pytest-benchmark in "
            f"{where.folder}; name the folder or file of a suite, as for pytest"
        )
    return [one if one.refused is None else replace(one, refused=f"{where.label}: {one.refused}") for one in found]


class Workers:
    """Two workers that wait for requests, or one for both sides. Every request may raise Blamed and Lost."""

    def __init__(
        self,
        base: Worker,
        candidate: Worker,
        turned: bool = False,
        args: Sequence[str] = (),
        loops: dict[str, int] | None = None,
    ) -> None:
        """turned: the candidate is asked first. args, loops: see Sides."""
        self._args, self._loops = args, {} if loops is None else loops
        self._workers = {"b": candidate, "a": base} if turned else {"a": base, "b": candidate}
        # Bytes of each side's program as prepared last; None of one that does not tell.
        self.sizes: dict[str, int | None] = {}

    def prepare(self, base: Case, candidate: Case) -> None:
        """Builds a case on both sides, or runs a test of pytest-benchmark as far as its call. Raises Refused where there is
        nothing to compare."""
        if candidate.test is None:
            self.check(base, candidate)
        cases = {"a": base, "b": candidate}
        args = {} if candidate.test is None else {"args": list(self._args)}
        built = self._both("prepare", {side: {"side": side, "case": case.to_json(), **args} for side, case in cases.items()})
        for side, facts in built.items():
            if "refused" in facts:
                raise Refused(f"{self._workers[side].environment.label}: {facts['refused']}")
        if candidate.test is not None:
            self._level(candidate.id, built)
        self.sizes = {side: facts["bytes"] for side, facts in built.items()}

    def _level(self, name: str, built: Mapping[str, Mapping[str, Any]]) -> None:
        """As many calls a round on either side: enough for both, and one where each is set up."""
        if name not in self._loops:
            once = any(facts["renewed"] for facts in built.values())
            self._loops[name] = 1 if once else max(facts["loops"] for facts in built.values())
        if any(facts["loops"] != self._loops[name] for facts in built.values()):
            self._both("loops", {side: {"side": side, "loops": self._loops[name]} for side in built})

    def check(self, base: Case, candidate: Case) -> None:
        """Raises Refused where the base refuses its case, Blamed where the candidate alone does."""
        cases = {"a": base, "b": candidate}
        refusals = self._both("refuses", {side: {"case": case.to_json()} for side, case in cases.items()})
        said = {
            side: f"{self._workers[side].environment.label} refuses {case.id}: {'; '.join(refusals[side])}"
            for side, case in cases.items()
        }
        if refusals["a"]:
            raise Refused(said["a"] + _instead(base, candidate))
        if refusals["b"]:
            raise Blamed(said["b"], candidate=True)

    def audit(self) -> None:
        """Holds what the timed calls gave against the way accuracy is measured."""
        self._both("audit", {side: {"side": side} for side in self._workers})

    def sides(self) -> Mapping[str, Remote]:
        """'a', the base, and 'b', the candidate, as prepared."""
        return {side: Remote(worker, side) for side, worker in self._workers.items()}

    def profile(self, side: str, calls: int) -> Mapping[str, Sequence[int]] | None:
        """Operators of so many calls of a side as prepared: name -> (calls, ns); None where its program cannot tell."""
        with _whose(side):
            found: dict[str, list[int]] | None = self._workers[side].ask("profile", BLOCK_S, side=side, calls=calls)
        return found

    def fingerprints(self, device: str) -> dict[str, dict[str, Any]]:
        """The machine and software of each side, as plain JSON."""
        return self._both("fingerprint", {side: {"device": device} for side in self._workers})

    def measure(self, base: Case, candidate: Case) -> dict[str, dict[str, Any]]:
        """An accuracy case, measured whole on each side: side -> measurement as plain JSON. The candidate predicts twice, which
        tells whether a flip is the program's own chance."""
        return self._both("measure", {"a": {"case": base.to_json(), "repeat": False}, "b": {"case": candidate.to_json()}})

    def texts(self, candidate: Case, ids: Sequence[str]) -> dict[str, str]:
        """What people read of examples of an accuracy case, by id, as the candidate's environment reads them."""
        with _whose("b"):
            found: dict[str, str] = self._workers["b"].ask("texts", PREPARE_S, case=candidate.to_json(), ids=list(ids))
        return found

    def _both(self, do: str, fields: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """One request to each side, at once where they are two processes. Raises for the side that fails, the base first."""
        answers: dict[str, Any] = {}
        troubles: list[Blamed] = []
        one_process = self._workers["a"] is self._workers["b"]
        if not one_process:
            for side, worker in self._workers.items():
                worker.post(do, **fields[side])
        for side, worker in self._workers.items():
            if one_process:
                worker.post(do, **fields[side])
            try:
                with _whose(side):
                    answers[side] = worker.answer(do, PREPARE_S)
            except Blamed as error:
                # Raised once both have answered: an answer left in the pipe would be the next request's.
                troubles.append(error)
        if troubles:
            # What both sides meet with is not the candidate's doing.
            raise min(troubles, key=lambda error: error.candidate)
        return answers


class Remote:
    """One case's side in a worker, as the stopwatch takes it."""

    def __init__(self, worker: Worker, side: str) -> None:
        self.worker, self.side = worker, side

    def warm(self) -> list[int]:
        with _whose(self.side):
            found: list[int] = self.worker.ask("warm", BLOCK_S, side=self.side)
        return found

    def block(self, rounds: int, settle: bool) -> tuple[list[int], list[int]]:
        with _whose(self.side):
            settling, timed = self.worker.ask("block", BLOCK_S, side=self.side, rounds=rounds, settle=settle)
        return settling, timed


def _instead(base: Case, candidate: Case) -> str:
    """What to hold a quantized case against where the backend that was asked for takes none."""
    if base.quantization is None or base.backend == candidate.backend:
        return ""
    return "; hold quantized cases against their fp32 original: --vs original"


@contextlib.contextmanager
def _whose(side: str) -> Iterator[None]:
    """Puts down to a side what goes wrong in its worker."""
    try:
        yield
    except TrialError as error:
        raise Lost(str(error), candidate=side == "b") from error
    except PerfqError as error:
        # What must be fetched, and what the suite asks for wrongly, says nothing about the candidate's code.
        innocent = isinstance(error, (Unavailable, UsageError, DataError))
        raise Blamed(str(error), candidate=side == "b" and not innocent) from error
