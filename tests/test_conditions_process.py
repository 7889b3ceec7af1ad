"""The process that watches: it reads this machine, its death is told, and it never outlives the run."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from pytest_perfq.core.conditions import disturbances
from pytest_perfq.device import probing
from pytest_perfq.device import sampler as module
from pytest_perfq.device.sampler import Blind, SamplerProcess, command, sampler

SOON_S = 10.0


@pytest.fixture
def watcher():
    made = SamplerProcess()
    yield made
    made.close()


def alive(pid):
    """Whether the process runs; one that ended and was not waited for does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def ends(pid):
    until = time.monotonic() + SOON_S
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not alive(pid)


def visit(watcher, seconds=0.0, **options):
    watcher.begin(**{"device": "cpu", "threads": 1, **options})
    time.sleep(seconds)
    return watcher.end()


def test_a_visit_is_watched(watcher):
    found = visit(watcher, 0.6, threads=2)
    assert found.unknown is None and found.missing == () and found.discarded == ()
    assert 0.6 <= found.duration_s < 0.6 + SOON_S and found.readings >= 2
    assert (found.cpu.cpus, found.cpu.threads) == (len(os.sched_getaffinity(0)), 2)
    assert 0.0 <= found.cpu.others_cpus <= found.cpu.cpus * 1.1 and found.gpu is None
    assert abs(found.clock_step_s) < 0.05


def test_one_process_serves_all_visits_and_ends_when_told(watcher):
    visit(watcher)
    pid = watcher.pid
    assert [visit(watcher).unknown for _ in range(3)] == [None] * 3 and watcher.pid == pid and alive(pid)
    watcher.close()
    assert watcher.pid is None and not alive(pid)
    assert visit(watcher).unknown is None and watcher.pid != pid


def test_others_that_take_every_cpu_are_seen_and_named(watcher):
    cpus = len(os.sched_getaffinity(0))
    spin = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * cpus)]
    calm = subprocess.Popen(["sleep", "60"])
    try:
        found = visit(watcher, 1.0, pid=calm.pid, threads=cpus)
        own = visit(watcher, 1.0, threads=cpus)
    finally:
        for one in (*spin, calm):
            one.kill()
            one.wait()
    (sentence,) = (one for one in disturbances(found) if "other processes" in one)
    assert sentence.startswith(f"other processes used {found.cpu.others_cpus:.1f} of {cpus} CPUs, and ")
    assert found.cpu.own_cpus == 0.0 and found.cpu.others_cpus > cpus / 2
    # The same processes are no strangers where they are the visit's own.
    assert own.cpu.own_cpus > 0.1


def test_it_loads_nothing_that_takes_time():
    words = command()
    code = words[4].replace("main()\n", "import os; os.write(1, repr(sorted(sys.modules)).encode())")
    loaded = eval(subprocess.run([*words[:4], code, *words[5:]], capture_output=True, check=True).stdout)
    assert "pytest_perfq.device.probing" in loaded
    heavy = {"site", "numpy", "torch", "psutil", "pynvml", "dataclasses", "inspect", "pathlib", "ctypes", "subprocess"}
    assert heavy & set(loaded) == set()
    assert not [name for name in loaded if name.startswith("pytest_perfq.core.")]


def test_a_visit_of_hours_keeps_a_bounded_number_of_readings(monkeypatch):
    monkeypatch.setattr(probing, "MOST_READINGS", 10)
    watch = probing.Watcher()
    assert watch.begin(os.getpid(), 1, False) == 1 and watch.every_s == probing.CPU_EVERY_S
    for _ in range(30):
        watch.tick()
    every_s, readings = watch.every_s, watch.end()
    assert len(readings) <= 11 and every_s > probing.CPU_EVERY_S
    at = [one["monotonic_s"] for one in readings]
    assert at == sorted(at)
    # The counters of the first and the last reading are what is summed.
    assert ["busy_s" in one["cpu"] for one in readings] == [True] + [False] * (len(readings) - 2) + [True]


def test_a_pause_between_the_two_clocks_is_no_step(monkeypatch):
    now = iter([0.0, 0.5, 1.0, 1.0002])  # the first pair of readings lies half a second apart
    monkeypatch.setattr(probing.time, "monotonic", lambda: next(now))
    monkeypatch.setattr(probing.time, "time", lambda: 7.0)
    assert probing.clocks() == {"monotonic_s": 1.0001, "wall_s": 7.0}


# -- its death


def test_death_in_a_visit_makes_it_unknown_and_the_next_has_a_new_one(watcher):
    watcher.begin(device="cpu", threads=1)
    os.kill(watcher.pid, signal.SIGKILL)
    found = watcher.end()
    assert found.unknown == "the sampler process was killed by signal 9"
    assert disturbances(found) == ("the conditions of the visit are unknown: the sampler process was killed by signal 9",)
    assert visit(watcher).unknown is None


def test_death_between_visits_harms_none(watcher):
    visit(watcher)
    os.kill(watcher.pid, signal.SIGKILL)
    assert ends(watcher.pid)
    assert visit(watcher).unknown is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["-c", "raise SystemExit('no luck today')"], "the sampler process ended with exit code 1: no luck today"),
        (["-c", "1 / 0"], "the sampler process ended with exit code 1: ZeroDivisionError: division by zero"),
        (["-c", "import time; time.sleep(60)"], "the sampler process did not answer within 0.5 s"),
        (
            ["-uc", "input(); print('hello'); input()"],
            "the sampler process gave an answer that is none (Expecting value: line 1 column 1 (char 0))",
        ),
    ],
)
def test_a_process_that_cannot_watch_says_why(words, sentence):
    watcher = SamplerProcess([sys.executable, "-S", *words], answer_s=0.5 if "sleep" in words[1] else SOON_S)
    assert visit(watcher).unknown == sentence
    assert watcher.pid is None
    watcher.close()


def test_a_process_that_cannot_be_started(tmp_path):
    watcher = SamplerProcess([str(tmp_path / "nothing")])
    assert visit(watcher).unknown.startswith("the sampler process could not be started: [Errno 2] No such file")


def test_an_answer_that_ctrl_c_cut_off_is_not_taken_for_the_next(watcher, monkeypatch):
    visit(watcher)

    def interrupted(process):
        raise KeyboardInterrupt

    monkeypatch.setattr(watcher, "_line", interrupted)
    with pytest.raises(KeyboardInterrupt):
        watcher.begin(device="cpu", threads=1)
    monkeypatch.undo()
    assert watcher.pid is None
    assert visit(watcher).unknown is None


def test_an_end_without_a_beginning_is_no_calm_visit(watcher):
    assert watcher.end().unknown == "no visit was begun"


def test_where_nothing_can_be_watched_that_is_what_is_said(monkeypatch):
    monkeypatch.setattr(module.os, "name", "nt")
    found = sampler()
    monkeypatch.undo()
    assert isinstance(found, Blind)
    assert visit(found).missing == (
        f"visits cannot be watched on {sys.platform}: clocks and what other processes take are unknown",
    )


# -- its end

RUN = """
import os, sys, time
from pytest_perfq.device.sampler import SamplerProcess
watcher = SamplerProcess()
watcher.begin(device="cpu", threads=1)
if sys.argv[1:] == ["fork"] and not os.fork():
    sys.stdout.close()
    time.sleep(60)
print(watcher.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(("end", "how"), [(signal.SIGINT, []), (signal.SIGKILL, []), (signal.SIGKILL, ["fork"])])
def test_it_never_outlives_the_run(end, how):
    words = [sys.executable, "-c", RUN, *how]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True) as run:
        try:
            pid = int(run.stdout.readline())
            assert alive(pid)
            # Ctrl-C reaches every process of the terminal's foreground group.
            os.killpg(run.pid, end) if end == signal.SIGINT else os.kill(run.pid, end)
            run.wait(SOON_S)
            assert ends(pid)
        finally:
            os.killpg(run.pid, signal.SIGKILL) if how else None


def test_a_fork_has_a_watcher_of_its_own(watcher):
    visit(watcher)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        found = visit(watcher)
        os.write(writing, json.dumps([found.unknown, watcher.pid]).encode())
        watcher.close()
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    unknown, pid = json.loads(os.read(reading, 10_000))
    os.close(reading)
    assert unknown is None and pid != watcher.pid and not alive(pid)
    assert visit(watcher).unknown is None


# -- the GPU


FAKE = """
import os
class NVMLError(Exception):
    pass
NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
def nvmlInit(): pass
def nvmlDeviceGetHandleByIndex(index): return index
def nvmlDeviceGetMigMode(handle): raise NVMLError("Not Supported")
nvmlDeviceGetDeviceHandleFromMigDeviceHandle = nvmlDeviceGetProcessUtilization = lambda *given: nvmlDeviceGetMigMode(0)
def nvmlDeviceGetCurrentClocksEventReasons(handle): return 0x40
def nvmlDeviceGetClockInfo(handle, kind): return 1000 * kind
def nvmlDeviceGetPowerUsage(handle): return 70000
def nvmlDeviceGetTotalEnergyConsumption(handle): return 5000
def nvmlDeviceGetEnforcedPowerLimit(handle): return 70000
def nvmlDeviceGetTemperature(handle, sensor): return 92
class Process:
    pid, usedGpuMemory = os.getppid(), 5
def nvmlDeviceGetComputeRunningProcesses(handle): return [Process]
"""


def test_a_gpu_is_read_once_a_visit_is_on_one(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "pynvml.py").write_text(textwrap.dedent(FAKE))
    watcher = SamplerProcess([*command()[:-1], str(tmp_path)])
    assert visit(watcher, device="cpu").gpu is None
    found = visit(watcher, 0.35, device="cuda")
    watcher.close()
    assert found.missing == () and found.gpu.busy == found.readings >= 2
    assert (found.gpu.mean_sm_mhz, found.gpu.mean_memory_mhz, found.gpu.max_temperature_c) == (1000, 2000, 92)
    assert (
        "the GPU was throttled by the hardware for its temperature for 100 % of the visit (1,000 to 1,000 MHz)"
        in disturbances(found)
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("raise ImportError('no bindings')", "the GPU cannot be sampled: no bindings; install nvidia-ml-py"),
        (
            "class NVMLError(Exception): pass\ndef nvmlInit(): raise NVMLError('Driver Not Loaded')",
            "the GPU cannot be sampled: NVML says Driver Not Loaded",
        ),
    ],
)
def test_a_gpu_that_cannot_be_sampled_is_told_of(text, sentence, tmp_path):
    (tmp_path / "pynvml.py").write_text(text)
    watcher = SamplerProcess([*command()[:-1], str(tmp_path)])
    found = visit(watcher, device="cuda")
    watcher.close()
    assert found.missing == (sentence,) and found.gpu is None and found.cpu is not None


# -- what perfq doctor says of it


def test_doctor_names_what_is_told_here_and_what_is_not():
    from pytest_perfq.device.doctor import CPU_FACTS, watched

    found = watched("cpu", SamplerProcess())
    assert "time of other processes" in found["cpu"] and "steal" in found["cpu"] and found["missing"] == []
    untold = {one.removeprefix("cpu: ") for one in found["untold"]}
    assert set(found["cpu"]).isdisjoint(untold) and set(CPU_FACTS.values()) <= set(found["cpu"]) | untold


def test_doctor_says_why_nothing_can_be_watched(tmp_path):
    from pytest_perfq.device.doctor import CPU_FACTS, watched

    found = watched("cpu", SamplerProcess([sys.executable, "-c", "raise SystemExit('no luck today')"]))
    assert found["cpu"] == [] and found["untold"] == [f"cpu: {name}" for name in CPU_FACTS.values()]
    assert found["missing"] == ["the sampler process ended with exit code 1: no luck today"]
