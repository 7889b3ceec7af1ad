"""Readings of the CPUs: recordings of /proc and /sys in, readings out; and this machine against psutil."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from pytest_perfq.core.readings import summarize
from pytest_perfq.device import proc
from pytest_perfq.device.proc import ProcProbe, below, processes

ME = os.getpid()


class Machine:
    """A /proc and a /sys of these files, beside nothing else."""

    def __init__(self, root):
        self.root = root

    def write(self, **files):
        for name, text in files.items():
            self.file(name.replace("__", "/"), text)

    def file(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def process(self, pid, parent, *ticks, name="python (3)"):
        """ticks: utime, stime, cutime, cstime."""
        self.file(
            f"proc/{pid}/stat", f"{pid} ({name}) S {parent} 1 1 0 -1 4194304 1 2 3 4 {' '.join(map(str, ticks))} 20 0 1 0 5 6 7"
        )

    def probe(self, threads=2):
        return ProcProbe(ME, threads, str(self.root))


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 3})
    return Machine(tmp_path)


def test_cpu_time_is_that_of_the_cpus_that_we_may_run_on(machine):
    machine.write(
        proc__stat="cpu  9 9 9 9 9 9 9 9 9 9\ncpu1 100 10 20 9999 50 1 2 30 7 7\ncpu2 1 1 1 1 1 1 1 1 1 1\ncpu3 200 0 0 5 0 0 0 70 0 0\nintr 5 0\n"
    )
    machine.process(ME, 1, 40, 10, 30, 20)
    found = machine.probe().read(edge=True)
    assert (found["cpus"], found["threads"]) == (2, 2)
    # user and nice hold a guest's time already; idle and waiting for a disk are no use of a CPU.
    assert (found["busy_s"], found["steal_s"], found["own_s"]) == (3.33, 1.0, 1.0)


def test_counters_are_read_at_the_edges_alone(machine):
    machine.write(
        proc__stat="cpu1 1 1 1 1 1 1 1 1\n",
        proc__pressure__cpu="some avg10=1.00 avg60=0.10 avg300=0.00 total=2500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=9\n",
    )
    probe = machine.probe()
    assert probe.read(edge=True)["pressure_s"] == 2.5
    assert not {"busy_s", "steal_s", "own_s", "pressure_s", "throttled"} & set(probe.read(edge=False))


def test_the_tree_of_a_process_is_its_own(machine):
    machine.process(1, 0, 1000, 0, 0, 0)
    machine.process(10, 1, 5, 5, 50, 0, name="a) R (b")  # any name may be between the brackets
    machine.process(11, 10, 7, 0, 0, 0)
    machine.process(12, 11, 0, 3, 0, 0)
    machine.process(13, 1, 900, 0, 0, 0)
    known = processes(str(machine.root))
    assert known == {1: (0, 1000), 10: (1, 60), 11: (10, 7), 12: (11, 3), 13: (1, 900)}
    assert below(10, known) == {10, 11, 12} and below(13, known) == {13} and below(77, known) == {77}


def test_a_process_that_is_gone_has_no_time(machine):
    machine.process(1, 0, 1000, 0, 0, 0)
    assert machine.probe().read(edge=True)["own_s"] is None


def test_version_2_of_cgroups_throttles_at_every_level(machine):
    machine.write(**{f"proc__{ME}__cgroup": "0::/box/inner\n"})
    machine.file("sys/fs/cgroup/box/inner/cpu.stat", "usage_usec 99\nnr_periods 50\nnr_throttled 12\nthrottled_usec 400000\n")
    machine.file("sys/fs/cgroup/box/cpu.stat", "usage_usec 99\nnr_periods 50\nnr_throttled 3\nthrottled_usec 100000\n")
    machine.file("sys/fs/cgroup/cpu.stat", "usage_usec 99\n")
    found = machine.probe().read(edge=True)
    assert (found["throttled"], found["throttled_s"]) == (15, 0.5)


def test_version_1_of_cgroups(machine):
    machine.write(**{f"proc__{ME}__cgroup": "3:memory:/box\n2:cpu,cpuacct:/box\n0::/\n"})
    machine.file("sys/fs/cgroup/cpu/box/cpu.stat", "nr_periods 50\nnr_throttled 4\nthrottled_time 250000000\n")
    found = machine.probe().read(edge=True)
    assert (found["throttled"], found["throttled_s"]) == (4, 0.25)


def test_a_container_sees_its_cgroup_as_the_mount(machine):
    machine.write(**{f"proc__{ME}__cgroup": "0::/kubepods/pod-7/c1\n"})
    machine.file("sys/fs/cgroup/cpu.stat", "nr_throttled 2\nthrottled_usec 20000\n")
    assert machine.probe().read(edge=True)["throttled"] == 2


def test_clocks_come_from_cpufreq_where_there_is_one(machine):
    machine.write(
        proc__cpuinfo="processor\t: 1\ncpu MHz\t\t: 2445.424\n\nprocessor\t: 2\ncpu MHz\t\t: 1.0\n\nprocessor\t: 3\ncpu MHz\t\t: 2445.5\n"
    )
    assert machine.probe()._mhz() == {"mhz": [2445.424, 2445.5], "mhz_source": "cpuinfo"}
    for cpu, khz in ((1, 3100000), (3, 800000)):
        machine.file(f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq", f"{khz}\n")
    assert machine.probe()._mhz() == {"mhz": [3100.0, 800.0], "mhz_source": "cpufreq"}


def test_clocks_are_read_once_a_second_and_of_few(machine, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(256)))
    for cpu in range(256):
        machine.file(f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq", f"{1000 + cpu}000")
    probe = machine.probe()
    assert len(probe.read(edge=True)["mhz"]) == 16
    assert ["mhz" in probe.read(edge=False) for _ in range(3)] == [True, False, False]


def test_the_hottest_sensor_of_a_cpu(machine):
    for number, (name, degrees) in enumerate([("nvme", 80000), ("coretemp", 61000), ("acpitz", 99000)]):
        machine.file(f"sys/class/hwmon/hwmon{number}/name", name + "\n")
        machine.file(f"sys/class/hwmon/hwmon{number}/temp1_input", f"{degrees}\n")
    machine.file("sys/class/hwmon/hwmon1/temp2_input", "64500\n")
    machine.file("sys/class/hwmon/hwmon1/temp2_max", "105000\n")
    assert machine.probe().read(edge=False)["temperature_c"] == 64.5


def test_a_system_without_proc_says_what_is_not_known(machine):
    probe = machine.probe()
    assert probe.missing() == [
        "this system has no /proc/stat: steal and what other processes take of the CPUs cannot be sampled"
    ]
    cpu = summarize([{"monotonic_s": at, "wall_s": at, "cpu": probe.read(edge=True)} for at in (0.0, 1.0)]).cpu
    assert (cpu.cpus, cpu.steal, cpu.others_cpus, cpu.throttled, cpu.mean_mhz) == (2, None, None, None, None)


def test_this_machine_s_time_as_psutil_counts_it():
    """What the probe counts lies between what psutil counts within its two readings and around them."""
    tick = 2 / proc.TICKS_PER_S * len(os.sched_getaffinity(0))

    def seen():
        child, all_ = psutil.Process(busy.pid).cpu_times(), psutil.cpu_times()
        used = sum(getattr(all_, name) for name in ("user", "nice", "system", "irq", "softirq"))
        return {"own": child.user + child.system + time.process_time(), "busy": used, "steal": all_.steal}

    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        probe, around, inside, readings = ProcProbe(ME, 1), [], [], []
        assert probe.missing() == []
        around.append(seen())
        readings.append({"monotonic_s": time.monotonic(), "wall_s": 0.0, "cpu": probe.read(edge=True)})
        inside.append(seen())
        time.sleep(0.8)
        inside.append(seen())
        readings.append({"monotonic_s": time.monotonic(), "wall_s": 0.0, "cpu": probe.read(edge=True)})
        around.append(seen())
    finally:
        busy.kill()
        busy.wait()
    # A machine of which we may use a part has more than the probe reads.
    names = ["own", "busy", "steal"] if len(os.sched_getaffinity(0)) == os.cpu_count() else ["own"]
    for name in names:
        counted = readings[1]["cpu"][f"{name}_s"] - readings[0]["cpu"][f"{name}_s"]
        assert inside[1][name] - inside[0][name] - tick <= counted <= around[1][name] - around[0][name] + tick, name
    found = summarize(readings).cpu
    # The child's time is the visit's own, not somebody else's.
    assert found.own_cpus > 0.0 and found.cpus == len(os.sched_getaffinity(0))
