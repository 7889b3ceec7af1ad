"""measure(case) -> Measurement: puts a case's program through its task and the stopwatch. Facts only; judges nothing.

Cases come in any order and are right in any order; in the order of the walk they are also cheap. Untimed work of several
processes runs side by side; a timed section has its device alone on this machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_perfq import anchor, device, inputs, stopwatch
from pytest_perfq.contracts import Batch, Lack, Resources
from pytest_perfq.core.budget import Limit
from pytest_perfq.core.case import Case
from pytest_perfq.core.fingerprint import Fingerprint
from pytest_perfq.core.measurement import Measurement, Outcomes, Score, Visit
from pytest_perfq.core.paired import moves
from pytest_perfq.core.promises import rounds_wanted
from pytest_perfq.device import energy
from pytest_perfq.device.conditions import REPEATS, watched
from pytest_perfq.device.lock import device_lock
from pytest_perfq.device.sampler import Sampler, sampler
from pytest_perfq.errors import ProgramError
from pytest_perfq.materials import Built, Materials, backend_of, task_of
from pytest_perfq.timedcall import TimedCall, timed_call

if TYPE_CHECKING:
    from filelock import ReadWriteLock

EVALUATION_BATCH = 16


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to measure. time_s: most seconds for the timed part of a latency case. precision: see stopwatch.VisitPlan.
    passes: over the suite, each with so many visits; they share the rounds that a percentile promise needs.
    repeat: predict every accuracy case twice, to learn how far the same program differs from itself. l2: of a GPU when a call
    begins, 'warm' or 'cold'."""

    time_s: float = 15.0
    precision: float = 0.01
    visits: int = 3
    passes: int = 1
    seed: int = 0
    repeat: bool = False
    l2: str = "warm"


FULL = (errno.ENOSPC, errno.EDQUOT)
NO_SPACE = os.strerror(errno.ENOSPC)


@contextlib.contextmanager
def _out_of_room(case: Case, materials: Materials) -> Iterator[None]:
    """Running out of memory or of disk ends the case, not the run: everything kept in memory is freed for the next one."""
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if getattr(error, "errno", None) in FULL or NO_SPACE in str(error):  # libraries in C++ say it in a RuntimeError
            advice = f"free some, or choose another folder than {materials.resources.cache} by PERFQ_CACHE"
            raise ProgramError(f"{case.id} found no room on the disk ({error}); {advice}") from error
        text = str(error)
        if isinstance(error, MemoryError) or "out of memory" in text.lower() or "can't allocate memory" in text.lower():
            materials.close()
            first = text.splitlines()[0] if text else "no memory left"
            raise ProgramError(
                f"{case.id} ran out of memory ({first}); lower batch_size or seq_len, or free the device"
            ) from error
        raise


class Workbench:
    """Measures cases one after the other in this process. Not for threads."""

    def __init__(self, plan: Plan, resources: Resources, watcher: Sampler | None = None) -> None:
        """watcher: of the machine beside each visit; None: the one of this machine."""
        self.plan = plan
        self.resources = resources
        self.materials = Materials(resources)
        self._sampler = watcher
        self._malloc = device.keep_memory()
        self._evaluated: dict[Case, tuple[tuple[Score, ...], Outcomes]] = {}

    def refuses(self, case: Case) -> list[str]:
        """Why the case cannot be built here; empty when it can."""
        reasons = backend_of(case).refuses(case)
        if not reasons and case.device == "cuda" and (other := device.other_gpu()) is not None:
            return [Lack(other)]
        return reasons

    def unmeasured(self, case: Case, reason: str) -> Measurement:
        """The measurement of a case that could not be measured, with the reason."""
        return Measurement(case=case, fingerprint=self.fingerprint(case.device), unmeasured=reason)

    def measure(self, case: Case, limits: Sequence[Limit] = ()) -> Measurement:
        """The measurement of a case that was not refused. limits: so that percentile promises get the rounds they need.
        Raises PerfqError; running out of memory is a ProgramError and frees every program kept."""
        with _out_of_room(case, self.materials):
            if case.kind == "accuracy":
                with self._lock(case).read_lock():
                    return self._accuracy(case)
            return self._latency(case, limits)

    def call(self, case: Case) -> TimedCall:
        """One forward pass of a latency case that was not refused, to be timed by somebody else. Raises PerfqError."""
        with _out_of_room(case, self.materials), self._lock(case).read_lock():
            return self._side(case, self.materials.program(case), self._batch(case))

    def audit(self, call: TimedCall) -> None:
        """Raises ProgramError where timed calls gave something else than the program does, see TimedCall.audit."""
        with self._lock(call.case).read_lock():
            call.audit()

    def close(self) -> None:
        """Frees every program and model, and ends the process that watches."""
        self.materials.close()
        if self._sampler is not None:
            self._sampler.close()

    def _watching(self) -> Sampler:
        if self._sampler is None:
            self._sampler = sampler()
        return self._sampler

    def _lock(self, case: Case) -> ReadWriteLock:
        return device_lock(case.device)

    def fingerprint(self, on: str) -> Fingerprint:
        """What a measurement on the device 'cpu' or 'cuda' is made on, now."""
        found = device.fingerprint(on, self.resources.threads, l2=self.plan.l2)
        return dataclasses.replace(found, stack={**found.stack, "anchor": anchor.ANCHOR_VERSION, "malloc": self._malloc})

    # -- accuracy

    def _accuracy(self, case: Case) -> Measurement:
        original = case.original()
        scores, outcomes = self._evaluate(case)
        built = self.materials.program(case)
        measured = Measurement(
            case=case,
            fingerprint=self.fingerprint(case.device),
            scores=scores,
            outcomes=outcomes,
            model_bytes=built.program.bytes,
            load_ns=built.load_ns,
            first_call_ns=built.first_call_ns,
            facts={**built.program.facts, **self.materials.revisions(case)},
            churn=self._churn(case, outcomes) if self.plan.repeat else None,
        )
        if case.is_original:
            return measured
        original_scores, original_outcomes = self._evaluate(original)
        return dataclasses.replace(
            measured,
            original_scores=original_scores,
            original_outcomes=original_outcomes,
            original_bytes=self.materials.model(case).bytes,
        )

    def _predictions(self, case: Case) -> Outcomes:
        examples = self.materials.examples(case, case.split)
        model = self.materials.model(case)
        return task_of(case).evaluate(case, model, examples, self.materials.program(case).predict, EVALUATION_BATCH)

    def _evaluate(self, case: Case) -> tuple[tuple[Score, ...], Outcomes]:
        if not case.is_original:
            outcomes = self._predictions(case)
            return task_of(case).scores(case, self.materials.examples(case, case.split), outcomes), outcomes
        # Every optimized case is shown beside the same original: it is evaluated once a run.
        if case not in self._evaluated:
            outcomes = self._predictions(case)
            scores = task_of(case).scores(case, self.materials.examples(case, case.split), outcomes)
            self._evaluated[case] = scores, outcomes
        return self._evaluated[case]

    def _churn(self, case: Case, first: Outcomes) -> dict[str, float]:
        """How far a second prediction of the same examples by the same program differs from the first, by the measure that
        finds what a revision moved."""
        second = self._predictions(case)
        flips = sum(one != other for one, other in zip(first.predictions, second.predictions, strict=True))
        return {"n": len(first.ids), "flips": flips, "margin_noise": float(max(moves(first, second), default=0.0))}

    # -- latency

    def _batch(self, case: Case, seed: int = 0) -> Batch:
        """The batch of a latency case; another seed gives other content of the same shape."""
        assert case.batch_size is not None and case.seq_len is not None
        model = self.materials.model(case)
        lengths = None
        if case.padding == "dataset":
            lengths = task_of(case).token_lengths(case, model, self.materials.examples(case, case.split))
        batch: Batch = inputs.latency_batch(model, case.batch_size, case.seq_len, case.padding, self.plan.seed + seed, lengths)
        return batch

    def _latency(self, case: Case, limits: Sequence[Limit]) -> Measurement:
        lock = self._lock(case)
        self._watching()  # starts while the program is built
        with lock.read_lock():
            batch = self._batch(case)
            built = self.materials.program(case)
            original = None if case.is_original else self.materials.program(case.original())
            calls = {} if original is None else {"original": self._side(case, original, batch)}
            device.reset_peak_memory(case.device)
            calls["case"] = self._side(case, built, batch)
            # Now, before the original is called beside it: what that takes is no memory of this program.
            peak_bytes = self._peak_bytes(case, built)
            sides: dict[str, Callable[[], Any]] = {"anchor": anchor.anchor(case.device, self.resources.threads), **calls}
        clock = stopwatch.clock_for(case.device, self.plan.l2)
        plan = self._visit_plan(limits)
        visits: list[Visit] = []
        for number in range(self.plan.visits):
            self.resources.progress(f"visit {number + 1}/{self.plan.visits}")
            with lock.write_lock():
                samples, conditions = watched(
                    partial(stopwatch.visit, sides, clock, plan),
                    self._watching(),
                    device=case.device,
                    threads=self.resources.threads if case.device == "cpu" else 1,
                    # One disturbed visit makes the timing invalid: more time would change nothing.
                    repeats=0 if any(visit.disturbances for visit in visits) else REPEATS,
                    told=self.resources.progress,
                )
            visits.append(Visit(samples["case"], samples.get("original"), samples["anchor"], conditions=conditions))
        used = self._energy(case, calls["case"], lock)
        for call in calls.values():
            self.audit(call)
        fed = {"timed_words": calls["case"].feeding}
        return Measurement(
            case=case,
            fingerprint=self.fingerprint(case.device),
            visits=tuple(visits),
            model_bytes=built.program.bytes,
            original_bytes=None if original is None else original.program.bytes,
            peak_memory_bytes=peak_bytes,
            load_ns=built.load_ns,
            first_call_ns=built.first_call_ns,
            facts={**built.program.facts, **self.materials.revisions(case), "tokens": sum(batch.lengths), **fed, **used},
        )

    def _energy(self, case: Case, call: TimedCall, lock: ReadWriteLock) -> dict[str, Any]:
        """Facts of the energy that a call takes, of those on a GPU."""
        if case.device != "cuda":
            return {}
        with lock.write_lock():
            return energy.per_call(call, call.built.program.synchronize, self._watching())

    def _peak_bytes(self, case: Case, built: Built) -> int | None:
        """The peak of memory since it was reset; None where nobody counted."""
        if case.device == "cuda" and getattr(built.program, "own_allocator", False):
            return None
        return device.peak_memory_bytes(case.device)

    def _side(self, case: Case, built: Built, batch: Batch) -> TimedCall:
        return timed_call(case, built, batch, self._batch(case, seed=1))

    def _visit_plan(self, limits: Sequence[Limit]) -> stopwatch.VisitPlan:
        least = max(stopwatch.MIN_ROUNDS, -(-rounds_wanted(limits) // (self.plan.visits * self.plan.passes)))
        return stopwatch.VisitPlan(
            budget_s=self.plan.time_s / self.plan.visits,
            precision=self.plan.precision,
            min_rounds=least,
            max_rounds=max(stopwatch.MAX_ROUNDS, least),
        )
