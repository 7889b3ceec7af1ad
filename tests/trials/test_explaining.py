"""Why a regression is one: what is profiled, how often and in which order; what is told where nothing can be."""

import sys
import tempfile
from types import SimpleNamespace

import pytest
from scripted import Script, case, entries
from throwaway import Project, variables

from pytest_perfq.core.finding import Finding, Verdict
from pytest_perfq.core.fingerprint import Fingerprint
from pytest_perfq.core.measurement import Samples
from pytest_perfq.core.spec import Spec
from pytest_perfq.core.trial import TrialVisit
from pytest_perfq.core.verdict import overruled
from pytest_perfq.device.lock import device_lock
from pytest_perfq.device.sampler import Blind
from pytest_perfq.errors import TrialError
from pytest_perfq.report.explain import explain, reasons
from pytest_perfq.trials import explaining, running
from pytest_perfq.trials.ahead import Ahead
from pytest_perfq.trials.beforehand import _finding
from pytest_perfq.trials.entry import Entry
from pytest_perfq.trials.environment import Environment
from pytest_perfq.trials.opened import Lost
from pytest_perfq.trials.passes import STOPPED
from pytest_perfq.trials.running import Trials
from pytest_perfq.trials.sides import Sides

MS = 1_000_000
BASE = {"FusedAttention": (1, 500_000), "Gelu": (2, 80_000)}
SLOW = {"MatMul": (3, 800_000), "Memcpy": (2, 120_000), "Gelu": (2, 80_000)}


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A folder for temporary files of its own: nobody else's timing holds the device."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    device_lock.cache_clear()
    # Nor does anybody watch what the machine does meanwhile.
    monkeypatch.setattr(running, "sampler", lambda: Blind("not watched in these tests"))
    yield
    device_lock.cache_clear()


def visited(entry, a_ns=MS, b_ns=MS + 420_000):
    entry.confirm = [
        TrialVisit(number, "confirm", "a", Samples((a_ns,) * 3), Samples((b_ns + number,) * 3)) for number in range(3)
    ]
    return entry


class Pair:
    """Profiles as told, one a call and in that order."""

    def __init__(self, a, b):
        self.told, self.asked = {"a": a, "b": b}, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def prepare(self, base, candidate):
        self.prepared = (base, candidate)

    def profile(self, side, calls):
        self.asked.append((side, calls))
        found = self.told[side]
        if isinstance(found, list):
            found = found[sum(one == side for one, _ in self.asked) - 1]
        if isinstance(found, Exception):
            raise found
        return found if found is None else {name: (count * calls, ns * calls) for name, (count, ns) in found.items()}


@pytest.fixture
def entry():
    return visited(entries(1)[0])


def test_both_sides_are_profiled_alternately_and_the_table_has_both(entry):
    pair = Pair(BASE, SLOW)
    text, table = explaining.explained(entry, pair)
    assert text == "+0.42 ms: FusedAttention became 3 MatMul (+0.3 ms), 2 new Memcpy (+0.12 ms)"
    assert [side for side, _ in pair.asked] == ["a", "b", "b", "a", "a", "b"]
    assert {calls for _, calls in pair.asked} == {20}
    assert [line.split()[0] for line in table] == ["operator", "MatMul", "FusedAttention", "Memcpy"]
    assert pair.prepared == (entry.base, entry.candidate)


def test_one_disturbed_profile_of_three_does_not_show(entry):
    disturbed = {**SLOW, "Gelu": (2, 90 * MS)}
    text, _ = explaining.explained(entry, Pair(BASE, [SLOW, disturbed, SLOW]))
    assert text == explaining.explained(entry, Pair(BASE, SLOW))[0]


def test_slow_programs_are_called_less(entry):
    pair = Pair(BASE, SLOW)
    explaining.explained(visited(entry, 400 * MS, 490 * MS), pair)
    assert {calls for _, calls in pair.asked} == {2}
    pair = Pair(BASE, SLOW)
    explaining.explained(visited(entry, 9_000 * MS, 8_000 * MS), pair)
    assert {calls for _, calls in pair.asked} == {1}


@pytest.mark.parametrize(
    "a, b, told",
    [
        (None, SLOW, "not explained: programs of backend plume cannot be profiled"),
        (BASE, None, "not explained: programs of backend plume cannot be profiled"),
        (BASE, {}, "not explained: nothing of d/m/plume@cpu/fp32/b1/s8 runs as an operator of its own process"),
        (BASE, Lost("the worker of x was ended by SIGKILL", True), "not explained: the worker of x was ended by SIGKILL"),
    ],
)
def test_what_cannot_be_explained_says_why(entry, a, b, told):
    assert explaining.explained(entry, Pair(a, b)) == (told, ())


# ---- within a run


class Told:
    """Sides whose workers are scripted pairs that can be profiled."""

    def __init__(self, script, profile=None):
        self.script, self.profile, self.profiled = script, profile or self.plain, []
        self.base, self.given, self.loops = SimpleNamespace(label="main"), {"threads": 1}, {}

    def plain(self, side, calls):
        found = BASE if side == "a" else SLOW
        return {name: (count * calls, ns * calls) for name, (count, ns) in found.items()}

    def opened(self):
        return self

    def __enter__(self):
        self.stack = self.script.opened()
        pair = self.stack.__enter__()
        pair.fingerprints = lambda device: {side: Fingerprint().to_json() for side in "ab"}
        pair.profile = lambda side, calls: self.profiled.append((pair.at, side)) or self.profile(side, calls)
        return pair

    def __exit__(self, *error):
        return self.stack.__exit__(*error)


def run(slower, count=8, **fields):
    """Trials of so many cases, the first slower ones slower by these fractions."""
    mine = entries(count)
    script = Script({one.name: by for one, by in zip(mine, slower, strict=False)})
    sides = Told(script, fields.pop("profile", None))
    trials = Trials(mine, sides, **fields)
    trials.run()
    return trials, sides


def test_every_regression_is_explained_in_its_finding_and_nothing_else():
    trials, sides = run([0.4, 0.5])
    status = {name: one.status for name, one in trials.verdicts.items()}
    slow = [name for name, one in status.items() if one == "regressed"]
    assert slow == [one.name for one in trials.entries[:2]] and set(status.values()) == {"regressed", "pass"}
    # The worst one first.
    assert list(dict.fromkeys(name for name, _ in sides.profiled)) == slow[::-1]
    finding = trials.verdicts[slow[0]].findings[0]
    assert "; +0.4" in finding.note and "FusedAttention became 3 MatMul" in finding.note and finding.details
    assert all(not one.findings[0].details for name, one in trials.verdicts.items() if name not in slow)
    assert finding.observed == pytest.approx(0.4, abs=0.05)


def test_only_the_worst_are_explained():
    trials, sides = run([0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9], count=12)
    names = [one.name for one in trials.entries]
    assert sum(one.status == "regressed" for one in trials.verdicts.values()) == 7
    assert list(dict.fromkeys(name for name, _ in sides.profiled)) == names[6:1:-1]


def test_nothing_is_profiled_where_nothing_regressed():
    trials, sides = run([])
    assert sides.profiled == [] and {one.status for one in trials.verdicts.values()} == {"pass"}


def test_a_lost_worker_leaves_the_verdict_as_it_is():
    def lost(side, calls):
        raise TrialError("the worker of main did not answer 'profile' within 300 s and was ended")

    trials, _ = run([0.5], profile=lost)
    finding = trials.verdicts[trials.entries[0].name].findings[0]
    assert finding.status == "regressed" and trials.ended is None
    assert finding.note.endswith("; not explained: the worker of main did not answer 'profile' within 300 s and was ended")


def test_a_ctrl_c_while_explaining_keeps_every_verdict():
    def stopped(side, calls):
        raise KeyboardInterrupt

    trials, _ = run([0.5, 0.4], profile=stopped)
    assert trials.ended == STOPPED
    assert [one.status for one in trials.verdicts.values()].count("regressed") == 2


def test_the_details_stand_under_their_finding_and_are_kept():
    finding = Finding(rule="slowdown", status="regressed", observed=0.4, note="why", details=("operator  ms", "MatMul  0.9"))
    verdict = Verdict("c", (finding,))
    assert reasons(verdict)[1:] == ["  operator  ms", "  MatMul  0.9"]
    assert explain(verdict).splitlines()[2:] == ["    operator  ms", "    MatMul  0.9"]
    assert Verdict.from_json(verdict.to_json()) == verdict
    assert "details" not in Finding(rule="slowdown", status="pass").to_json()


def test_a_failed_item_shows_what_was_found_before_it(tmp_path):
    found = Finding(
        rule="slowdown", status="regressed", observed=0.4, note="why; +0.4 ms: MatMul", details=("operator", "MatMul")
    )
    Ahead(decided={"c": (found,)}).write(tmp_path / "ahead.json")
    (kept,) = Ahead.read(tmp_path / "ahead.json").decided["c"]
    told = reasons(overruled(Verdict("c", (Finding(rule="slowdown", status="inconclusive"),)), [_finding(kept, "main")]))
    assert told[0].startswith("regressed: slow-down from the baseline +40.0%; against main, why; +0.4 ms: MatMul ->")
    assert told[1:] == ["  operator", "  MatMul"]


# ---- real workers

MODULE = """\
import sys
import torch
class Layers(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = torch.nn.Linear(8, 64), torch.nn.Linear(64, 2)
    def forward(self, input_ids, attention_mask):
        hidden = torch.tanh(self.up(input_ids.float()))
        {more}
        return (self.down(hidden).sum(1) if hidden.ndim == 3 else self.down(hidden),)
sys.modules[__name__] = Layers()
"""


def project(path, more):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables().items():
            patch.setenv(name, value)
        found = Project(path)
    found.write(layers=MODULE.format(more=more))
    return Environment(label=path.name, python=sys.executable, folder=path, variables=variables(TMPDIR=str(path)))


@pytest.mark.slow
def test_an_operator_added_to_a_model_is_named_by_real_workers(tmp_path):
    base = project(tmp_path / "main", "pass")
    change = project(tmp_path / "change", "hidden = hidden + torch.erfinv(torch.full((400, 400), 0.3)).mean()")
    sides = Sides(base, change, {"cache": str(tmp_path / "cache"), "threads": 1})
    one = case(backend=Spec("eager"), dataset="synthetic", task=Spec("feather"))
    text, table = explaining.explained(visited(Entry("t", one, one), MS, MS + 1000), sides.opened())
    assert "1 new erfinv" in text, text
    row = next(line for line in table if line.startswith("erfinv"))
    assert row.split()[1:3] == ["0", "1"]
