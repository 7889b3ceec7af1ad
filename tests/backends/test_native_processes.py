"""The native backend over several processes: one model, and what is told when one of them fails."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
import tolerance
from native_programs import SHAPES, build, compiles
from tiny_models import eager_logits, make_batch, make_model

from pytest_perfq.core.quantization import Dynamic, Static
from pytest_perfq.errors import BuildError, ProgramError

TASK = "token-classification"


@compiles
def test_four_processes_are_one_model(lasting_resources):
    """Two shards of each of two stages, by eager and by one process."""
    model = make_model("bert", TASK)
    one, four = build(model, lasting_resources, task=TASK), build(model, lasting_resources, task=TASK, tp=2, pp=2)
    try:
        assert four.facts.items() >= {"processes": 4, "threads": 1, "padding": "removed"}.items()
        for lengths, columns in SHAPES:
            batch = make_batch(model, lengths, columns)
            feed = four.feed(batch)
            outputs = [four.fetch(four.run(feed))["logits"] for _ in range(2)]
            np.testing.assert_array_equal(*outputs)
            mask = batch.arrays["attention_mask"].astype(bool)
            for wanted in (eager_logits(model, batch), one.predict(batch)):
                assert float(np.abs(outputs[0] - wanted["logits"])[mask].max()) <= tolerance.MODEL
            assert not outputs[0][~mask].any()
    finally:
        four.close()


@compiles
def test_shards_in_dynamic_int8_round_by_scales_of_their_own(lasting_resources):
    """So they are near one process, and not the same; stages change no scale."""
    model = make_model("bert", TASK)
    fields = {"task": TASK, "quantization": Dynamic()}
    one, two = build(model, lasting_resources, **fields), build(model, lasting_resources, tp=2, **fields)
    try:
        for lengths, columns in SHAPES:
            batch = make_batch(model, lengths, columns)
            got, wanted = two.predict(batch)["logits"], one.predict(batch)["logits"]
            assert 0.0 < float(np.abs(got - wanted).max()) <= tolerance.SPLIT["dynamic"]
            assert not got[~batch.arrays["attention_mask"].astype(bool)].any()
    finally:
        two.close()


@compiles
def test_stages_and_int8_over_processes(lasting_resources):
    model = make_model("bert", TASK)
    batch = make_batch(model, (30, 12), 30)
    batches = [make_batch(model, (20, 9), 30)]
    fields = {"task": TASK, "quantization": Static(mode="v2"), "calibration": lambda: iter(batches)}
    several = build(model, lasting_resources, pp=2, **fields)
    try:
        alone = build(model, lasting_resources, **fields).predict(batch)
        np.testing.assert_array_equal(several.predict(batch)["logits"], alone["logits"])
    finally:
        several.close()


@compiles
def test_what_fails_in_a_process_is_told(lasting_resources):
    model = make_model("bert", "question-answering")
    program = build(model, lasting_resources, pp=2)
    batch = make_batch(model, (9, 4), 9)
    batch.arrays["input_ids"][0, 0] = 10**6
    with pytest.raises(ProgramError, match=r"^process [01] of 2 of the native encoder failed: .*1000000"):
        program.predict(batch)


@compiles
def test_processes_that_do_not_come_up_are_given_up(lasting_resources, monkeypatch):
    from pytest_perfq.backends._native import workers

    monkeypatch.setattr(workers, "START_LIMIT_S", 0.001)
    with pytest.raises(BuildError) as caught:
        build(make_model("bert", "question-answering"), lasting_resources, tp=2)
    assert str(caught.value) == (
        "process 0 of 2 of the native encoder said nothing for 0.001 s; run it with tp and pp 1 to see whether it lasts"
    )


@compiles
def test_a_process_that_dies_is_named_and_close_ends_all(lasting_resources):
    model = make_model("bert", "question-answering")
    program = build(model, lasting_resources, tp=2)
    feed = program.feed(make_batch(model, (9, 4), 9))
    workers = program._shut.__self__
    processes = [process.pid for process in workers._processes]
    os.kill(processes[1], signal.SIGKILL)
    with pytest.raises(ProgramError, match=r"^process 1 of 2 of the native encoder ended with exit status -9; run it with"):
        program.run(feed)
    for pid in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    program.close()
