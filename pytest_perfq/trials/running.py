"""A whole run of trials: accuracy once on each side, then latency in passes. Measures and judges; prints and stores nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from pytest_perfq.core.finding import Finding, Verdict
from pytest_perfq.core.fingerprint import Fingerprint
from pytest_perfq.core.measurement import Measurement
from pytest_perfq.core.rules import Rules
from pytest_perfq.core.verdict import Pair, judge_suite
from pytest_perfq.errors import TrialError
from pytest_perfq.trials import conclusions
from pytest_perfq.trials.conclusions import Ended
from pytest_perfq.trials.entry import Entry
from pytest_perfq.trials.passes import Blamed, Moment, Passes, by_model
from pytest_perfq.trials.sides import Sides, Workers

# Told of every entry whenever something new is known of it.
Keep = Callable[[Entry, Pair, Verdict], None]


@dataclass(slots=True)
class Trials:
    """Both sides of some cases against each other. time_s: of the latency part, None for as long as it takes. keep: told of
    every entry whenever it gained a measurement. watch, say: see passes.Passes."""

    entries: Sequence[Entry]
    sides: Sides
    rules: Rules = field(default_factory=Rules)
    time_s: float | None = None
    keep: Keep = lambda entry, pair, verdict: None
    watch: Callable[[Moment], None] = lambda moment: None
    say: Callable[[str], None] = lambda line: None
    pairs: dict[str, Pair] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    interrupted: bool = False
    _prints: dict[str, dict[str, Fingerprint]] = field(default_factory=dict)

    def run(self) -> None:
        """Fills pairs and verdicts, by the candidate's id. A Ctrl-C ends it with what there is."""
        accuracy = [one for one in self.entries if one.candidate.kind == "accuracy"]
        try:
            for group in by_model(accuracy):
                self._accuracy(group)
        except KeyboardInterrupt:
            self.interrupted = True
        self._judge_accuracy(accuracy)
        if not self.interrupted:
            self._latency([one for one in self.entries if one.candidate.kind == "latency"])

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
            except TrialError as error:
                if not waiting:
                    raise
                waiting.pop(0).trouble = str(error)

    def _evaluate(self, workers: Workers, entry: Entry) -> None:
        try:
            workers.check(entry.base, entry.candidate)
            found = workers.measure(entry.base, entry.candidate)
        except Blamed as error:
            entry.trouble, entry.broken = str(error), error.candidate
            return
        was, now = (Measurement.from_json(found[side]) for side in ("a", "b"))
        # Where the sides differ by an axis the base's case is another, and its outcomes are what it is all about.
        self.pairs[entry.name] = Pair(replace(now, facts={**now.facts, "base": self.sides.base.label}), entry.limits, was)

    def _judge_accuracy(self, entries: Sequence[Entry]) -> None:
        mine = {one.name: self.pairs[one.name] for one in entries if one.name in self.pairs}
        self.verdicts |= judge_suite(mine, against=True)
        for entry in entries:
            if entry.name not in mine:
                note = entry.trouble or "stopped before it was evaluated"
                status = "fail" if entry.broken else "invalid" if entry.trouble else "inconclusive"
                finding = Finding(rule="build" if entry.broken else "measured", status=status, note=note)
                self.verdicts[entry.name] = Verdict(entry.name, (finding,), entry.limits)
                self.pairs[entry.name] = Pair(
                    Measurement(case=entry.candidate, fingerprint=Fingerprint(), unmeasured=note), entry.limits, None
                )
            self.keep(entry, self.pairs[entry.name], self.verdicts[entry.name])

    # -- latency

    def _latency(self, entries: Sequence[Entry]) -> None:
        passes = Passes(entries, self.sides.opened, self.rules, self.time_s, watch=self.watch, say=self.say)
        passes.kept = self._visited
        standings = passes.run()
        self.interrupted = passes.interrupted
        why = "Ctrl-C stopped the run" if passes.interrupted else "the time given was used up" if passes.late else None
        for entry in entries:
            ended = Ended(passes.stage_of(entry), why)
            self._conclude(entry, conclusions.verdict(entry, standings.get(entry.name), self.rules, ended))

    def _visited(self, entry: Entry, workers: Workers) -> None:
        """What is known should this process end now."""
        device = entry.candidate.device
        if device not in self._prints:
            found = workers.fingerprints(device)
            self._prints[device] = {side: Fingerprint.from_json(one) for side, one in found.items()}
        self._conclude(entry, conclusions.cut_off(entry))

    def _conclude(self, entry: Entry, verdict: Verdict) -> None:
        prints = self._prints.get(entry.candidate.device, {"a": Fingerprint(), "b": Fingerprint()})
        pair = conclusions.pair(entry, prints["a"], prints["b"], self.sides.base.label)
        self.pairs[entry.name], self.verdicts[entry.name] = pair, verdict
        self.keep(entry, pair, verdict)
