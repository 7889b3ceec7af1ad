"""`perfq calibrate`: what it measures, stores, prints and refuses, on two sides that say what they are told."""

import contextlib
import re

import numpy as np
import pytest
from making import MACHINE, accuracy
from scripted import Pair, Script, blamed, case, refused

from pytest_perfq.cli import calibrate as command_of
from pytest_perfq.cli import main
from pytest_perfq.core.conditions import Conditions
from pytest_perfq.core.rules import RULES, Rules
from pytest_perfq.store import Store
from pytest_perfq.trials.calibration import deviations
from pytest_perfq.trials.entry import Collected

pytestmark = pytest.mark.usefixtures("alone")
STORE = "calibrated.db"


class Watcher:
    """Sees the clock step in the visits of these numbers, counted from the first."""

    def __init__(self, disturbed=()):
        self.disturbed, self.seen, self.closed = disturbed, 0, False

    def begin(self, **given):
        assert given["threads"] == 1 and not self.closed
        self.seen += 1

    def end(self):
        step = -3.0 if self.seen in self.disturbed else 0.0
        return Conditions(duration_s=1.0, readings=9, clock_step_s=step)

    def close(self):
        self.closed = True


class Measured(Pair):
    def fingerprints(self, device):
        return {side: MACHINE.to_json() for side in "ab"}


class Both(Script):
    """The two sides of one environment. cases: that it has."""

    def __init__(self, cases, **given):
        super().__init__(**given)
        self.cases = [Collected(f"test.py::{one.id}", one) for one in cases]

    def collected(self, words):
        return self.cases, self.cases

    @contextlib.contextmanager
    def opened(self):
        self.opened_pairs += 1
        yield Measured(self, self.opened_pairs)


@pytest.fixture
def calibrate(tmp_path, monkeypatch, capsys):
    """Runs the command on scripted sides: (status, output, errors)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    said = {"cache": "cache", "data": None, "pickle": False, "threads": 1}
    monkeypatch.setattr(command_of, "settings", lambda environment, words: said)

    def run(sides, *words, watcher=None):
        monkeypatch.setattr(command_of, "Sides", lambda *given: sides)
        monkeypatch.setattr(command_of, "sampler", lambda: watcher or Watcher())
        with pytest.raises(SystemExit) as done:
            main(["calibrate", "suites", "--store", STORE, *words])
        output, errors = capsys.readouterr()
        return done.value.code, output, errors

    return run


def stored():
    with Store.open(STORE, readonly=True) as store:
        return store.calibrations(MACHINE.key)


def ratios(sides):
    found = {}
    for _, name, ratio in sides.log:
        found.setdefault(name, []).append(ratio)
    return found


def moderated(values):
    """Of each case, by hand: its own variance over n - 1, leaning on that of the others as if those were three (Smyth 2004)."""
    found = {}
    for name, own in values.items():
        prior = np.mean([np.var(others, ddof=1) for other, others in values.items() if other != name])
        found[name] = np.sqrt((3 * prior + (len(own) - 1) * np.var(own, ddof=1)) / (3 + len(own) - 1))
    return found


def test_every_case_is_visited_beside_itself_and_the_spread_is_stored(calibrate):
    sides = Both([case(number) for number in range(3)], sd=0.02, seed=5)
    status, output, _ = calibrate(sides, "--visits", "5")
    found, expected = stored(), moderated(ratios(sides))
    assert status == 0 and {one.visits for one in found.values()} == {5} and sides.opened_pairs == 5
    # A block is rounded to whole nanoseconds.
    assert {name: one.deviation for name, one in found.items()} == pytest.approx(expected, rel=1e-3)
    rows = [line.split() for line in output.splitlines() if "plume@cpu" in line and ": " not in line]
    assert [(row[0], row[1], row[2]) for row in rows] == [
        (name, "5", f"{found[name].deviation:.1%}") for name in (one.case.id for one in sides.cases)
    ]
    worst = max(found, key=lambda name: found[name].deviation)
    assert re.search(rf"{re.escape(worst)}: a \+\d+\.\d% slow-down of this case is caught with 90%", output)
    assert "stopped" not in output and "fewer than" not in output


def test_the_spread_of_visits_leans_on_that_of_the_others_and_one_visit_has_none():
    dice = np.random.default_rng(1)
    values = {str(number): dice.normal(0.0, 0.01 * (1 + number), 6).tolist() for number in range(4)}
    assert deviations(values, RULES) == pytest.approx(moderated(values), rel=1e-9)
    assert set(deviations({**values, "once": [0.3]}, RULES)) == set(values)
    # Alone, its own is all there is; and visits that agree to the last digit show a coarse clock.
    assert deviations({"a": values["2"]}, RULES)["a"] == pytest.approx(np.std(values["2"], ddof=1))
    assert deviations({"a": [0.0] * 4}, RULES) == {"a": Rules().smallest_sd}


def test_a_case_of_two_items_is_calibrated_once(calibrate):
    sides = Both([case(0), case(0)], sd=0.01)
    assert calibrate(sides, "--visits", "4")[0] == 0
    assert len(sides.log) == 4 and [one.visits for one in stored().values()] == [4]


@pytest.mark.parametrize("visits", [1, 7, 11])
def test_what_was_stopped_too_early_stores_nothing(calibrate, visits):
    """Eleven visits of four cases: none has the four that it needs."""
    sides = Both([case(number) for number in range(4)], sd=0.02)
    sides.does["prepare", "any"] = [None] * visits + [KeyboardInterrupt()]
    status, output, errors = calibrate(sides)
    assert status == 3 and output == "" and stored() == {}
    assert errors.splitlines()[-1] == "perfq: nothing was calibrated: Ctrl-C stopped the run"


def test_what_was_stopped_later_stores_what_has_visits_enough_and_says_so(calibrate):
    sides = Both([case(number) for number in range(3)], sd=0.02)
    sides.does["prepare", "any"] = [None] * 10 + [KeyboardInterrupt()]
    status, output, _ = calibrate(sides)
    assert status == 2 and list(stored()) == [case(0).id] and stored()[case(0).id].visits == 4
    assert output.splitlines()[-2:] == [
        "2 of 3 cases have fewer than 4 visits and no calibration: Ctrl-C stopped the run",
        "Ctrl-C stopped the run before every case had its 6 visits; calibrate again for the rest",
    ]
    assert case(1).id not in output


@pytest.mark.parametrize("error, why", [(blamed(), "it cannot be built"), (refused(), "main refuses it: no such thing")])
def test_a_case_that_cannot_be_measured_is_named_and_the_others_are_calibrated(calibrate, error, why):
    sides = Both([case(number) for number in range(3)], sd=0.02)
    sides.does["prepare", case(1).id] = [None, error]
    status, output, _ = calibrate(sides, "--visits", "4")
    assert status == 0 and set(stored()) == {case(0).id, case(2).id}
    assert output.splitlines()[-1] == f"1 of 3 cases has fewer than 4 visits and no calibration: {why}"


def test_a_disturbed_visit_is_repeated_and_the_watcher_ended(calibrate):
    sides, watcher = Both([case(0)], sd=0.01), Watcher(disturbed=(2,))
    status, _, errors = calibrate(sides, "--visits", "4", watcher=watcher)
    assert status == 0 and watcher.seen == 5 and watcher.closed
    assert "a disturbed visit is made again: the clock stepped by -3.0 s during the visit" in errors


def test_a_case_whose_visits_are_always_disturbed_has_no_calibration(calibrate):
    status, _, errors = calibrate(Both([case(0)]), watcher=Watcher(disturbed=range(99)))
    assert status == 3 and stored() == {}
    assert "perfq: nothing was calibrated: 3 visits were disturbed, the last since the clock stepped by -3.0 s" in errors


@pytest.mark.parametrize(
    "cases, words, sentence",
    [
        ([case(0)], ["--visits", "3"], "--visits is 3; fewer than 4 say little of how far visits differ"),
        ([accuracy([1]).case], [], "none of the 1 cases is a latency case; name suites that have some"),
    ],
)
def test_what_is_asked_wrongly_is_one_sentence(calibrate, cases, words, sentence):
    status, output, errors = calibrate(Both(cases), *words)
    assert (status, output, errors) == (3, "", f"perfq: {sentence}\n")
