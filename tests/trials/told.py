"""Workers that say what they are told about three cases, and passes over those."""

import dataclasses

import pytest
from making import MACHINE, latency

from pytest_perfq.trials import ahead
from pytest_perfq.trials.entry import Collected
from pytest_perfq.trials.environment import Environment

WHOLE = {one.case.id: one for one in (latency(number, visits=4) for number in range(3))}
NAMES = list(WHOLE)


class Told:
    """Worker after worker, on a clock of their own; every visit that they make is the last one of WHOLE. machine: of all of them.
    does: case id -> what its visits raise, one after the other; None: nothing. limits: that the visits were given."""

    def __init__(self, machine=MACHINE, start_s=0.0, visit_s=0.0):
        self.machine, self.start_s, self.visit_s, self.now = machine, start_s, visit_s, 0.0
        self.does, self.log, self.starts, self.limits = {}, [], 0, []

    def clock(self):
        return self.now

    def __call__(self, environment, given):
        self.starts += 1
        self.now += self.start_s
        return self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def ask(self, do, limit_s, case, **fields):
        name = next(one for one, whole in WHOLE.items() if whole.case.to_json() == case)
        if do == "refuses":
            return []
        self.now += self.visit_s
        self.limits.append(limit_s)
        due = self.does.get(name)
        if due and (error := due.pop(0)) is not None:
            raise error
        self.log.append(name)
        whole = WHOLE[name]
        return dataclasses.replace(whole, visits=(whole.visits[3],), fingerprint=self.machine).to_json()


def measured(told, begun=None, passes=3, **given):
    """Passes of what was begun, case id -> visits of it: (the passes, sentences, moments, kept)."""
    said, moments, kept = [], [], []
    items = [Collected(f"t.py::{name}", whole.case) for name, whole in WHOLE.items()]
    before = {
        name: dataclasses.replace(WHOLE[name], visits=WHOLE[name].visits[:number]) for name, number in (begun or {}).items()
    }
    found = ahead.InPasses(
        items, Environment(label="this run"), {}, passes, {}, watch=moments.append, say=said.append, kept=kept.append,
        begun=before, clock=told.clock, **given,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ahead, "Worker", told)
        found.run()
    return found, said, moments, kept


def visits(found):
    """Case id -> how many visits were made of it."""
    return {name: len(one.visits) for name, one in found.found.measurements.items()}
