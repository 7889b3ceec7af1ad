"""A whole run of trials on sides that say what they are told: accuracy and latency together, stopped and broken in each."""

import contextlib
from types import SimpleNamespace

import pytest
from making import MACHINE, accuracy
from scripted import Pair, Script, blamed, case, lost, refused

from pytest_perfq.cli import storing
from pytest_perfq.core.measurement import Visit
from pytest_perfq.errors import TrialError
from pytest_perfq.report.explain import explain
from pytest_perfq.store import Store
from pytest_perfq.trials import passes
from pytest_perfq.trials.entry import Entry
from pytest_perfq.trials.running import Trials

RIGHT = [1] * 90 + [0] * 10


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """Nothing is timed here: no other run need wait, and nobody watch."""
    monkeypatch.setattr(passes, "watched", lambda attempt, watcher, **given: (attempt(), None))
    monkeypatch.setattr(passes, "device_lock", lambda device: SimpleNamespace(write_lock=contextlib.nullcontext))


class Whole(Pair):
    """Workers that also evaluate: `script.right` tells what the candidate gets right."""

    def check(self, base, candidate):
        self.script.act("check", candidate.id, "")

    def measure(self, base, candidate):
        self.script.act("measure", candidate.id, "")
        right = self.script.right.get(candidate.id, RIGHT)
        return {
            side: accuracy(values, RIGHT, number=base.samples - 1000).to_json() for side, values in (("a", RIGHT), ("b", right))
        }

    def texts(self, candidate, ids):
        self.script.act("texts", candidate.id, "b")
        return {one: f"the text of {one}" for one in ids}

    def fingerprints(self, device):
        return {"a": MACHINE.to_json(), "b": MACHINE.to_json()}


class Both(Script):
    base, given = SimpleNamespace(label="main"), {"threads": 1}
    right = {}

    @contextlib.contextmanager
    def opened(self):
        self.act("start", "any", "")
        self.opened_pairs += 1
        yield Whole(self, self.opened_pairs)


def mixed(scored=2, timed=2):
    cases = [accuracy(RIGHT, RIGHT, number=number).case for number in range(scored)] + [case(number) for number in range(timed)]
    return [Entry(f"test.py::{one.id}", one, one) for one in cases]


def run(sides, entries, **given):
    kept = []
    trials = Trials(entries, sides, keep=lambda entry, pair, verdict: kept.append((entry.name, verdict.status)), **given)
    trials.run()
    return trials, kept


def statuses(trials, entries):
    return [trials.verdicts[one.name].status for one in entries if one.name in trials.verdicts]


def test_accuracy_is_judged_before_anything_is_timed_and_all_is_kept():
    entries, moments = mixed(), []
    sides = Both(sd=0.003)
    sides.right = {entries[1].name: [0] * 8 + RIGHT[8:]}
    trials, kept = run(sides, entries, watch=moments.append)
    assert statuses(trials, entries) == ["pass", "regressed", "pass", "pass"] and trials.ended is None
    assert [one.stage for one in moments[:3]] == ["accuracy", "accuracy", "screen"]
    assert kept[:2] == [(entries[0].name, "pass"), (entries[1].name, "regressed")]
    # Nobody saved a baseline here that could be saved anew.
    assert all(one.note.startswith("side by side") for one in trials.verdicts[entries[1].name].findings)
    # After every visit something is kept, should the process end now; in the end the verdicts.
    assert kept[2:8] == [(one.name, "inconclusive") for _ in range(3) for one in entries[2:]]
    assert kept[8:] == [(one.name, "pass") for one in entries[2:]]
    timed = trials.pairs[entries[2].name]
    assert timed.candidate.facts["base"] == "main" and len(timed.candidate.visits) == 3
    assert timed.candidate.visits[0].base.durations_ns == timed.baseline.visits[0].case.durations_ns
    assert timed.candidate.fingerprint == MACHINE == timed.baseline.fingerprint


def test_examples_that_went_wrong_are_shown_with_their_texts_as_those_of_pytest_are():
    entries, sides = mixed(2, 0), Both()
    sides.right = {entries[1].name: [0] * 8 + RIGHT[8:]}
    trials, _ = run(sides, entries)
    (lost,) = [one for one in trials.verdicts[entries[1].name].findings if one.details]
    now, was = (
        one.outcomes.predictions for one in (trials.pairs[entries[1].name].candidate, trials.pairs[entries[1].name].baseline)
    )
    ids = trials.pairs[entries[1].name].candidate.outcomes.ids
    assert lost.examples == ids[:8] and len(lost.details) == 5
    assert lost.details[0] == f"{ids[0]} 'the text of {ids[0]}' -> {now[0]!r}, was {was[0]!r}"
    text = explain(trials.verdicts[entries[1].name])
    assert all(f"    {one}" in text.splitlines() for one in lost.details)


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (lost(), "examples that went wrong are shown without their texts: the worker of x was ended by SIGKILL"),
        (blamed(), "examples that went wrong are shown without their texts: it cannot be built"),
    ],
)
def test_texts_that_cannot_be_had_cost_no_verdict(trouble, told):
    entries, sides, said = mixed(1, 1), Both(sd=0.003), []
    sides.right = {entries[0].name: [0] * 8 + RIGHT[8:]}
    sides.does["texts", entries[0].name] = [trouble]
    trials, _ = run(sides, entries, say=said.append)
    assert statuses(trials, entries) == ["regressed", "pass"] and told in said
    assert not any(one.details for one in trials.verdicts[entries[0].name].findings)


def test_ctrl_c_while_texts_are_fetched_keeps_the_verdict():
    entries, sides = mixed(1, 1), Both()
    sides.right = {entries[0].name: [0] * 8 + RIGHT[8:]}
    sides.does["texts", entries[0].name] = [KeyboardInterrupt()]
    trials, _ = run(sides, entries)
    assert trials.interrupted and statuses(trials, entries) == ["regressed", "inconclusive"]


def test_a_run_that_is_cut_off_says_how_far_it_came():
    entries, notes = mixed(0, 1), []
    sides = Both({entries[0].name: 0.2}, sd=0.003)
    sides.does["prepare", entries[0].name] = [None] * 4 + [KeyboardInterrupt()]
    trials = Trials(entries, sides)
    trials.keep = lambda entry, pair, verdict: notes.append(verdict.findings[0].note)
    trials.run()
    assert notes[0] == "the run was cut off after 1 visit, while the case was screened"
    assert notes[3] == "the run was cut off after 4 visits, while the case was confirmed"
    assert (
        "3 visits to screen it and 1 fresh visit to" in notes[4]
        and "Ctrl-C stopped the run, while it was confirmed" in notes[4]
    )


class Killed(BaseException):
    """Nobody handles it, as nobody handles a power cut."""


def test_a_killed_run_has_every_visit_in_the_store_once(tmp_path):
    (entry,) = entries = mixed(0, 1)
    sides = Both({entry.name: 0.2}, sd=0.003)
    sides.does["prepare", entry.name] = [None] * 9 + [Killed()]
    trials = Trials(entries, sides)
    with Store.open(tmp_path / "it.db") as store, pytest.raises(Killed):
        storing.kept(store, trials, {"base": "main"})
    assert len(entry.screen) == 3 and len(entry.confirm) == 6
    with Store.open(tmp_path / "it.db", readonly=True) as store:
        run = store.run("last")
        found = store.records(run.id)
        sizes = [len(one) for (one,) in store._engine.connect().exec_driver_sql("SELECT visits FROM perfq_records").all()]
    assert [len(one.measurement["visits"]) for one in found] == list(range(1, 10)) and run.settings["trial"] == {"base": "main"}
    assert [Visit.from_json(one) for one in found[-1].measurement["visits"]] == [
        Visit(case=visit.b, base=visit.a) for visit in entry.visits
    ]
    assert found[-1].verdict["findings"][0]["note"] == "the run was cut off after 9 visits, while the case was confirmed"
    # Each row holds one visit: the last is no larger than the first.
    assert max(sizes) < 1.2 * min(sizes)


def test_ctrl_c_while_accuracy_is_evaluated_tells_of_every_case():
    entries, sides = mixed(), Both()
    sides.does["measure", entries[1].name] = [KeyboardInterrupt()]
    trials, kept = run(sides, entries)
    assert trials.interrupted and statuses(trials, entries) == ["pass"] + ["inconclusive"] * 3
    assert {name for name, _ in kept} == {one.name for one in entries} and sides.log == []
    notes = {trials.verdicts[one.name].findings[0].note for one in entries[1:]}
    assert notes == {"not measured: Ctrl-C stopped the run"}


@pytest.mark.parametrize(
    "errors, status, note",
    [
        ([blamed()], "fail", "it cannot be built"),
        ([blamed(False)], "invalid", "it cannot be built"),
        ([lost(), lost()], "fail", "the worker of x was ended by SIGKILL (twice)"),
        ([lost()], "inconclusive", ""),
        ([lost(False)], "pass", ""),
    ],
    ids=["candidate", "base", "twice", "once", "base once"],
)
def test_what_goes_wrong_with_accuracy_is_one_case_alone(errors, status, note):
    entries, sides = mixed(3, 0), Both()
    sides.does["measure", entries[1].name] = errors
    trials, _ = run(sides, entries)
    assert statuses(trials, entries) == ["pass", status, "pass"]
    if note:
        assert trials.verdicts[entries[1].name].findings[0].note == note
        assert trials.pairs[entries[1].name].candidate.unmeasured == note


@pytest.mark.parametrize("candidate, status", [(True, "inconclusive"), (False, "pass")])
@pytest.mark.parametrize("number, what", [(0, "measure"), (1, "time")], ids=["accuracy", "latency"])
def test_a_worker_lost_once_is_told_and_is_no_pass_where_it_was_the_candidates(candidate, status, number, what):
    entries, sides, said = mixed(1, 1), Both(sd=0.003), []
    sides.does[what, entries[number].name] = [lost(candidate)]
    trials, _ = run(sides, entries, say=said.append)
    sentence = (
        "the worker of x was ended by SIGKILL; the next process measured it: find out what ended the first, or run it again"
    )
    assert said == [f"{entries[number].name}: {sentence}"]
    assert statuses(trials, entries)[number] == status and statuses(trials, entries)[1 - number] == "pass"
    notes = [one.note for one in trials.verdicts[entries[number].name].findings if one.rule == "build"]
    assert notes == ([sentence] if candidate else [])
    # The numbers are as sound as any: the first finding is still that against the base.
    assert trials.verdicts[entries[number].name].findings[0].status == "pass"


def test_a_slower_candidate_that_was_lost_once_is_slower():
    (entry,) = entries = mixed(0, 1)
    sides = Both({entry.name: 0.3}, sd=0.003)
    sides.does["time", entry.name] = [None, lost()]
    trials, _ = run(sides, entries, explained=False)
    assert [one.status for one in trials.verdicts[entry.name].findings] == ["regressed", "inconclusive"]
    assert trials.verdicts[entry.name].status == "regressed"


def test_a_case_that_the_base_refuses_has_no_verdict():
    entries, sides = mixed(2, 1), Both(sd=0.003)
    sides.does["check", entries[0].name], sides.does["prepare", entries[2].name] = [refused()], [refused()]
    trials, kept = run(sides, entries)
    assert list(trials.verdicts) == [entries[1].name] == [name for name, _ in kept]
    assert entries[0].refused == entries[2].refused == "main refuses it: no such thing"


def test_a_side_that_cannot_start_ends_the_run_before_anything_was_measured():
    sides = Both()
    sides.does["start", "any"] = [TrialError("main: no such Python")]
    with pytest.raises(TrialError, match="main: no such Python"):
        run(sides, mixed())


def test_a_side_that_can_no_longer_start_leaves_the_rest_undecided():
    entries = mixed(2, 1)
    entries[1].candidate = entries[1].base = accuracy(RIGHT, RIGHT, number=1, model="another").case
    sides = Both()
    sides.does["start", "any"] = [None, TrialError("main: the disk is full")]
    trials, _ = run(sides, entries)
    assert trials.ended == "main: the disk is full" and not trials.interrupted
    assert sorted(statuses(trials, entries)) == ["inconclusive", "inconclusive", "pass"]
