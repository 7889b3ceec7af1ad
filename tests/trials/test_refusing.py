"""A configuration that no case can have is told of before a run is begun; one that some cannot have is not."""

from dataclasses import replace

import pytest
from scripted import case

from pytest_perfq.core.quantization import Dynamic
from pytest_perfq.core.spec import Spec
from pytest_perfq.errors import ProgramError, TrialError, UsageError
from pytest_perfq.trials import refusing
from pytest_perfq.trials.entry import Entry
from pytest_perfq.trials.environment import Environment

EAGER, NATIVE = Spec("eager"), Spec("native")


class Asked:
    """A worker. says: case id -> reasons, or what asking raises; no reasons for others. asked: the ids, in their order."""

    def __init__(self, says):
        self.says, self.asked, self.given = says, [], None

    def __call__(self, environment, given):
        self.environment, self.given = environment, given
        return self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def ask(self, do, limit_s, case):
        assert do == "refuses"
        self.asked.append(case["id"])
        found = self.says.get(case["id"], [])
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture
def check(monkeypatch):
    """Asks about entries: (the sentence that ends the session or None, the worker)."""

    def check(entries, says, text="backend=eager"):
        worker = Asked(says)
        monkeypatch.setattr(refusing, "Worker", worker)
        try:
            refusing.check(entries, Environment(label="this run"), {"threads": 1}, text)
        except UsageError as error:
            return str(error), worker
        return None, worker

    return check


def beside(count, **fields):
    """Cases beside their own under eager."""
    cases = [case(number, **fields) for number in range(count)]
    return [Entry(f"t.py::{one.id}", replace(one, backend=EAGER), one) for one in cases]


def test_every_base_refused_is_one_sentence_with_the_variation_the_reason_and_the_next_step(check):
    entries = beside(3)
    told, worker = check(entries, {one.base.id: ["eager is not there: install it"] for one in entries})
    assert told == (
        "--perf-vs is 'backend=eager', and all 3 cases are refused in that configuration: eager is not there: install it; "
        "give another configuration, or leave --perf-vs out"
    )
    assert worker.given == {"threads": 1}
    told, _ = check(entries[:1], {entries[0].base.id: ["no"]})
    assert "and the only case is refused in that configuration: no; give another" in told


def test_the_first_case_that_can_be_compared_ends_the_questions(check):
    entries = beside(4)
    told, worker = check(entries, {entries[0].base.id: ["too short"]})
    assert told is None
    assert worker.asked == [entries[0].candidate.id, entries[0].base.id, entries[1].candidate.id, entries[1].base.id]


def test_a_case_that_is_refused_itself_counts_for_nothing(check):
    """It is not measured at all: that its base would be leaves nothing to compare it with."""
    first, second = beside(2)
    says = {first.candidate.id: ["this machine has no such GPU"], second.base.id: ["no"]}
    told, worker = check([first, second], says)
    assert told.startswith("--perf-vs is 'backend=eager', and the only case is refused in that configuration: no;")
    assert first.base.id not in worker.asked
    # Where all of them are, their items say so, and the configuration is not to blame.
    assert check([first], says)[0] is None


def test_reasons_that_differ_are_counted_after_two(check):
    entries = beside(4)
    reasons = ["first", "second", "first", "third"]
    told, _ = check(entries, {one.base.id: [reason] for one, reason in zip(entries, reasons, strict=True)})
    assert "configuration: first; second; and 1 more reason; give another configuration" in told


def test_quantized_cases_are_sent_to_their_original_where_that_is_something_else(check):
    entries = beside(1, quantization=Dynamic("MatMul"))
    says = {entries[0].base.id: ["eager cannot"]}
    assert check(entries, says)[0].endswith(
        ": eager cannot; hold quantized cases beside their fp32 original: --perf-vs=original"
    )
    assert check(entries, says, "original")[0].endswith(": eager cannot; give another configuration, or leave --perf-vs out")
    mixed = [*entries, *beside(1, backend=NATIVE)]
    says[mixed[1].base.id] = ["eager cannot"]
    assert check(mixed, says)[0].endswith("; give another configuration, or leave --perf-vs out")


def test_options_that_the_backend_does_not_have_are_its_reason_and_what_breaks_is_left_to_the_run(check):
    (entry,) = beside(1)
    told, _ = check([entry], {entry.base.id: UsageError("this run: backend 'eager' has no option 'leevel'")})
    assert "in that configuration: backend 'eager' has no option 'leevel'; give another" in told
    for broken in (ProgramError("this run: ZeroDivisionError"), TrialError("the worker of this run was ended by SIGSEGV")):
        assert check([entry], {entry.base.id: broken})[0] is None
