"""Timed calls are held against the way accuracy is measured: programs that are fast because they compute nothing are told."""

import numpy as np
import pytest
from making import case

from pytest_perfq.contracts import Batch
from pytest_perfq.errors import ProgramError
from pytest_perfq.materials import Built
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


def audited(program, rounds=5):
    call = timed_call(case(0), Built(program, 0), batch(0), batch(1))
    call.audit()  # nothing was timed yet
    for _ in range(rounds):
        call()
    call.audit()
    return call


@pytest.mark.parametrize("program", [Honest(), Perturbed()])
def test_a_program_that_computes_passes(program):
    call = audited(program)
    np.testing.assert_allclose(call.output["logits"], np.sin(batch(0).arrays["input_ids"]).sum(-1, keepdims=True), rtol=1e-4)


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
    call.output = {"logits": call.expected["logits"][:1]}
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
    wrong = Replaying()
    wrong.replay = lambda feed: {"logits": np.zeros((2, 1), np.float32)}  # a graph that writes nowhere
    with pytest.raises(ProgramError, match=r"gave other logits in its timed calls than where its accuracy is measured"):
        audited(wrong)
