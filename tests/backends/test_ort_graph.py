"""CUDA graphs of onnxruntime: what sessions are told, and that a recorded feed gives what the session without a graph gives.

No GPU: providers' options are read from a recording of the session, and the walk of a recorded feed (a session of one shape, outputs
in buffers that stay) runs on onnxruntime's CPU provider, which takes it as it takes any.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from tiny_models import eager_logits, make_batch, make_case

from pytest_perfq import registry
from pytest_perfq.backends._onnx import export, graphs, options, placement, session
from pytest_perfq.backends._onnx.program import OrtProgram
from pytest_perfq.contracts import Batch
from pytest_perfq.errors import BuildError, ProgramError, UsageError
from pytest_perfq.materials import Built
from pytest_perfq.stopwatch import CpuClock, Local
from pytest_perfq.timedcall import timed_call

ORT = registry.load("backend", "ort")
CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
SIZES = (("batch", 2), ("sequence", 16))


@pytest.fixture(scope="module")
def path(bert, tmp_path_factory):
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    export.export(bert, 17, path)
    return path


def copied(batch):
    """Whose memory may be written to."""
    return Batch({name: values.copy() for name, values in batch.arrays.items()}, batch.lengths)


def recorded(bert, path):
    """A program whose feeds can be recorded; with the CPU's provider nothing is."""
    plan = session.Plan(placement.CPU, "fp32", 99, 1, graph=True)
    opened, _ = session.open_session(path, plan)
    return OrtProgram(opened, plan, (bert.inputs, bert.outputs), 0, path)


@pytest.mark.parametrize(
    ("provider", "key"), [(CUDA, "enable_cuda_graph"), (TENSORRT, "trt_cuda_graph_enable"), (placement.CPU, None)]
)
def test_only_the_session_of_one_shape_records(provider, key):
    free = session.Plan(provider, "fp16", 99, 1, graph=True)
    one = session.Plan(provider, "fp16", 99, 1, graph=True, sizes=SIZES)
    plain = session.Plan(provider, "fp16", 99, 1, sizes=SIZES)
    assert one.provider_options() == free.provider_options() | ({key: "1"} if key else {})
    assert free.provider_options() == plain.provider_options() == session.Plan(provider, "fp16", 99, 1).provider_options()


def test_tensorrt_keeps_engines_of_one_shape_alone(tmp_path):
    kept = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(tmp_path)}
    one = session.Plan(TENSORRT, "fp16", 99, 1, True, SIZES, tmp_path).provider_options()
    assert one == session.Plan(TENSORRT, "fp16", 99, 1, True, SIZES).provider_options() | kept
    free = session.Plan(TENSORRT, "fp16", 99, 1, True, engines=tmp_path).provider_options()
    assert not free.keys() & kept.keys()


def test_an_engine_is_kept_by_all_that_it_follows_from(path, tmp_path, monkeypatch):
    plan = session.Plan(TENSORRT, "fp16", 99, 1, True, SIZES)
    copy, other = tmp_path / "copy.onnx", tmp_path / "other.onnx"
    copy.write_bytes(path.read_bytes())
    other.write_bytes(path.read_bytes() + b" ")
    key = graphs.engine_key(path, plan, "NVIDIA L4 (8, 9)")
    assert graphs.engine_key(copy, plan, "NVIDIA L4 (8, 9)") == key
    others = [
        graphs.engine_key(other, plan, "NVIDIA L4 (8, 9)"),
        graphs.engine_key(path, plan, "NVIDIA H100 PCIe (9, 0)"),
        graphs.engine_key(path, replace(plan, sizes=(("batch", 2), ("sequence", 32))), "NVIDIA L4 (8, 9)"),
        graphs.engine_key(path, replace(plan, precision="tf32"), "NVIDIA L4 (8, 9)"),
    ]
    monkeypatch.setattr(graphs.metadata, "distributions", lambda: [SimpleNamespace(name="tensorrt_cu13", version="10.15")])
    others.append(graphs.engine_key(path, plan, "NVIDIA L4 (8, 9)"))
    assert len({key, *others}) == 6


def test_a_session_that_records_is_told_its_sizes_and_may_not_fall_back(path, monkeypatch):
    told = {}

    class Options(onnxruntime.SessionOptions):
        def add_free_dimension_override_by_name(self, name, size):
            told[name] = size

    class Session:
        def __init__(self, file, given, providers):
            told["providers"], told["strict"] = providers, given.get_session_config_entry("session.disable_cpu_ep_fallback")

        def get_providers(self):
            return [CUDA, placement.CPU]

        def disable_fallback(self):
            told["fallback"] = False

        def get_provider_graph_assignment_info(self):
            return ()

    monkeypatch.setattr(session.onnxruntime, "SessionOptions", Options)
    monkeypatch.setattr(session.onnxruntime, "InferenceSession", Session)
    session.open_session(path, session.Plan(CUDA, "fp32", 99, 1, graph=True, sizes=SIZES))
    assert told == {
        "batch": 2, "sequence": 16, "strict": "1", "fallback": False,
        "providers": [(CUDA, {"device_id": "0", "use_tf32": "0", "enable_cuda_graph": "1"})],
    }  # fmt: skip


def test_a_recorded_feed_gives_the_logits_of_the_session_without_a_graph(bert, path):
    program, batch = recorded(bert, path), make_batch(bert, (16, 5), 16)
    expected = program.predict(batch)
    feed = program.feed(batch)
    program.record(feed)
    first = program.run(feed)
    found = program.fetch(first)
    for name, wanted in eager_logits(bert, batch).items():
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)
        np.testing.assert_allclose(found[name], wanted, atol=1e-4)
    # Every run writes to the same buffers, which is what a replay needs.
    places = [value.data_ptr() for value in first.get_outputs()]
    assert [value.data_ptr() for value in program.run(feed).get_outputs()] == places
    assert program.facts["graph"] is True and feed.replayed is not None


@pytest.mark.parametrize("graph", [True, False])
def test_a_feed_is_refilled_where_it_lies(bert, path, graph):
    """As the timed loop does: other words in the buffers that a graph reads."""
    first, second = make_batch(bert, (16, 5), 16), make_batch(bert, (16, 5), 16, seed=1)
    assert not np.array_equal(first.arrays["input_ids"], second.arrays["input_ids"])
    program = recorded(bert, path)
    expected = [program.predict(one) for one in (first, second)]
    feed = program.feed(copied(first))
    if graph:
        program.record(feed)
    places = {name: value.data_ptr() for name, value in feed.values.items()}
    for number in (1, 0):
        program.refill(feed, (first, second)[number])
        found = program.fetch(program.run(feed))
        for name, wanted in expected[number].items():
            np.testing.assert_allclose(found[name], wanted, atol=1e-5)
    assert {name: value.data_ptr() for name, value in feed.values.items()} == places


def test_a_recorded_program_is_timed_with_other_words_in_every_call(bert, path):
    program, batches = recorded(bert, path), [make_batch(bert, (16, 16), 16, seed=number) for number in range(2)]
    call = timed_call(make_case("ort"), Built(program, 0), *batches)
    sessions, run = set(), program.run
    call._run = lambda feed: sessions.add(id(feed.replayed[0])) or run(feed)
    Local(call, CpuClock()).block(20, settle=False)
    call.audit()
    assert call.feeding == "other words in every call" and len(sessions) == 1
    # Where the graph went on reading the words that it was recorded with, the audit says so.
    program.refill = lambda feed, batch: None
    Local(call, CpuClock()).block(20, settle=False)
    with pytest.raises(ProgramError, match=r"gave other .*logits in its timed calls"):
        call.audit()


def test_the_session_of_one_shape_takes_no_other(bert, path):
    program = recorded(bert, path)
    feed = program.feed(make_batch(bert, (16, 5), 16))
    program.record(feed)
    one_shape, _ = feed.replayed
    assert {tuple(one.shape) for one in one_shape.get_inputs()} == {(2, 16)}
    other = program.feed(make_batch(bert, (8, 8), 8))
    with pytest.raises(ProgramError, match="onnxruntime failed while running a batch of 2 x 8 "):
        program.run(
            type(other)(
                program._bound(one_shape, other.values),
                other.values,
                other.shape,
                (one_shape, program._bound(one_shape, other.values)),
            )
        )


def test_a_program_without_the_option_records_nothing(bert, path):
    plan = session.Plan(placement.CPU, "fp32", 99, 1)
    opened, _ = session.open_session(path, plan)
    program = OrtProgram(opened, plan, (bert.inputs, bert.outputs), 0, path)
    feed = program.feed(make_batch(bert, (8, 8), 8))
    program.record(feed)
    assert feed.replayed is None and "graph" not in program.facts


class Input:
    def __init__(self, name, *shape):
        self.name, self.shape = name, list(shape)


class Free:
    def __init__(self, *inputs):
        self._inputs = inputs

    def get_inputs(self):
        return self._inputs


def value(*shape):
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, np.int64))


def test_sizes_of_free_dimensions():
    free = Free(Input("ids", "n", "s"), Input("mask", "n", "s"))
    assert graphs.sizes(free, {"ids": value(4, 9), "mask": value(4, 9)}) == (("n", 4), ("s", 9))
    with pytest.raises(BuildError) as caught:
        graphs.sizes(free, {"ids": value(4, 9), "mask": value(4, 8)})
    assert str(caught.value) == (
        "dimension 's' of the graph is 9 and 8 in one batch, so it cannot be fixed for a CUDA graph; leave graph=true out"
    )
    with pytest.raises(
        BuildError, match="names none of its free dimensions, so no CUDA graph can fix them; leave graph=true out"
    ):
        graphs.sizes(Free(Input("ids", None, None)), {"ids": value(4, 9)})


def test_a_graph_on_the_cpu_is_refused():
    assert ORT.refuses(make_case("ort[graph=true]")) == [
        "graph=true replays a CUDA graph, and provider cpu has no CUDA: set device to cuda or graph to false"
    ]
    assert options.read(make_case("ort[graph=true]", device="cuda")).graph
    with pytest.raises(UsageError, match="option graph of backend ort"):
        ORT.refuses(make_case("ort[graph=1]"))


def test_a_graph_that_cannot_be_recorded_says_what_to_leave_out(path, monkeypatch):
    def refuse(*given, **more):
        raise RuntimeError("This session cannot use the graph capture feature as requested by the user\nmore")

    monkeypatch.setattr(session.onnxruntime, "InferenceSession", refuse)
    with pytest.raises(BuildError) as caught:
        session.open_session(path, session.Plan(CUDA, "fp32", 99, 1, graph=True, sizes=SIZES))
    assert str(caught.value).endswith(
        "cannot open the graph on CUDAExecutionProvider: This session cannot use the graph capture feature as requested by the "
        "user; try another opset or level, or leave graph=true out"
    )
