"""The stopwatch of a GPU: what it does in which order, on a stand-in for torch.cuda; and on a GPU, against cuda-bench's medians."""

import contextlib
import json
import statistics
import subprocess
import sys
from array import array
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_models import make_case

from pytest_perfq import runner, stopwatch
from pytest_perfq.contracts import Resources
from pytest_perfq.device.sampler import Blind
from pytest_perfq.errors import UsageError
from pytest_perfq.worker import Served

L2_BYTES = 50 * 2**20


class Cuda:
    """As much of torch.cuda as the clock uses. Writes down what is done, and advances a clock in milliseconds by it."""

    def __init__(self):
        self.log, self.now_ms, self.events, self.buffers = [], 0.0, 0, []

    def Event(self, enable_timing):
        assert enable_timing
        self.events += 1
        return Event(self, "start" if self.events % 2 else "end")

    def get_device_properties(self, device):
        return SimpleNamespace(L2_cache_size=L2_BYTES)

    def current_device(self):
        return 0

    def synchronize(self):
        self.log.append("synchronize")


class Event:
    def __init__(self, cuda, name):
        self.cuda, self.name, self.at_ms = cuda, name, None

    def record(self):
        self.at_ms = self.cuda.now_ms
        self.cuda.log.append(self.name)

    def synchronize(self):
        self.cuda.log.append(f"wait for {self.name}")

    def elapsed_time(self, other):
        return other.at_ms - self.at_ms


class Buffer:
    def __init__(self, cuda, size):
        self.cuda = cuda
        cuda.buffers.append(size)

    def zero_(self):
        self.cuda.log.append("write over the L2")
        self.cuda.now_ms += 5.0


@pytest.fixture
def cuda(monkeypatch):
    found = Cuda()
    monkeypatch.setattr(torch, "cuda", found)
    monkeypatch.setattr(torch, "empty", lambda size, dtype, device: Buffer(found, size))
    return found


def timed(cuda, clock, calls=2):
    def call():
        cuda.log.append("call")
        cuda.now_ms += 0.25

    return [clock.time_ns(call) for _ in range(calls)]


def test_events_are_made_once_and_hold_the_call_alone(cuda):
    clock = stopwatch.clock_for("cuda")
    assert timed(cuda, clock) == [250_000, 250_000]
    assert cuda.log == ["start", "call", "end", "wait for end"] * 2
    assert cuda.events == 2


def test_a_cold_l2_is_written_over_outside_of_the_events_and_waited_for(cuda):
    clock = stopwatch.clock_for("cuda", "cold")
    assert timed(cuda, clock) == [250_000, 250_000]
    assert cuda.log == ["write over the L2", "synchronize", "start", "call", "end", "wait for end"] * 2
    assert cuda.buffers == [2 * L2_BYTES]  # twice: a cache that keeps what is used often keeps none of it


def test_a_gpu_is_at_work_for_a_while_before_it_is_timed(cuda, monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr(stopwatch.time, "monotonic", lambda: next(now) * stopwatch.RAMP_S / 4)
    calls = []
    side = stopwatch.Local(lambda: calls.append("call"), stopwatch.clock_for("cuda"))
    assert len(side.warm()) == 2
    assert len(calls) == 3 + 2 and cuda.log[:3] == ["synchronize"] * 3


def test_a_cpu_is_never_cold():
    assert isinstance(stopwatch.clock_for("cpu"), stopwatch.CpuClock)
    with pytest.raises(UsageError) as caught:
        stopwatch.clock_for("cpu", "cold")
    assert str(caught.value) == (
        "the L2 of a GPU can be cold when a call begins, and this one is timed on the cpu: leave it warm"
    )


def test_workers_are_told_how_the_l2_is(tmp_path):
    served = Served(exchange=None)
    served.begin(cache=str(tmp_path), threads=1, l2="cold")
    assert served.bench.plan.l2 == "cold"
    served.close()


@pytest.mark.parametrize(("own", "peak"), [(False, 900), (True, None)])
def test_peak_memory_is_the_program_s_or_unknown(own, peak, monkeypatch):
    """Not what PyTorch took beside a library that allocates by itself."""
    monkeypatch.setattr(runner.device, "peak_memory_bytes", lambda device: 900)
    bench = runner.Workbench(runner.Plan(), Resources(cache=Path("unused")))
    built = SimpleNamespace(program=SimpleNamespace(own_allocator=own))
    assert bench._peak_bytes(make_case("ort", device="cuda"), built) == peak
    assert bench._peak_bytes(make_case("ort"), built) == 900


def test_energy_is_asked_of_a_gpu_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(runner.energy, "per_call", lambda *given: {"energy_per_call_j": 0.5})
    bench = runner.Workbench(runner.Plan(), Resources(cache=tmp_path), Blind("nobody looks"))
    call = SimpleNamespace(built=SimpleNamespace(program=SimpleNamespace(synchronize=lambda: None)))
    lock = SimpleNamespace(write_lock=contextlib.nullcontext)
    assert bench._energy(make_case("eager", device="cuda"), call, lock) == {"energy_per_call_j": 0.5}
    assert bench._energy(make_case("eager"), call, lock) == {}


# A product of 8,192 x 8,192: milliseconds, beside which the launch, which cuda-bench leaves out, is nothing.
BENCH = """
import sys, torch
import cuda.bench as bench

def product(state):
    stream = torch.cuda.ExternalStream(state.get_stream().addressof())
    with torch.cuda.stream(stream):
        a = torch.randn(8192, 8192, device="cuda")
        out = torch.empty_like(a)
    stream.synchronize()

    def launch(one):
        with torch.cuda.stream(torch.cuda.ExternalStream(one.get_stream().addressof())):
            torch.matmul(a, a, out=out)

    state.exec(launch)

bench.register(product)
bench.run_all_benchmarks(sys.argv)
"""


def _has_cuda_bench():
    try:
        return find_spec("cuda.bench") is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not _has_cuda_bench(), reason="cuda-bench is not installed: pip install 'cuda-bench[cu13]'")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: the clock is held against cuda-bench on a GPU")
def test_the_clock_agrees_with_cuda_bench(tmp_path):
    command = [sys.executable, "-c", BENCH, "--jsonbin", "found.json", "--devices", "0"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=120)
    (state,) = json.loads((tmp_path / "found.json").read_text())["benchmarks"][0]["states"]
    (times,) = [one for one in state["summaries"] if one["tag"] == "nv/json/bin:nv/cold/sample_times"]
    name = next(one["value"] for one in times["data"] if one["name"] == "filename")
    seconds = array("f", (tmp_path / name).read_bytes())
    a = torch.randn(8192, 8192, device="cuda")
    out = torch.empty_like(a)
    found = stopwatch.visit(
        {"case": lambda: torch.matmul(a, a, out=out)},
        stopwatch.clock_for("cuda", "cold"),  # as cuda-bench times
        stopwatch.VisitPlan(budget_s=10, precision=0.005),
    )
    assert found["case"].median_ns == pytest.approx(statistics.median(seconds) * 1e9, rel=0.03)
