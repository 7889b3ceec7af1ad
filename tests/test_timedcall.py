"""Timed calls are held against the way accuracy is measured: programs that are fast because they compute nothing are told."""

import itertools

import numpy as np
import pytest
from making import case

from pytest_perfq.contracts import Batch
from pytest_perfq.errors import ProgramError
from pytest_perfq.materials import Built
from pytest_perfq.stopwatch import CpuClock, Local
from pytest_perfq.timedcall import timed_call


def batch(seed):
    ids = np.random.default_rng(seed).integers(5, 99, size=(2, 8))
    return Batch({"input_ids": ids, "attention_mask": np.ones_like(ids)}, (8, 8))


class Honest:
    """Logits that follow from the ids."""

    def feed(self, batch):
        return batch.arrays["input_ids"].astype(np.float32)

    def run(self, feed):
        return {"logits": np.sin(feed).sum(-1, keepdims=True)}

    def fetch(self, output):
        return output

    def synchronize(self):
        pass

    def close(self):
        pass


class Stale(Honest):
    """Computes once and gives that ever after, as an output buffer that nobody writes to."""

    kept = None

    def run(self, feed):
        self.kept = self.kept or super().run(feed)
        return self.kept


class Skipping(Honest):
    """Takes a short cut from its third call on: a path that the accuracy run never took."""

    calls = 0

    def run(self, feed):
        self.calls += 1
        return super().run(feed if self.calls < 3 else feed[:, :2])


class Perturbed(Honest):
    """Its sums come in another order each time."""

    def run(self, feed):
        return {"logits": super().run(feed)["logits"] * np.float32(1 + 1e-6)}


class Refilled(Honest):
    """Is given other words where its feed lies."""

    def refill(self, feed, batch):
        feed[:] = batch.arrays["input_ids"]


class Memo(Refilled):
    """Keeps the answers of the feeds that it has seen."""

    made = 0

    def __init__(self):
        self.kept = {}

    def run(self, feed):
        if id(feed) not in self.kept:
            self.made += 1
            self.kept[id(feed)] = feed, super().run(feed)
        return self.kept[id(feed)][1]


class Rare(Honest):
    """Computes its first calls, and one in ten of those that follow."""

    calls = 0

    def run(self, feed):
        self.calls += 1
        if self.calls > 4 and self.calls % 10:
            return {"logits": np.zeros((2, 1), np.float32)}
        return super().run(feed)


class Buffered(Honest):
    """Writes every output to one place, as a CUDA graph does; `late` of them never arrive there."""

    def __init__(self, late=()):
        self.buffer, self.late, self.calls = np.zeros((2, 1)), late, 0

    def run(self, feed):
        self.calls += 1
        if self.calls not in self.late:
            self.buffer[:] = super().run(feed)["logits"]
        return {"logits": self.buffer}

    def fetch(self, output):
        return {"logits": output["logits"].astype(np.float32)}


def audited(program, rounds=5):
    call = timed_call(case(0), Built(program, 0), batch(0), batch(1))
    call.audit()  # nothing was timed yet
    side = Local(call, CpuClock())
    side.warm()
    side.block(rounds, settle=False)
    call.audit()
    return call


@pytest.mark.parametrize("program", [Honest(), Perturbed(), Refilled(), Buffered()])
def test_a_program_that_computes_passes(program):
    call = audited(program, rounds=50)
    logits = np.sin(call.feed).sum(-1, keepdims=True)
    np.testing.assert_allclose(program.fetch(call.output)["logits"], logits, rtol=1e-4)
    for known in call.known:
        np.testing.assert_allclose(
            known.expected["logits"], np.sin(known.batch.arrays["input_ids"]).sum(-1, keepdims=True), rtol=1e-4
        )
    call()  # that nobody times, such as those that energy is known from
    call.audit()
    assert call.feeding == "other words in every call"


@pytest.mark.parametrize("made", [Honest, Refilled])
def test_every_timed_call_is_given_other_words_of_the_same_work(made):
    program, given = made(), []
    run = program.run
    program.run = lambda feed: given.append(feed.copy()) or run(feed)
    audited(program, rounds=78)
    predicted, timed = [one.tobytes() for one in given[:2]], given[2:-1]  # less one call of the audit
    fresh = [one.tobytes() for one in timed if one.tobytes() not in predicted]
    # One in eight is looked at, beside the very first.
    assert len(timed) == 80 and len(fresh) == len({*fresh}) and len(timed) - len(fresh) in (10, 11)
    assert all(one.tobytes() != other.tobytes() for one, other in itertools.pairwise(timed))
    words = {*batch(0).arrays["input_ids"].flat, *batch(1).arrays["input_ids"].flat}
    assert {one.shape for one in timed} == {(2, 8)} and {*np.concatenate(timed).flat} <= words


def test_one_call_is_all_that_the_clock_sees():
    program, seen = Honest(), []
    run, feed, fetch = program.run, program.feed, program.fetch
    program.run = lambda given: seen.append("run") or run(given)
    program.feed = lambda given: seen.append("feed") or feed(given)
    program.fetch = lambda given: seen.append("fetch") or fetch(given)
    call = timed_call(case(0), Built(program, 0), batch(0), batch(1))

    class Clock:
        def time_ns(self, call):
            seen.append("start")
            call()
            seen.append("end")
            return 1

    seen.clear()
    Local(call, Clock()).block(5, settle=False)
    assert "".join(one[0] + one[-1] for one in seen).count("strned") == 5


def test_a_program_that_keeps_its_answers_is_told():
    program = Memo()
    with pytest.raises(ProgramError, match=r"gave other logits in its timed calls than where its accuracy is measured"):
        audited(program, rounds=1000)


def test_what_is_kept_of_the_last_words_is_computed_in_every_timed_call():
    class LastWords(Honest):
        last, made = None, 0

        def run(self, feed):
            if not np.array_equal(feed, self.last):
                self.last, self.kept, self.made = feed.copy(), super().run(feed), self.made + 1
            return self.kept

    program = LastWords()
    audited(program, rounds=1000)
    assert program.made == 2 + 1002 + 1


def test_a_program_that_skips_most_timed_calls_is_told():
    with pytest.raises(ProgramError, match=r"gave other logits in its timed calls than where its accuracy is measured"):
        audited(Rare(), rounds=996)


# Two predictions, two warm-ups and fifty rounds: all stale but the first, every second one, and the one that follows them.
@pytest.mark.parametrize("late", [range(4, 55), range(3, 56, 2), (55,)])
def test_an_output_that_does_not_arrive_is_told(late):
    with pytest.raises(ProgramError, match=r"gave other logits in its timed calls than where its accuracy is measured"):
        audited(Buffered(late), rounds=50)


def test_calls_are_looked_at_all_over_the_visit():
    call, looked = timed_call(case(0), Built(Honest(), 0), batch(0), batch(1)), []
    fetch = call.built.program.fetch
    for number in range(1000):
        call.built.program.fetch = lambda output, number=number: looked.append(number) or fetch(output)
        call()
        call.turn()
    # One in each stretch of eight, as long as all are kept.
    assert [number // 8 for number in looked[:8]] == list(range(8)) and len({number % 8 for number in looked}) > 4
    assert 15 < len(looked) < 50 and max(looked) > 500


def test_a_stale_output_buffer_is_told():
    with pytest.raises(
        ProgramError, match=r"b1/s32 gives the same logits for two different batches: an output is stale or kept"
    ):
        audited(Stale())


def test_a_path_that_only_the_timing_takes_is_told():
    with pytest.raises(ProgramError, match=r"gave other logits in its timed calls than where its accuracy is measured"):
        audited(Skipping())


def test_logits_that_are_not_finite_are_told_before_anything_is_timed():
    program = Honest()
    program.run = lambda feed: {"logits": np.full((2, 1), np.nan, dtype=np.float32)}
    with pytest.raises(ProgramError, match=r"gives 2 of 2 logits that are not finite; its timings would mean nothing"):
        timed_call(case(0), Built(program, 0), batch(0), batch(1))


def test_an_output_of_another_shape_is_told():
    program = Honest()
    call = timed_call(case(0), Built(program, 0), batch(0), batch(1))
    call()
    program.fetch = lambda output: {"logits": output["logits"][:1]}
    with pytest.raises(ProgramError, match=r"differ by inf of the largest"):
        call.audit()


class Replaying(Honest):
    """Replays what it recorded, for the one feed that it recorded."""

    recorded = None

    def feed(self, batch):
        return [super().feed(batch)]

    def record(self, feed):
        self.recorded = feed

    def run(self, feed):
        return self.replay(feed) if feed is self.recorded else super().run(feed[0])

    def replay(self, feed):
        return super().run(feed[0])


def test_the_feed_that_is_timed_is_recorded_and_held_against_what_is_not():
    program = Replaying()
    call = audited(program)
    assert program.recorded is call.feed
    assert call.feeding == "the same words in every call: the program records one feed and cannot refill it"
    wrong = Replaying()
    wrong.replay = lambda feed: {"logits": np.zeros((2, 1), np.float32)}  # a graph that writes nowhere
    with pytest.raises(ProgramError, match=r"gave other logits in its timed calls than where its accuracy is measured"):
        audited(wrong)


def test_a_recorded_feed_that_can_be_refilled_is_given_other_words():
    program, replayed = Replaying(), []
    replay = program.replay
    program.refill = lambda feed, batch: feed[0].__setitem__(..., batch.arrays["input_ids"])
    program.replay = lambda feed: replayed.append(feed[0].tobytes()) or replay(feed)
    call = audited(program)
    assert program.recorded is call.feed and call.feeding == "other words in every call"
    assert len(replayed) == 2 + 5 + 1 and len({*replayed}) >= 7
    # A graph that reads a copy of what it was recorded with.
    stale = Replaying()
    stale.refill = lambda feed, batch: None
    with pytest.raises(ProgramError, match=r"gave other logits in its timed calls than where its accuracy is measured"):
        audited(stale)


def test_several_processes_are_sent_one_feed():
    program = Honest()
    call = timed_call(case(0, backend="native", tp=2), Built(program, 0), batch(0), batch(1))
    feed = call.feed
    call()
    call.turn()
    assert call.feed is feed
    assert call.feeding == "the same words in every call: other processes are sent a feed once, and sending it would be timed"
