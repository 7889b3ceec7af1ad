"""A whole run of trials: accuracy once on each side, then latency in passes, then why what regressed did. Measures and judges;
prints and stores nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from pytest_perfq.core.finding import Finding, Verdict
from pytest_perfq.core.fingerprint import Fingerprint
from pytest_perfq.core.measurement import Measurement
from pytest_perfq.core.rules import Rules
from pytest_perfq.core.stages import Standing
from pytest_perfq.core.verdict import Pair, judge_suite
from pytest_perfq.device.sampler import Sampler, sampler
from pytest_perfq.errors import TrialError
from pytest_perfq.report import examples
from pytest_perfq.trials import clocks, conclusions, explaining
from pytest_perfq.trials.entry import Entry
from pytest_perfq.trials.opened import Blamed, Lost, Refused
from pytest_perfq.trials.passes import STOPPED, Moment, Passes, by_model
from pytest_perfq.trials.sides import Sides, Workers

# Told of every entry whenever something new is known of it.
Keep = Callable[[Entry, Pair, Verdict], None]


@dataclass(slots=True)
class Trials:
    """Both sides of some cases against each other. time_s: of the latency part, None for as long as it takes. age_s: of
    the base, None where nobody knows: a promise that it breaks as well is old news only for so long. screened: False
    where latency cases are suspects already. explained: False where nobody asks why. keep: told of every entry whenever it
    gained a measurement. watch, say: see passes.Passes. pairs, verdicts: by the candidate's id; none of an entry that was
    refused. ended: why the run stopped before everything was measured."""

    entries: Sequence[Entry]
    sides: Sides
    rules: Rules = field(default_factory=Rules)
    time_s: float | None = None
    age_s: float | None = None
    screened: bool = True
    explained: bool = True
    keep: Keep = lambda entry, pair, verdict: None
    watch: Callable[[Moment], None] = lambda moment: None
    say: Callable[[str], None] = lambda line: None
    pairs: dict[str, Pair] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    ended: str | None = None
    _prints: dict[tuple[str, bool], dict[str, Fingerprint]] = field(default_factory=dict)
    _sizes: dict[str, dict[str, int | None]] = field(default_factory=dict)

    @property
    def interrupted(self) -> bool:
        """Whether somebody pressed Ctrl-C."""
        return self.ended == STOPPED

    def run(self) -> None:
        """Fills pairs and verdicts. A Ctrl-C ends it with what there is. Raises TrialError where a side cannot be measured
        at all."""
        accuracy = [one for one in self.entries if one.candidate.kind == "accuracy"]
        try:
            for group in by_model(accuracy):
                self._accuracy(group)
        except KeyboardInterrupt:
            self.ended = STOPPED
        except TrialError as error:
            if not self.pairs:
                raise
            self.ended = str(error)
        self._judge_accuracy(accuracy)
        self._latency([one for one in self.entries if one.candidate.kind == "latency"])
        for entry in self.entries:
            if entry.recovered is not None:
                self.say(f"{entry.name}: {entry.recovered}")

    # -- accuracy

    def _accuracy(self, group: Sequence[Entry]) -> None:
        waiting = list(group)
        while waiting:
            try:
                with self.sides.opened() as workers:
                    while waiting:
                        self.watch(Moment("accuracy", 0, len(group) - len(waiting), len(group), 0, waiting[0].name, None))
                        self._evaluate(workers, waiting[0])
                        waiting.pop(0)
            except Lost as error:
                waiting[0].lose(str(error), error.candidate)
                if waiting[0].over:
                    waiting.pop(0)

    def _evaluate(self, workers: Workers, entry: Entry) -> None:
        try:
            workers.check(entry.base, entry.candidate)
            found = workers.measure(entry.base, entry.candidate)
        except Refused as error:
            entry.refused = str(error)
            return
        except Blamed as error:
            entry.trouble, entry.broken = str(error), error.candidate
            return
        was, now = (Measurement.from_json(found[side]) for side in ("a", "b"))
        now = replace(now, facts={**now.facts, "base": self.sides.base.label})
        self.pairs[entry.name] = Pair(now, entry.limits, was, self.age_s)

    def _judge_accuracy(self, entries: Sequence[Entry]) -> None:
        judged = judge_suite({one.name: self.pairs[one.name] for one in entries if one.name in self.pairs}, against=True)
        for entry in entries:
            if entry.refused is not None:
                continue
            if entry.name in judged:
                found = conclusions.beside(judged[entry.name])
                judged[entry.name] = replace(found, findings=(*found.findings, *conclusions.recovered(entry)))
            else:
                judged[entry.name] = conclusions.unmeasured(entry, self.ended)
                note = judged[entry.name].findings[0].note
                nothing = Measurement(case=entry.candidate, fingerprint=Fingerprint(), unmeasured=note)
                self.pairs[entry.name] = Pair(nothing, entry.limits, None)
            self.verdicts[entry.name] = judged[entry.name]
        self._read_examples(entries)
        for entry in entries:
            if entry.name in self.verdicts:
                self.keep(entry, self.pairs[entry.name], self.verdicts[entry.name])

    def _read_examples(self, entries: Sequence[Entry]) -> None:
        """The texts of the examples that went wrong, under the finding that lists their ids. They are the data's and say
        nothing of the candidate: where they cannot be had, the ids stand alone."""
        wrong = [one for one in entries if one.name in self.verdicts and examples.to_read(self.verdicts[one.name])]
        if not wrong or self.ended is not None:
            return
        try:
            with self.sides.opened() as workers:
                for entry in wrong:
                    self._read(entry, workers)
        except KeyboardInterrupt:
            self.ended = STOPPED
        except (Blamed, TrialError) as error:
            self.say(f"examples that went wrong are shown without their texts: {error}")

    def _read(self, entry: Entry, workers: Workers) -> None:
        verdict, pair = self.verdicts[entry.name], self.pairs[entry.name]
        now, was = (None if one is None else one.outcomes for one in (pair.candidate, pair.baseline))
        if now is not None:
            texts = workers.texts(entry.candidate, examples.to_read(verdict))
            self.verdicts[entry.name] = examples.read(verdict, texts, now, was)

    # -- latency

    def _latency(self, entries: Sequence[Entry]) -> None:
        watcher = sampler()
        passes = Passes(entries, self.sides.opened, self.rules, self.time_s, self.screened, self._visited, self.watch, self.say)
        passes.watcher, passes.threads = watcher, int(self.sides.given.get("threads", 1))
        try:
            # Stopped before the first pass: the cases are told of all the same.
            standings = passes.run() if self.ended is None else {}
            self.ended = self.ended or passes.ended
            for entry in entries:
                if entry.refused is None:
                    self._conclude(entry, self._verdict(entry, standings.get(entry.name)))
            if not self.interrupted:
                self._recheck(entries, watcher, passes.threads)
                self._explain(entries)
        except KeyboardInterrupt:
            self.ended = self.ended or STOPPED
        finally:
            watcher.close()

    def _verdict(self, entry: Entry, standing: Standing | None) -> Verdict:
        """The finding against the base, then those about promises, then whether a worker was lost."""
        found = conclusions.verdict(entry, standing, self.rules, self.ended)
        promised = conclusions.promised(entry, self._pair(entry))
        return replace(found, findings=(*found.findings, *promised, *conclusions.recovered(entry)))

    def _recheck(self, entries: Sequence[Entry], watcher: Sampler, threads: int) -> None:
        """Counts confirmed regressions in clock cycles, where the clock is known: one of the clock alone is no regression."""
        for entry in entries:
            finding = self.verdicts[entry.name].findings[0] if entry.name in self.verdicts else None
            if finding is None or finding.status != "regressed" or not clocks.known(entry):
                continue
            try:
                with self.sides.opened() as workers:
                    slower = clocks.slowdown_in_cycles(entry, workers, watcher, threads)
            except (Blamed, Refused, TrialError) as error:
                self._amend(entry, finding.status, f"not counted in clock cycles: {error}")
                continue
            if slower is None:
                self._amend(entry, finding.status, "not counted in clock cycles: the clock was not known any more")
            else:
                self._amend(entry, *conclusions.in_cycles(entry, slower, self.rules))

    def _amend(self, entry: Entry, status: str, note: str) -> None:
        finding = self.verdicts[entry.name].findings[0]
        self._replace(entry, replace(finding, status=status, note=f"{finding.note}; {note}"))

    def _replace(self, entry: Entry, finding: Finding) -> None:
        """Another finding against the base."""
        verdict = self.verdicts[entry.name]
        self._conclude(entry, replace(verdict, findings=(finding, *verdict.findings[1:])))

    def _explain(self, entries: Sequence[Entry]) -> None:
        """Profiles the worst regressions on both sides; the worst alone where the run has no time left. A test of
        pytest-benchmark is a call of anything, and has no operators."""
        if not self.explained:
            return
        programs = [one for one in entries if one.candidate.test is None and one.name in self.verdicts and one.visits]
        slower = [(self.verdicts[one.name].findings[0], one) for one in programs]
        slower = [(finding, entry) for finding, entry in slower if finding.status == "regressed"]
        slower.sort(key=lambda one: -(one[0].observed or 0.0))
        worst = slower[: explaining.EXPLAINED if self.ended is None else 1]
        for done, (finding, entry) in enumerate(worst):
            self.watch(Moment("explain", 0, done, len(worst), 0, entry.name, None))
            text, table = explaining.explained(entry, self.sides.opened())
            self._replace(entry, replace(finding, note=f"{finding.note}; {text}", details=table))

    def _visited(self, entry: Entry, workers: Workers) -> None:
        """What is known should this process end now."""
        if _machine(entry) not in self._prints:
            found = workers.fingerprints(entry.candidate.device)
            self._prints[_machine(entry)] = {side: Fingerprint.from_json(one) for side, one in found.items()}
        self._sizes[entry.name] = dict(workers.sizes)
        self._conclude(entry, conclusions.cut_off(entry))

    def _conclude(self, entry: Entry, verdict: Verdict) -> None:
        pair = self._pair(entry)
        self.pairs[entry.name], self.verdicts[entry.name] = pair, verdict
        self.keep(entry, pair, verdict)

    def _pair(self, entry: Entry) -> Pair:
        prints = self._prints.get(_machine(entry), {})
        sizes, loops = self._sizes.get(entry.name), self.sides.loops.get(entry.name)
        return replace(conclusions.pair(entry, prints, self.sides.base.label, sizes, loops), age_s=self.age_s)


def _machine(entry: Entry) -> tuple[str, bool]:
    """What entries have in common that are measured on one machine, under one set-up of it."""
    return entry.candidate.device, entry.candidate.test is not None
