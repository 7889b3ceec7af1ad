"""Measurements against what torch says of the same model, and what a timed section promises."""

import errno
import subprocess
import sys
import textwrap
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from making import outcomes

from pytest_perfq import device
from pytest_perfq.backends._torch import TorchProgram
from pytest_perfq.contracts import Resources
from pytest_perfq.core.budget import Limit
from pytest_perfq.core.case import Case
from pytest_perfq.core.quantization import Static
from pytest_perfq.core.spec import Spec
from pytest_perfq.errors import BuildError, DataError, ProgramError, UsageError
from pytest_perfq.materials import task_of
from pytest_perfq.report.progress import Progress, duration
from pytest_perfq.runner import Plan, Workbench
from pytest_perfq.worker import Served


def case(backend="eager", **more):
    return Case(task=Spec("tiny"), dataset="synthetic", model="m", model_name="m", backend=Spec.parse(backend), **more)


def timed(backend="eager", batch_size=1, seq_len=8, **more):
    return case(backend, batch_size=batch_size, seq_len=seq_len, **more)


@pytest.fixture
def bench(fakes, tmp_path):
    made = Workbench(Plan(time_s=0.06, precision=0.5, visits=2), Resources(cache=tmp_path, threads=1))
    yield made
    made.close()


def test_accuracy_is_what_torch_says(bench, fakes):
    examples = fakes.TINY.examples(case(), "validation", None)
    with torch.inference_mode():
        logits = fakes._module()(input_ids=torch.from_numpy(np.stack([row["ids"] for row in examples.rows]))).logits.numpy()
    labels = np.array([row["label"] for row in examples.rows])
    found = bench.measure(case())
    assert found.score().value == pytest.approx(float((logits.argmax(-1) == labels).mean()))
    assert found.outcomes.predictions == tuple(("no", "yes")[one] for one in logits.argmax(-1))
    np.testing.assert_allclose(found.outcomes.margins, np.abs(logits[:, 0] - logits[:, 1]), atol=1e-3)
    assert found.original_scores == () and found.model_bytes == sum(one.nbytes for one in fakes._module().state_dict().values())


def test_every_other_program_stands_beside_the_same_original(bench):
    wrong = bench.measure(case("wrong"))
    assert wrong.score().value == pytest.approx(0.1) and wrong.score(original=True).value == pytest.approx(0.9)
    assert wrong.original_outcomes == bench.measure(case()).outcomes
    assert wrong.first_call_ns > 0 and wrong.load_ns > 0


def test_a_program_is_built_once_and_any_order_gives_the_same(fakes, tmp_path, monkeypatch):
    built = []
    build = type(fakes.SLOW).build
    monkeypatch.setattr(type(fakes.SLOW), "build", lambda *given: built.append(given[1].id) or build(*given))
    cases = [case("slow[ms=1]"), timed("slow[ms=1]", 1), timed("slow[ms=1]", 2), case("wrong")]
    outcomes = []
    for order in (cases, cases[::-1]):
        bench = Workbench(Plan(time_s=0.02, precision=0.5, visits=1), Resources(cache=tmp_path, threads=1))
        outcomes.append({one.id: bench.measure(one).outcomes for one in order})
        bench.close()
    assert built == [cases[0].id] * 2  # once in each order
    assert outcomes[0] == outcomes[1]


def test_a_visit_has_its_sides_and_a_sleep_is_seen(bench):
    found = bench.measure(timed("slow[ms=4]"))
    assert len(found.visits) == 2
    for visit in found.visits:
        assert visit.case.durations_ns and visit.original.durations_ns and visit.anchor.durations_ns
        assert min(visit.case.durations_ns) >= 4_000_000  # sleep() promises at least its time
    assert np.median(found.durations_ns("original")) < 4_000_000
    assert found.peak_memory_bytes > 10 * 2**20 and found.facts["tokens"] == 8
    assert found.facts["timed_words"] == "other words in every call"
    assert bench.measure(timed()).visits[0].original is None


def test_peak_memory_is_of_the_case_and_of_no_call_of_its_original(bench, fakes, monkeypatch):
    """Whatever the fp32 original takes beside it: another program of the same shape would show the same peak."""
    done = []
    monkeypatch.setattr(device, "reset_peak_memory", lambda device: done.clear())
    monkeypatch.setattr(device, "peak_memory_bytes", lambda device: len(done))
    run = TorchProgram.run

    def noted(program, feed):
        done.append(program)
        return run(program, feed)

    monkeypatch.setattr(TorchProgram, "run", noted)
    original = bench.call(timed()).built.program
    found = bench.measure(timed("slow[ms=1]"))
    # Counted here are runs, of both programs: those by which the case's logits are known, and none of the visits'.
    assert found.peak_memory_bytes == 2 and original in done and len(done) > 40


def test_a_percentile_promise_gets_the_rounds_that_decide_it(fakes, tmp_path):
    bench = Workbench(Plan(time_s=30, precision=0.5, visits=2), Resources(cache=tmp_path, threads=1))
    limit = Limit("p95_ms", 1000.0, None, "test")
    # MLPerf loadgen's rule: 130 calls decide p95 with one miss.
    assert len(bench.measure(timed(), [limit]).durations_ns()) >= 130
    assert len(bench.measure(timed()).durations_ns()) < 130
    bench.close()


def test_a_repeated_prediction_measures_the_programs_own_noise(fakes, tmp_path):
    bench = Workbench(Plan(repeat=True), Resources(cache=tmp_path, threads=1))
    assert bench.measure(case()).churn == {"n": 40, "flips": 0, "margin_noise": 0.0}  # one thread: bit for bit
    bench.close()


def test_a_prediction_that_changed_counts_with_its_way_through_nothing(fakes, tmp_path, monkeypatch):
    bench = Workbench(Plan(repeat=True), Resources(cache=tmp_path, threads=1))
    found = iter([outcomes([1, 1], margins=[0.3, 2.0]), outcomes([0, 1], margins=[0.3, 2.0])])
    monkeypatch.setattr(bench, "_predictions", lambda case: next(found))
    # Down to the border and up on the other side: both margins, though they are the same.
    assert bench.measure(case()).churn == {"n": 2, "flips": 1, "margin_noise": pytest.approx(0.6)}
    bench.close()


def test_a_worker_repeats_the_predictions_of_a_side(fakes, tmp_path):
    served = Served(exchange=None)
    served.begin(cache=str(tmp_path), threads=1)
    assert served.measure(case().to_json())["churn"] == {"n": 40, "flips": 0, "margin_noise": 0.0}
    assert served.measure(case().to_json(), repeat=False)["churn"] is None
    served.close()


def test_lengths_of_the_data_set(bench):
    found = bench.measure(timed(batch_size=3, seq_len=16, padding="dataset"))
    assert found.facts["tokens"] == 3 * 12


def test_more_positions_than_the_model_has(bench):
    with pytest.raises(UsageError, match=r"seq_len is 65, but model 'm' has 64 positions; give seq_len=64 or less"):
        bench.measure(timed(seq_len=65))


def test_calibration_on_more_examples_than_there_are(bench, fakes, monkeypatch):
    monkeypatch.setattr(type(fakes.SLOW), "build", lambda self, case, model, resources, calibration: list(calibration()))
    wanted = Static("MatMul", calibration_samples=10**6)
    with pytest.raises(UsageError, match=r"calibration_samples is 1000000, but split 'train' of \w+ has \d+ examples; ask for"):
        bench.measure(case("slow", quantization=wanted))


def test_calibration_on_a_split_that_is_not_there_says_who_wants_it(bench, fakes, monkeypatch):
    def examples(self, case, split, resources):
        raise DataError(f"data set 'glue/sst2' in mirror has no split {split!r}; it has validation")

    monkeypatch.setattr(type(fakes.SLOW), "build", lambda self, case, model, resources, calibration: list(calibration()))
    monkeypatch.setattr(type(task_of(case())), "examples", examples)
    sentence = (
        "data set 'glue/sst2' in mirror has no split 'train'; it has validation; the calibration of int8-static[MatMul] reads "
        "split 'train': the Sweep's calibration_split names another"
    )
    with pytest.raises(DataError) as told:
        bench.materials.program(case("slow", quantization=Static("MatMul")))
    assert str(told.value) == sentence


def test_a_program_that_lacks_something_is_told_of_before_it_is_run(bench, fakes, monkeypatch):
    monkeypatch.setattr(type(fakes.SLOW), "build", lambda *given: SimpleNamespace(feed=1, run=1, fetch=1, facts={}))
    sentence = (
        "the program of backend slow is a SimpleNamespace without bytes, synchronize, close; "
        "it needs facts, bytes, feed, run, fetch, synchronize, close: see pytest_perfq.contracts.Program"
    )
    with pytest.raises(BuildError, match=f"^{sentence}$"):
        bench.measure(case("slow"))
    bench.close()


def test_logits_that_are_not_numbers_are_never_timed(bench):
    with pytest.raises(ProgramError, match=r"nan@cpu/fp32/b1/s8 gives 2 of 2 logits that are not finite"):
        bench.measure(timed("nan"))


def test_memory_running_out_ends_one_case(bench):
    with pytest.raises(ProgramError, match=r"hungry@cpu.* ran out of memory \(cannot have 9 TiB\); lower batch_size"):
        bench.measure(case("hungry"))
    assert bench.measure(case()).score().value == pytest.approx(0.9)


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device", "/cache/models/x.onnx"), RuntimeError("write: No space left on device")],
)
def test_a_full_disk_ends_one_case_and_is_told(bench, fakes, monkeypatch, error):
    def build(*given):
        raise error

    monkeypatch.setattr(type(fakes.SLOW), "build", build)
    with pytest.raises(
        ProgramError, match=r"^synthetic.*slow@cpu.* found no room on the disk \(.*No space left on device.*\); free some"
    ):
        bench.measure(case("slow"))
    monkeypatch.undo()
    assert bench.measure(case()).score().value == pytest.approx(0.9)


def test_a_visit_waits_until_it_has_the_device_alone(bench):
    code = """
    import sys, time
    from pytest_perfq.device.lock import device_lock
    with device_lock("cpu").read_lock():  # as a worker that builds
        print("held", flush=True)
        time.sleep(1.5)
        print(time.time(), flush=True)
    """
    bench.measure(timed())  # built and warm
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        found = bench.measure(timed())
        released = float(other.stdout.readline())
    assert min(visit.case.started_s for visit in found.visits) >= released - 0.05
    assert time.time() >= released


@pytest.mark.parametrize("seconds, text", [(0.4, "0s"), (12, "12s"), (150, "2m30s"), (7300, "2h01m")])
def test_durations_as_people_say_them(seconds, text):
    assert duration(seconds) == text


def test_progress_rewrites_a_line_on_a_terminal_and_is_sparse_elsewhere():
    now, written = [0.0], []
    live = Progress(4, written.append, live=True, clock=lambda: now[0])
    live.starting("a/b")
    now[0] = 10.0
    live.finished()
    live.starting("c/d")
    live.step("visit 2/3")
    assert written[-1].endswith("perfq 2/4 c/d visit 2/3, 30s left") and written[-1].startswith("\r\x1b[2K")
    live.close()
    assert written[-1] == "\r\x1b[2K"  # the terminal is left clean
    plain_lines = []
    plain = Progress(100, plain_lines.append, live=False, clock=lambda: now[0])
    for _ in range(100):
        now[0] += 1.0
        plain.starting("a/b")
        plain.finished()
    assert len(plain_lines) == 5 and plain_lines[0].startswith("\nperfq 20/100 a/b") and "\r" not in "".join(plain_lines)
