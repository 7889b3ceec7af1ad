"""The controller's memory of a run: the store, the baseline to save, the lines of the summary. Writes alone.

Knows no pytest: the plugin hands it plain records and prints what it returns. Nothing here decides.
"""

from __future__ import annotations

import dataclasses
import shlex
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_perfq.arguments import DEFAULT_STORE
from pytest_perfq.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_perfq.core.measurement import Measurement
    from pytest_perfq.core.verdict import Verdict
    from pytest_perfq.settings import Settings
    from pytest_perfq.store import Store


class Recorder:
    """Remembers every judged item of a run, one transaction a case. Every method but `lines` may raise PerfqError."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._store: Store | None = None
        self._run: str | None = None
        self._name = ""
        self._walk: tuple[str, ...] | None = None
        self._judged: dict[str, tuple[Measurement, Verdict]] = {}
        self._passed_by: Counter[str] = Counter()
        self._collected = True
        self._whole = True
        self._interrupted = False
        self._saved: str | None = None
        self._aged: list[str] = []
        self._seen: str | None = None
        self._unjudged: list[str] = []
        self._taken_up = False
        self._kept = 0

    def open(self, items: int | None = None) -> None:
        """Opens the store and begins a run in it, or takes up the unfinished one. Does nothing the second time. items: how
        many will be judged, None where this process cannot know."""
        if self._run is not None:
            return
        self._collected = items is not None
        import tempfile

        from pytest_perfq.store import Store

        try:
            self.settings.cache.mkdir(parents=True, exist_ok=True)
            # Permission bits do not tell: the folder may be another user's, or on a file system that takes no files.
            with tempfile.TemporaryFile(dir=self.settings.cache):
                pass
        except OSError as error:
            raise UsageError(
                f"the cache folder {self.settings.cache} cannot be used: {error}; give another with --perf-cache"
            ) from error
        store = Store.open(self.settings.store)
        measuring = self.settings.measuring() | {"items": items, "strict": self.settings.strict}
        try:
            unfinished = store.last_unfinished_run() if self.settings.resume else None
            self._taken_up = unfinished is not None
            if unfinished is not None:
                _same_settings(unfinished.settings, measuring)
                store.resume_run(unfinished.id)
                # Resuming a part of a run must not close the whole of it.
                self._whole = not items or items >= (unfinished.settings.get("items") or 0)
            self._run = store.begin_run(sys.argv, measuring) if unfinished is None else unfinished.id
        except BaseException:
            store.close()
            raise
        self._store, self._name = store, store.name

    def walk(self, nodeids: Sequence[str]) -> None:
        """The items in the order they were collected, which is that of the summary. Where nobody says it and this process
        did not collect them itself, they finish in an order of chance, and the summary sorts them by their names."""
        self._walk = tuple(nodeids)

    def remember(self, nodeid: str, record: dict[str, Any]) -> None:
        """Stores the record of one judged item: {"measurement", "verdict", "resumed", "attempt"}, plain JSON."""
        from pytest_perfq.core.measurement import Measurement
        from pytest_perfq.core.verdict import Verdict

        self.open()
        assert self._store is not None and self._run is not None
        self._kept += bool(record["resumed"])
        if not record["resumed"]:
            self._store.record(self._run, nodeid, record["measurement"], record["verdict"], attempt=record["attempt"])
        measurement = Measurement.from_json(record["measurement"])
        if self.settings.save is None:
            # The summary needs no predictions, and a sweep of thousands would fill the memory with them.
            measurement = dataclasses.replace(measurement, outcomes=None, original_outcomes=None)
        self._judged[nodeid] = (measurement, Verdict.from_json(record["verdict"]))

    def pass_by(self, reason: str) -> None:
        """Counts an item that was skipped for a reason of ours."""
        self._passed_by[reason] += 1

    def finish(self, interrupted: bool) -> None:
        """Closes the store. A whole run is finished and saved as the baseline asked for; an interrupted one stays
        unfinished, to be resumed."""
        if self._store is None or self._run is None:
            return
        self._interrupted = interrupted
        try:
            self._aged, self._seen = self._last_valid(), self._visible()
            if not interrupted:
                if self._whole:
                    self._store.finish_run(self._run)
                self._unjudged = self._left_out()
                if self.settings.save is not None and self._judged:
                    self._save(self.settings.save)
        finally:
            self._store.close()
            self._store = None

    def _save(self, folder: str) -> None:
        from pytest_perfq import baselines

        measurements, verdicts = zip(*self._judged.values(), strict=True)
        provenance = {"run": self._run, "command": command(sys.argv)}
        path = baselines.save(
            folder, list(measurements), list(verdicts), overwrite=self.settings.overwrite, provenance=provenance
        )  # fmt: skip
        from pytest_perfq.report.ending import saved

        self._saved = saved(verdicts, path)

    def _last_valid(self) -> list[str]:
        """How long ago cases that have no valid timing in this run had one."""
        assert self._store is not None
        bad = [
            one.case.id
            for one, verdict in self._judged.values()
            if one.case.kind == "latency" and (not one.visits or verdict.status == "invalid")
        ]
        if not bad:
            return []
        from pytest_perfq.report.ending import aged

        return aged([time.time() - at_s for at_s in self._store.last_valid(bad).values()])

    def _left_out(self) -> list[str]:
        """That cases of the baseline had no verdict, where it is so."""
        against, run = self.settings.against, self._run
        if against is None or run is None:
            return []
        from pytest_perfq import baselines
        from pytest_perfq.report.ending import unjudged

        judged = {verdict.case_id for _, verdict in self._judged.values()}
        return unjudged(judged, [*baselines.load(against)], against, f"{run}{self._option()}")

    def _visible(self) -> str | None:
        """What slow-downs can be seen here, where somebody compares and the cases were calibrated."""
        assert self._store is not None
        timed = {one.case.id: one.fingerprint.key for one, _ in self._judged.values() if one.visits}
        if self.settings.against is None and self.settings.vs is None:
            return None
        known = {machine: self._store.calibrations(machine) for machine in set(timed.values())}
        found = [known[machine][name].deviation for name, machine in timed.items() if name in known[machine]]
        if not found:
            return None
        from pytest_perfq.report.seen import range_seen

        return range_seen(found, len(timed))

    def lines(self, width: int) -> list[str]:
        """The summary, one entry a line or block of lines; empty when nothing of ours ran."""
        from pytest_perfq.report.folding import wrap

        found = [*self._tables(width), *(part for sentence in self._sentences() for part in wrap(sentence, width))]
        if self._run is not None:
            # On a line of its own, however long, to be copied.
            found.append(f"  perfq report {self._run}{self._option()}")
        return found

    def _tables(self, width: int) -> list[str]:
        if not self._judged:
            return []
        from pytest_perfq.report.terminal import summary

        return [summary(self._walked(), width, self._names())]

    def _names(self) -> list[str]:
        """The items that were judged, in the order of the walk."""
        from pytest_perfq.report.order import in_walk

        walk = self._judged if self._walk is None and self._collected else self._walk or ()
        return in_walk({name: one.case for name, (one, _) in self._judged.items()}, walk)

    def _walked(self) -> list[tuple[Measurement, Verdict]]:
        """What they were judged to be."""
        return [self._judged[name] for name in self._names()]

    def _sentences(self) -> list[str]:
        found = [f"{number} {reason}" for reason, number in sorted(self._passed_by.items())]
        if self._seen is not None:
            found.append(self._seen)
        found += self._aged
        if self.settings.resume and self._run is not None:
            from pytest_perfq.report.ending import resumed

            found.append(resumed(self._kept, len(self._judged), self._taken_up))
        if self.settings.against is not None and self._run is not None:
            from pytest_perfq.report.ending import new

            found += new(self._walked(), self.settings.against, self._run, self._saved is not None)
        found += self._unjudged
        improved = sum(verdict.status == "improved" for _, verdict in self._judged.values())
        if improved and self.settings.against is not None and self._run is not None:
            found.append(
                f"{improved} {'case has' if improved == 1 else 'cases have'} improved; make this run the baseline, so that the "
                f"gain is kept, with: perfq accept {self._run} {self.settings.against} --overwrite"
            )
        if self._interrupted or not self._whole:
            found.append("this run is unfinished: the same command with --perf-resume measures what is missing")
        if self.settings.save is not None and self._run is not None:
            found.append(self._saved or f"no baseline was saved as {self.settings.save}")
        if self._run is not None:
            found.append(f"run {self._run} is in {self._name}; again with:")
        return found

    def _option(self) -> str:
        """What `perfq` must be told to look into the store of this run; nothing where it looks there by itself."""
        if Path(self._name) == Path(DEFAULT_STORE).resolve():
            return ""
        # A password is never shown, so that the name of a store with one cannot be given back.
        return f" --store {self._name}" if "***" not in self._name else " with PERFQ_STORE set to that URL"


def command(argv: Sequence[str]) -> str:
    """A command line as people type it: the program by its name."""
    program = Path(argv[0]).name if argv else ""
    return shlex.join(["pytest" if program in ("__main__.py", "pytest.py") else program, *argv[1:]])


def check(settings: Settings) -> None:
    """Raises PerfqError for a baseline to judge against that is missing or torn, for a revision to confirm by that is not
    there, and for a place to save that is taken: all would otherwise be found out late, or not at all."""
    from pytest_perfq import baselines

    if settings.against is not None:
        baselines.load(settings.against)
    if settings.confirm is not None:
        from pytest_perfq.trials import revisions

        revisions.check(settings.confirm, Path.cwd(), f", or leave out --perf-confirm={settings.confirm}")
    if settings.save is not None:
        if not settings.overwrite:
            baselines.check_free(settings.save)
        try:
            Path(settings.save).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--perf-save is {settings.save}, whose folder cannot be made: {error}; give another") from error


def check_replaced(folder: str, left_out: Sequence[str]) -> None:
    """Raises UsageError where the baseline in `folder` has cases that the suite has and this run leaves out: nobody would miss
    them later. What the suite has no longer may go."""
    from pytest_perfq import baselines
    from pytest_perfq.baselines.layout import META
    from pytest_perfq.report.apart import few

    if not (Path(folder) / META).is_file():
        return
    known = baselines.load(folder)
    if gone := [name for name in left_out if name in known]:
        raise UsageError(
            f"--perf-overwrite would put this run in the place of {folder}, which has {len(known)} cases, {len(gone)} of them "
            f"deselected here: {few(gone)}; run the whole suite, or save under another name"
        )


def _same_settings(stored: dict[str, Any], given: dict[str, Any]) -> None:
    for name in sorted({*stored, *given} - {"items", "strict"}):
        if stored.get(name) != given.get(name):
            raise UsageError(
                f"--perf-resume: the unfinished run was measured with {name}={stored.get(name)!r} and this one asks for "
                f"{given.get(name)!r}; give the same options, or start a new run without --perf-resume"
            )
