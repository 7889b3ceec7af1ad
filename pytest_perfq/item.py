"""One item: is it refused, unavailable, already measured or to be measured; judged; and what pytest shall do with it.

Knows no pytest: it says 'skip' or 'fail' with a message, and the plugin does so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_perfq import outcome
from pytest_perfq.errors import DataError, PerfqError, Unavailable, UsageError
from pytest_perfq.outcome import Outcome
from pytest_perfq.report.examples import Listed

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_perfq.baselines import Baseline
    from pytest_perfq.core.budget import Limit
    from pytest_perfq.core.case import Case
    from pytest_perfq.core.measurement import Measurement
    from pytest_perfq.core.sweep import Sweep
    from pytest_perfq.core.verdict import Verdict
    from pytest_perfq.runner import Workbench
    from pytest_perfq.settings import Settings
    from pytest_perfq.store import Record
    from pytest_perfq.target import Target
    from pytest_perfq.trials.ahead import Ahead
    from pytest_perfq.trials.calibrated import Calibrated


class Gate:
    """Judges the items of this process, with one workbench for all of them."""

    def __init__(self, settings: Settings, target: Target, step: Callable[[str], None], ahead: Path | None = None) -> None:
        """step: told what goes on inside a long case, one line at a time. ahead: file of what was measured before the items,
        see trials.ahead; None where nothing was."""
        self.settings = settings
        self.target = target
        self.step = step
        self._ahead_file = ahead
        self._ahead: Ahead | None = None
        self._workbench: Workbench | None = None
        self._baseline: Baseline | None = None
        self._done: dict[str, Record] | None = None
        self._calibrated: Calibrated | None = None
        self._said: dict[str, str] = {}  # a mistake's sentence -> the first case that it was told of
        self.listed = Listed()  # by items that failed: see outcome.read

    def judge(self, case: Case, sweep: Sweep | None, budgets: dict[str, Any], nodeid: str) -> Outcome:
        """Measures and judges one case. budgets: keywords of the test's marker, over the sweep's own promises."""
        from pytest_perfq.contracts import Lack
        from pytest_perfq.core.case import Case as CaseType

        if not isinstance(case, CaseType):
            return Outcome(f"perfq() was given {case!r}; give it the `case` of a test under a Sweep", failed=True)
        try:
            limits = self._limits(case, sweep, budgets)
        except UsageError as error:
            return Outcome(f"usage error: {error}", failed=True)
        done = self._resumed(nodeid)
        if done is not None and case.id not in self.ahead.measurements:
            from pytest_perfq.core.measurement import Measurement

            return self._judged(Measurement.from_json(done.measurement), limits, done)
        reason = self.target.unmeasured(case)
        if reason is None and (fine := self._too_fine(case, limits)) is not None:
            return self._misused(case, fine)
        try:
            if reason is not None:
                measurement = self.workbench.unmeasured(case, reason)
            elif refusals := self.workbench.refuses(case) or self.ahead.refusals(case.id):
                refused = f"refused: {'; '.join(refusals)}"
                if not (self.settings.strict and all(isinstance(reason, Lack) for reason in refusals)):
                    return Outcome(refused, skipped=True)
                measurement = self.workbench.unmeasured(case, refused)
            elif case.id in self.ahead.unvisited:
                return self._unvisited(case, limits)
            else:
                measurement = self.ahead.measured(case.id) or self.workbench.measure(case, limits)
        except Unavailable as error:
            absent = f"unavailable: {error}"
            if not self.settings.strict:
                return Outcome(absent, skipped=True)
            measurement = self.workbench.unmeasured(case, absent)
        except (UsageError, DataError) as error:
            return self._misused(case, str(error))
        except PerfqError as error:
            return self._broken(case, str(error))
        except Exception as error:
            # Nobody's fault that we know of: remembered as a failure, then raised as it is, traceback and all.
            return replace(self._broken(case, f"{type(error).__name__}: {error}"), raised=error)
        # Outside the try: a judgement that breaks is our fault, and must not pass for the case's.
        return self._judged(measurement, limits)

    def judge_timed(self, measure: Callable[[], Measurement | None], budgets: dict[str, Any], nodeid: str) -> Outcome | None:
        """Measures and judges a test that times itself; None where it timed nothing. What `measure` raises is the test's own
        error, and goes on as it is."""
        from pytest_perfq.core.benchmarks import case_of
        from pytest_perfq.core.measurement import Measurement

        try:
            limits = self._limits(case_of(nodeid), None, budgets)
        except UsageError as error:
            return Outcome(f"usage error: {error}", failed=True)
        case = case_of(nodeid)
        if case.id in self.ahead.unvisited:
            return self._unvisited(case, limits)
        try:
            ahead = self.ahead.measured(case.id)
        except PerfqError as error:
            return self._broken(case, str(error))
        done = self._resumed(nodeid) if ahead is None else None
        measured = ahead or (measure() if done is None else Measurement.from_json(done.measurement))
        return None if measured is None else self._judged(measured, limits, done)

    @property
    def workbench(self) -> Workbench:
        """The workbench of this process; made at the first case, since it loads torch."""
        if self._workbench is None:
            from pytest_perfq import device
            from pytest_perfq.contracts import Resources
            from pytest_perfq.runner import Plan, Workbench

            settings = self.settings
            resources = Resources(
                cache=settings.cache,
                data=settings.data,
                pickle=settings.allow_pickle,
                threads=settings.threads or device.available_threads(),
                progress=self.step,
            )
            plan = Plan(
                time_s=settings.time,
                precision=settings.precision,
                visits=settings.visits,
                repeat=settings.save is not None or settings.against is not None,
                l2=settings.l2,
            )
            self._workbench = Workbench(plan, resources)
        return self._workbench

    @property
    def ahead(self) -> Ahead:
        """What was measured before the items; read at the first case, empty where nothing was."""
        if self._ahead is None:
            from pytest_perfq.trials.ahead import Ahead

            file = self._ahead_file
            self._ahead = Ahead() if file is None or not file.exists() else Ahead.read(file)
        return self._ahead

    def close(self) -> None:
        """Frees what the workbench keeps."""
        if self._workbench is not None:
            self._workbench.close()

    def _limits(self, case: Case, sweep: Sweep | None, budgets: dict[str, Any]) -> tuple[Limit, ...]:
        from pytest_perfq.core.budget import with_marker

        return with_marker(sweep.limits(case, self.target.gpu) if sweep is not None else (), budgets)

    def _too_fine(self, case: Case, limits: tuple[Limit, ...]) -> str | None:
        """Why a promised slow-down is finer than what was found to be visible here; None where it is not, or nobody looked."""
        if self._calibrated is None:
            from pytest_perfq.trials.calibrated import Calibrated

            self._calibrated = Calibrated(self.settings.store, lambda on: self.workbench.fingerprint(on).key)
        return self._calibrated.too_fine(case, limits)

    def _resumed(self, nodeid: str) -> Record | None:
        """What the run that is resumed has of an item; None of one that it lacks, or lacks passes of."""
        if not self.settings.resume:
            return None
        if self._done is None:
            from pytest_perfq.store import Store

            with Store.open(self.settings.store, readonly=True) as store:
                run = store.last_unfinished_run()
                self._done = {} if run is None else store.done(run.id)
        found = self._done.get(nodeid)
        timed = found is not None and found.measurement["case"]["batch_size"] is not None
        # Cut off between two passes: what is missing is measured with the others.
        short = found is not None and timed and len(found.measurement["visits"]) < self.settings.passes
        return None if short else found

    def _baseline_of(self, case: Case) -> Measurement | None:
        if self.settings.against is None:
            return None
        if self._baseline is None:
            from pytest_perfq import baselines

            self._baseline = baselines.load(self.settings.against)
        return self._baseline.get(case.id)

    def _judged(self, measurement: Measurement, limits: tuple[Limit, ...], done: Record | None = None) -> Outcome:
        """done: what the run that is resumed has of it, where that is what is judged."""
        from pytest_perfq.core.verdict import Pair, Verdict, judge_suite, overruled, slowdowns

        name, baseline = measurement.case.id, self._baseline_of(measurement.case)
        # All cases of the baseline count, so that the chance of a false alarm is that of the suite, not of each case.
        suite = 1 if self._baseline is None else len(self._baseline)
        age_s = None if self._baseline is None else time.time() - self._baseline.created_s
        pairs = {name: Pair(measurement, limits, baseline, age_s)}
        verdict = judge_suite(pairs, suite=suite, against=self._baseline is not None)[name]
        resumed = done is not None and done.judged
        if name in self.ahead.decided:
            verdict = overruled(verdict, self.ahead.decided[name])
        elif done is not None and resumed and (self.settings.vs is not None or self.settings.confirm is not None):
            # Seen side by side before the run was cut off, and not once more.
            verdict = overruled(verdict, slowdowns(Verdict.from_json(done.verdict)))
        if name in self.ahead.noted:
            verdict = replace(verdict, findings=(*verdict.findings, *self.ahead.noted[name]))
        if self.settings.save is not None and self._baseline is None and measurement.unmeasured is None:
            # The first baseline: what later runs are held to has nothing to be held against yet.
            untold = [one for one in verdict.findings if one.rule == "max_slowdown" and one.status == "unmeasured"]
            verdict = replace(verdict, findings=tuple(one for one in verdict.findings if one not in untold))
        return outcome.judged(measurement, self._read(measurement, verdict), self.settings.strict, resumed, self.listed)

    def _read(self, measurement: Measurement, verdict: Verdict) -> Verdict:
        """With the texts of the examples that went wrong; not where loading them would be all that a workbench is for."""
        from pytest_perfq.report import examples

        if measurement.outcomes is None or self._workbench is None or not (wanted := examples.to_read(verdict)):
            return verdict
        baseline = self._baseline_of(measurement.case)
        before = measurement.original_outcomes if baseline is None else baseline.outcomes
        return examples.read(verdict, self._workbench.materials.texts(measurement.case, wanted), measurement.outcomes, before)

    def _broken(self, case: Case, reason: str) -> Outcome:
        """A case that could not be built or run: a failed verdict with the one sentence, remembered like any other."""
        from pytest_perfq.core.verdict import broken

        return outcome.unmeasured(self._nothing(case, reason), broken(case, reason), reason)

    def _misused(self, case: Case, reason: str) -> Outcome:
        """A case whose suite asks for what cannot be, found out while it was measured. It fails, since nobody mends what is
        skipped, and as invalid, since nothing is known of the program. Later cases with the same mistake point to the
        first."""
        from pytest_perfq.core.verdict import misused

        first = self._said.setdefault(reason, case.id)
        message = f"usage error: {reason}" if first == case.id else f"usage error, as {first} above"
        return outcome.unmeasured(self._nothing(case, reason), misused(case, reason), message)

    def _unvisited(self, case: Case, limits: tuple[Limit, ...]) -> Outcome:
        """A case for which no time was left: undecided, and never timed here, where it would be no like of the others."""
        from pytest_perfq.core.finding import Finding, Verdict

        reason = self.ahead.unvisited[case.id]
        found = (Finding(rule="measured", status="inconclusive", note=reason), *self.ahead.decided.get(case.id, ()))
        verdict = Verdict(case.id, found, limits)
        return outcome.unmeasured(self._nothing(case, reason), verdict, reason, failed=verdict.failed)

    def _nothing(self, case: Case, reason: str) -> Measurement:
        if case.test is None:
            return self.workbench.unmeasured(case, reason)
        from pytest_perfq import device
        from pytest_perfq.core.measurement import Measurement

        # A workbench would change how the memory of this process is kept, under tests that have nothing to do with it.
        fingerprint = device.fingerprint("cpu", self.settings.threads or device.available_threads())
        return Measurement(case=case, fingerprint=fingerprint, unmeasured=reason)
