"""Two sides that measure nothing: what they are told to say, with seeded noise, on a clock of their own."""

import contextlib
import math
import random

from pytest_perfq.core.case import Case
from pytest_perfq.core.spec import Spec
from pytest_perfq.trials.entry import Entry
from pytest_perfq.trials.opened import Blamed, Lost, Refused
from pytest_perfq.trials.passes import Passes

BASE_NS = 1_000_000


def case(number=0, model="m", **fields):
    given = {"task": Spec("feather"), "dataset": "d", "model": model, "model_name": model, "backend": Spec("plume"),
             "device": "cpu", "batch_size": number + 1, "seq_len": 8, **fields}  # fmt: skip
    return Case(**given)


def entries(count, models=("m",), limits=()):
    """So many, dealt out to the models in turn."""
    cases = [case(number, models[number % len(models)]) for number in range(count)]
    return [Entry(f"test.py::{one.id}", one, one, tuple(limits)) for one in cases]


class Side:
    def __init__(self, pair, name, entry_name):
        self.pair, self.name, self.entry = pair, name, entry_name

    def warm(self):
        self.pair.first = self.pair.first or self.name
        return [BASE_NS, BASE_NS]

    def block(self, rounds, settle):
        script = self.pair.script
        script.act("time", self.entry, self.name)
        factor = math.exp(self.pair.ratio) if self.name == "b" else 1.0
        return [BASE_NS], [round(BASE_NS * factor)] * rounds


class Pair:
    """A pair of workers, as the scheduler sees it. sizes: bytes of each side's program."""

    sizes = {}

    def __init__(self, script, number):
        self.script, self.number, self.first, self.ratio = script, number, "", 0.0
        self.at = None

    def prepare(self, base, candidate):
        self.script.pass_time()
        self.at, self.first = candidate.id, ""
        self.script.act("prepare", candidate.id, "b")
        slower, sd = self.script.slower.get(candidate.id, 0.0), self.script.sd
        self.ratio = math.log1p(slower) + self.script.dice.gauss(0.0, sd)
        self.script.log.append((self.number, candidate.id, self.ratio))

    def audit(self):
        self.script.act("audit", self.at, "b")

    def sides(self):
        return {name: Side(self, name, self.at) for name in "ab"}


class Script:
    """slower: case -> slow-down. sd: of a visit, ln. does: (what, case) -> list of exceptions, one for each time. loops: case ->
    calls a round, of tests of pytest-benchmark."""

    def __init__(self, slower=None, sd=0.005, seed=0, visit_s=1.0, start_s=5.0):
        self.slower, self.sd, self.dice = slower or {}, sd, random.Random(seed)
        self.visit_s, self.start_s, self.now = visit_s, start_s, 0.0
        self.does, self.log, self.opened_pairs, self.loops = {}, [], 0, {}

    def clock(self):
        return self.now

    def pass_time(self):
        self.now += self.visit_s

    def act(self, what, name, side):
        due = self.does.get((what, name)) or self.does.get((what, "any"))
        if due:
            error = due.pop(0)
            if error is not None:
                raise error

    @contextlib.contextmanager
    def opened(self):
        self.act("start", "any", "")
        self.opened_pairs += 1
        self.now += self.start_s
        yield Pair(self, self.opened_pairs)


def blamed(candidate=True):
    return Blamed("it cannot be built", candidate)


def lost(candidate=True):
    return Lost("the worker of x was ended by SIGKILL", candidate)


def refused():
    return Refused("main refuses it: no such thing")


def run(script, found, **given):
    """Passes over these entries: (scheduler, standings, sentences)."""
    said = []
    scheduler = Passes(found, script.opened, clock=script.clock, say=said.append, **given)
    return scheduler, scheduler.run(), said


def statuses(standings):
    return [one.status for one in standings.values()]
