"""measure(case) -> Measurement: puts a case's program through its task and the stopwatch. Facts only; judges nothing.

Cases come in any order and are right in any order; in the order of the walk they are also cheap. Untimed work of several
processes runs side by side; a timed section has its device alone on this machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_perfq import anchor, device, inputs, stopwatch
from pytest_perfq.contracts import Arrays, Batch, Resources
from pytest_perfq.core.budget import Limit
from pytest_perfq.core.case import Case
from pytest_perfq.core.fingerprint import Fingerprint
from pytest_perfq.core.measurement import Measurement, Outcomes, Score, Visit
from pytest_perfq.core.stats import rounds_needed
from pytest_perfq.errors import ProgramError
from pytest_perfq.materials import Built, Materials, backend_of, task_of

if TYPE_CHECKING:
    from filelock import ReadWriteLock

EVALUATION_BATCH = 16
# A percentile promise gets enough rounds to be kept with this many calls over the limit.
MISSES_ALLOWED = 1


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to measure. time_s: most seconds for the timed part of a latency case. precision: see stopwatch.VisitPlan.
    repeat: predict every accuracy case twice, to learn how far the same program differs from itself."""

    time_s: float = 15.0
    precision: float = 0.01
    visits: int = 3
    seed: int = 0
    repeat: bool = False


@cache
def _device_lock(name: str) -> ReadWriteLock:
    """Shared by every process of this user on this machine: readers build and evaluate, one writer times."""
    from filelock import ReadWriteLock

    folder = Path(tempfile.gettempdir()) / f"perfq-{getpass.getuser()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return ReadWriteLock(folder / f"{name}.lock.db")


@contextlib.contextmanager
def _out_of_memory(case: Case, materials: Materials) -> Iterator[None]:
    """Running out of memory ends the case, not the run: everything kept is freed for the next one."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
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

    def __init__(self, plan: Plan, resources: Resources) -> None:
        self.plan = plan
        self.resources = resources
        self.materials = Materials(resources)
        self._evaluated: dict[Case, tuple[tuple[Score, ...], Outcomes]] = {}

    def refuses(self, case: Case) -> list[str]:
        """Why the case cannot be built here; empty when it can."""
        return backend_of(case).refuses(case)

    def unmeasured(self, case: Case, reason: str) -> Measurement:
        """The measurement of a case that could not be measured, with the reason."""
        return Measurement(case=case, fingerprint=self._fingerprint(case), unmeasured=reason)

    def measure(self, case: Case, limits: Sequence[Limit] = ()) -> Measurement:
        """The measurement of a case that was not refused. limits: so that percentile promises get the rounds they need.
        Raises PerfqError; running out of memory is a ProgramError and frees every program kept."""
        with _out_of_memory(case, self.materials):
            if case.kind == "accuracy":
                with self._lock(case).read_lock():
                    return self._accuracy(case)
            return self._latency(case, limits)

    def close(self) -> None:
        """Frees every program and model."""
        self.materials.close()

    def _lock(self, case: Case) -> ReadWriteLock:
        return _device_lock(case.device)

    def _fingerprint(self, case: Case) -> Fingerprint:
        found = device.fingerprint(case.device, self.resources.threads)
        return dataclasses.replace(found, stack={**found.stack, "anchor": anchor.ANCHOR_VERSION})

    # -- accuracy

    def _accuracy(self, case: Case) -> Measurement:
        original = case.original()
        scores, outcomes = self._evaluate(case)
        built = self.materials.program(case)
        measured = Measurement(
            case=case,
            fingerprint=self._fingerprint(case),
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
        """How far a second prediction of the same examples by the same program differs from the first."""
        second = self._predictions(case)
        flips = sum(one != other for one, other in zip(first.predictions, second.predictions, strict=True))
        noise = max((abs(one - other) for one, other in zip(first.margins, second.margins, strict=True)), default=0.0)
        return {"n": len(first.ids), "flips": flips, "margin_noise": noise}

    # -- latency

    def _batch(self, case: Case) -> Batch:
        assert case.batch_size is not None and case.seq_len is not None
        model = self.materials.model(case)
        lengths = None
        if case.padding == "dataset":
            lengths = task_of(case).token_lengths(case, model, self.materials.examples(case, case.split))
        batch: Batch = inputs.latency_batch(model, case.batch_size, case.seq_len, case.padding, self.plan.seed, lengths)
        return batch

    def _latency(self, case: Case, limits: Sequence[Limit]) -> Measurement:
        lock = self._lock(case)
        with lock.read_lock():
            batch = self._batch(case)
            built = self.materials.program(case)
            original = None if case.is_original else self.materials.program(case.original())
            sides: dict[str, Callable[[], Any]] = {"anchor": anchor.anchor(case.device, self.resources.threads)}
            if original is not None:
                sides["original"] = self._side(case, original, batch)
            device.reset_peak_memory(case.device)
            sides["case"] = self._side(case, built, batch)
        clock = stopwatch.clock_for(case.device)
        plan = self._visit_plan(limits)
        visits = []
        for number in range(self.plan.visits):
            self.resources.progress(f"visit {number + 1}/{self.plan.visits}")
            with lock.write_lock():
                samples = stopwatch.visit(sides, clock, plan)
            visits.append(Visit(samples["case"], samples.get("original"), samples["anchor"]))
        return Measurement(
            case=case,
            fingerprint=self._fingerprint(case),
            visits=tuple(visits),
            model_bytes=built.program.bytes,
            original_bytes=None if original is None else original.program.bytes,
            peak_memory_bytes=device.peak_memory_bytes(case.device),
            load_ns=built.load_ns,
            first_call_ns=built.first_call_ns,
            facts={**built.program.facts, **self.materials.revisions(case), "tokens": sum(batch.lengths)},
        )

    def _side(self, case: Case, built: Built, batch: Batch) -> Callable[[], Any]:
        """The timed call of one side, after one untimed pass whose logits must be finite: a broken model can be fast."""
        _finite(case, built.predict(batch))
        return partial(built.program.run, built.program.feed(batch))

    def _visit_plan(self, limits: Sequence[Limit]) -> stopwatch.VisitPlan:
        percentiles = [int(limit.rule[1:3]) / 100 for limit in limits if limit.rule in ("p90_ms", "p95_ms", "p99_ms")]
        wanted = max((rounds_needed(percentile, MISSES_ALLOWED) for percentile in percentiles), default=0)
        least = max(stopwatch.MIN_ROUNDS, -(-wanted // self.plan.visits))
        return stopwatch.VisitPlan(
            budget_s=self.plan.time_s / self.plan.visits,
            precision=self.plan.precision,
            min_rounds=least,
            max_rounds=max(stopwatch.MAX_ROUNDS, least),
        )


def _finite(case: Case, logits: Arrays) -> None:
    import numpy as np

    for name, values in logits.items():
        bad = int(values.size - np.count_nonzero(np.isfinite(values)))
        if bad:
            raise ProgramError(
                f"{case.id} gives {bad} of {values.size} {name} that are not finite; its timings would mean nothing"
            )
