"""One suite over every backend that the registry knows: what contracts.py promises, held against transformers itself."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from tiny_models import HEADS, eager_logits, make_batch, make_case, make_model, no_calibration

from pytest_perfq import registry
from pytest_perfq.core.case import DEVICES, PRECISIONS
from pytest_perfq.core.quantization import Quantization
from pytest_perfq.errors import UsageError
from pytest_perfq.materials import Built
from pytest_perfq.stopwatch import CpuClock, Local
from pytest_perfq.timedcall import timed_call

BACKENDS = sorted(registry.names("backend"))
SEVERAL = {"native"}  # run over several processes
# Rows of these lengths in batches of this many columns; none of them is a shape that a backend was traced or checked at.
SHAPES = [((6,), 6), ((9, 4), 9), ((1, 30, 12, 30), 30), ((64,), 64), ((20, 50), 60)]


def build(name, case, model, resources):
    backend = registry.load("backend", name)
    reasons = backend.refuses(case)
    if reasons:
        pytest.skip("; ".join(reasons))
    return backend.build(case, model, resources, no_calibration)


@pytest.fixture(scope="session")
def resources_of(shared_resources, lasting_resources):
    """The cache for a backend: native's kernels are the same for all its programs, and take most of a minute to build."""
    return lambda name: lasting_resources if name == "native" else shared_resources


# Compiling takes half a minute a model; one model shows what its backend promises, tracing and exporting show the rest.
ONE_MODEL = {"compile"}
CASES = [
    pytest.param(name, family, task, marks=[pytest.mark.slow] if name in ONE_MODEL else [])
    for name in BACKENDS
    for family in ("bert", "distilbert", "electra")
    for task in HEADS
    if name not in ONE_MODEL or (family, task) == ("bert", "question-answering")
]


@pytest.mark.parametrize(("name", "family", "task"), CASES)
def test_logits_are_those_of_transformers(name, family, task, resources_of):
    model = make_model(family, task)
    program = build(name, make_case(name, task), model, resources_of(name))
    for lengths, columns in SHAPES:
        batch = make_batch(model, lengths, columns)
        got = program.fetch(program.run(program.feed(batch)))
        program.synchronize()
        wanted = eager_logits(model, batch)
        assert list(got) == list(model.outputs)
        for output, true in wanted.items():
            assert got[output].dtype == np.float32
            assert got[output].shape == true.shape
            real = batch.arrays["attention_mask"].astype(bool) if true.shape[:2] == batch.shape else slice(None)
            np.testing.assert_allclose(got[output][real], true[real], atol=2e-5, rtol=2e-5)
    assert program.bytes > 0
    assert all(type(value) in (str, int, float, bool) for value in program.facts.values())
    program.close()


@pytest.mark.parametrize("name", sorted(set(BACKENDS) - ONE_MODEL))
def test_timed_calls_of_other_words_are_held_against_what_is_predicted(name, bert, resources_of):
    """The timed loop of a real program: refilled where it can be, fed anew where not."""
    program, case = build(name, make_case(name), bert, resources_of(name)), make_case(name)
    first, second = (make_batch(bert, (9, 4), 9, seed=seed) for seed in range(2))
    call = timed_call(case, Built(program, 0), first, second)
    feed, fetched, fetch = call.feed, [], program.fetch
    program.fetch = lambda output: fetched.append(fetch(output)) or fetched[-1]
    Local(call, CpuClock()).block(20, settle=False)
    call.audit()
    assert call.feeding == "other words in every call" and (call.feed is feed) == hasattr(program, "refill")
    # Those that were looked at gave what transformers gives, turn by turn.
    wanted = [eager_logits(bert, known.batch) for known in call.known]
    assert len(fetched) in (3, 4)
    for logits in fetched:
        output = bert.outputs[0]
        real = first.arrays["attention_mask"].astype(bool)
        assert any(np.allclose(logits[output][real], true[output][real], atol=2e-5) for true in wanted)
    program.close()


@pytest.mark.parametrize("name", BACKENDS)
def test_a_case_is_built_or_refused_with_reasons(name):
    backend = registry.load("backend", name)
    assert backend.name == name
    for device in DEVICES:
        for precision in PRECISIONS:
            reasons = backend.refuses(make_case(name, device=device, precision=precision))
            assert all(isinstance(reason, str) and ": " in reason for reason in reasons)
            if device == "cpu" and precision in ("tf32", "fp16"):
                assert len(reasons) == 1
    assert any("set both to 1" in reason for reason in backend.refuses(make_case(name, pp=2))) == (name not in SEVERAL)
    aware = Quantization(approach="aware")
    assert any(
        "use " in reason or reason.endswith(" ort can") for reason in backend.refuses(make_case(name, quantization=aware))
    )


@pytest.mark.parametrize("name", BACKENDS)
def test_unknown_options_are_mistakes(name):
    with pytest.raises(UsageError, match=f"unknown option of backend {name} 'speed'"):
        registry.load("backend", name).refuses(make_case(f"{name}[speed=11]"))


@pytest.mark.parametrize("name", sorted(set(BACKENDS) - ONE_MODEL))
def test_close_gives_the_program_back(name, bert, resources_of):
    program = build(name, make_case(name), bert, resources_of(name))
    held = program._session if hasattr(program, "_session") else program._call
    if name == "native":
        held = held.weights.layers[0].up.weight  # the frozen tree around it cannot be watched
    graph = weakref.ref(held)
    bare = held is bert.module  # the original is the module itself, which its model keeps
    del held
    program.close()
    gc.collect()
    assert (graph() is None) is not bare
