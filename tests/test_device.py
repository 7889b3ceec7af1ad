"""Machine facts: recordings of /proc and /sys in, identities out; and the machine under test against psutil."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading

import psutil
import pytest

from pytest_perfq import device
from pytest_perfq.device import cpu, doctor, identity


def test_the_cpu_s_identity():
    found = device.fingerprint("cpu", 3)
    assert found.identity["threads"] == 3
    assert found.identity["logical_cpus"] == len(psutil.Process().cpu_affinity())
    assert found.identity["memory_gib"] <= round(psutil.virtual_memory().total / 1024**3)
    assert found.identity["cpu"] in open("/proc/cpuinfo").read()
    assert not any("gpu" in name for name in found.identity)
    jitter = {"mhz", "clock", "temperature", "load", "hostname", "available"}
    assert not any(word in name for name in found.identity for word in jitter)
    assert found.key == device.fingerprint("cpu", 3).key != device.fingerprint("cpu", 2).key


def test_the_stack_names_versions_and_the_revision():
    import torch
    import transformers

    stack = device.fingerprint("cpu", 1).stack
    assert (stack["torch"], stack["transformers"]) == (torch.__version__, transformers.__version__)
    assert stack["cuda"] == torch.version.cuda
    assert stack["blas"].split()[0] in torch.__config__.show()
    assert stack["python"] == ".".join(map(str, sys.version_info[:3]))


def test_native_kernels_that_are_held_back_are_another_stack(monkeypatch):
    """What a case named `native` runs on is compared: a baseline of the best set is of other software than a run without it."""
    from pytest_perfq.core.slowdown import named, stack_differences

    monkeypatch.setattr("pytest_perfq.kernels.isas.cpu_flags", lambda: frozenset({"avx2", "fma"}))
    monkeypatch.setattr("pytest_perfq.kernels.isas.platform.machine", lambda: "x86_64")
    found = {}
    for chosen in ("", "all", "avx2", "portable"):
        monkeypatch.setenv("PERFQ_KERNELS_ISAS", chosen)
        found[chosen] = device.fingerprint("cpu", 1)
    assert "native_isa" not in found[""].stack and found[""].stack == found["all"].stack == found["avx2"].stack
    differences = stack_differences(found["portable"], found[""])
    assert named(differences) == "native_isa is 'portable, by PERFQ_KERNELS_ISAS' here and None in the baseline"
    assert found["portable"].identity == found[""].identity


def _git(folder, *words):
    return subprocess.run(("git", *words), cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_revision_and_dirtiness(tmp_path):
    assert identity.git_facts(str(tmp_path)) == {}
    _git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("one")
    _git(tmp_path, "add", "file")
    _git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "one")
    revision = _git(tmp_path, "rev-parse", "HEAD")
    assert identity.git_facts(str(tmp_path)) == {"revision": revision, "dirty": False}
    (tmp_path / "file").write_text("two")
    assert identity.git_facts(str(tmp_path)) == {"revision": revision, "dirty": True}


def _machine(root, cores, text=""):
    for number, (package, core) in enumerate(cores):
        topology = root / f"sys/devices/system/cpu/cpu{number}/topology"
        topology.mkdir(parents=True)
        (topology / "physical_package_id").write_text(f"{package}\n")
        (topology / "core_id").write_text(f"{core}\n")
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/cpuinfo").write_text(text)
    return root


def test_hyperthreads_count_once_and_sockets_apart(tmp_path):
    root = _machine(tmp_path, [(0, 0), (0, 1), (1, 0), (1, 1), (0, 0), (0, 1), (1, 0), (1, 1)])
    assert cpu.physical_cores(set(range(8)), root) == 4
    assert cpu.physical_cores({0, 4}, root) == 1
    assert cpu.physical_cores({0, 2}, root) == 2


def test_a_program_is_held_to_one_cpu_of_each_core_that_it_has_a_thread_for(tmp_path, monkeypatch):
    root = _machine(tmp_path, [(0, 0), (0, 1), (0, 2), (0, 3)] * 2)
    monkeypatch.setattr(cpu, "affinity", lambda: set(range(8)))
    assert [cpu.cores_for(1, turn, root) for turn in range(5)] == [[0], [1], [2], [3], [0]]
    assert [cpu.cores_for(3, turn, root) for turn in range(3)] == [[0, 1, 2], [1, 2, 3], [2, 3, 0]]
    assert cpu.cores_for(4, 1, root) == [1, 2, 3, 0] and cpu.cores_for(5, 0, root) == []
    monkeypatch.setattr(cpu, "affinity", lambda: {1, 4, 5})
    assert cpu.cores_for(2, 0, root) == [1, 4] and cpu.cores_for(3, 0, root) == []


def test_a_process_is_held_with_the_threads_that_it_has():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system holds no process to a core")
    ended, before = threading.Event(), os.sched_getaffinity(0)
    thread = threading.Thread(target=ended.wait)
    thread.start()
    try:
        cpu.hold([max(before)])
        assert psutil.Process().cpu_affinity() == [max(before)] and os.sched_getaffinity(thread.native_id) == {max(before)}
        cpu.lead(sorted(before))
        assert os.sched_getaffinity(0) == {min(before)}
        assert os.sched_getaffinity(thread.native_id) == (before - {min(before)} or before)
    finally:
        cpu.hold(before)
        ended.set()
        thread.join()
    assert os.sched_getaffinity(0) == before


def test_cgroups_limit_cores_and_memory(tmp_path):
    root = _machine(tmp_path, [(0, 0)])
    assert cpu.cpu_quota(root) is None
    group = root / "sys/fs/cgroup/box/inner"
    group.mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("0::/box/inner\n")
    (group / "cpu.max").write_text("max 100000\n")
    (group.parent / "cpu.max").write_text("150000 100000\n")
    (root / "proc/meminfo").write_text("MemTotal:       33554432 kB\n")
    assert (cpu.cpu_quota(root), cpu.memory_bytes(root)) == (1.5, 32 * 1024**3)
    (group / "memory.max").write_text("4294967296\n")
    (group.parent / "memory.max").write_text("max\n")
    assert cpu.memory_bytes(root) == 4 * 1024**3


def test_version_1_of_cgroups(tmp_path):
    root = _machine(tmp_path, [(0, 0)])
    (root / "sys/fs/cgroup/cpu").mkdir(parents=True)
    (root / "sys/fs/cgroup/cpu/cpu.cfs_quota_us").write_text("200000\n")
    (root / "sys/fs/cgroup/cpu/cpu.cfs_period_us").write_text("100000\n")
    assert cpu.cpu_quota(root) == 2.0


@pytest.mark.parametrize(
    ("text", "model", "isa"),
    [
        ("model name\t: Intel(R) Xeon(R) Platinum 8488C\nflags\t: avx2 avx512f avx512_vnni amx_int8\n", "Intel(R) Xeon(R) Platinum 8488C", "amx_int8"),
        ("model name\t: AMD EPYC 7R13\nflags\t: avx avx2\n\nmodel name\t: other\n", "AMD EPYC 7R13", "avx2"),
        ("CPU implementer\t: 0x41\nCPU part\t: 0xd40\nFeatures\t: asimd asimddp sve i8mm\n", "Arm 0x41 0xd40", "sve"),
        ("model name\t: i386\nflags\t: fpu\n", "i386", "base"),
    ],
)  # fmt: skip
def test_cpu_models(text, model, isa, tmp_path):
    root = _machine(tmp_path, [(0, 0)], text)
    assert (cpu.cpu_model(root), cpu.cpu_isa(root)) == (model, isa)


def test_available_threads_are_physical_cores_in_the_mask():
    assert 1 <= device.available_threads() <= len(psutil.Process().cpu_affinity())
    assert device.available_threads() <= psutil.cpu_count(logical=False)


# In a process of its own: a large one grows and shrinks while it is looked at.
PEAKS = """
import mmap
from pytest_perfq import device
size = 64 * 1024**2
reset = device.reset_peak_memory("cpu")
before = device.peak_memory_bytes("cpu")
block = mmap.mmap(-1, size)
block.write(b"x" * size)
block.close()
peak = device.peak_memory_bytes("cpu")
again = device.reset_peak_memory("cpu")
print(int(reset and again), (peak - before) / size, (device.peak_memory_bytes("cpu") - before) / size)
"""


def test_peak_memory_sees_a_block_and_forgets_it():
    done = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True)
    reset, block, after = map(float, done.stdout.split())
    if not reset:
        pytest.skip("this system does not let a process reset its peak")
    assert 0.9 < block < 3 and after < 0.5


def test_doctor_gives_a_reason_or_none_for_every_combination():
    facts = doctor.doctor_facts()
    assert set(facts["backends"]) >= {"eager", "torchscript", "compile", "ort"}
    for devices in facts["backends"].values():
        assert set(devices) == {"cpu", "cuda"}
        numerics = {"fp32", "tf32", "fp16", "bf16", "int8-dynamic", "int8-static", "int8-aware", "fp8-dynamic"}
        assert all(set(found) == numerics for found in devices.values())
    assert facts["backends"]["eager"]["cpu"]["fp32"] == []
    assert facts["backends"]["eager"]["cpu"]["tf32"][0].startswith("tf32 is a mode of NVIDIA's tensor cores")
    assert facts["machine"]["identity"]["threads"] == facts["threads"] == device.available_threads()


def test_a_backend_that_cannot_be_imported_is_said_to_be_so(monkeypatch):
    def missing(kind, name):
        raise ImportError("No module named 'onnxruntime'")

    monkeypatch.setattr(doctor.registry, "load", missing)
    assert doctor._reasons("ort")["cuda"]["fp16"] == ["cannot be imported: No module named 'onnxruntime'"]


def test_importing_it_and_asking_for_the_gpu_loads_no_framework():
    code = (
        "import sys; from pytest_perfq import device; device.gpu_present(); device.gpu_name(); device.available_threads();"
        "print([name for name in ('torch', 'transformers', 'onnxruntime', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_keys_are_of_the_identity_alone():
    import json

    found = device.fingerprint("cpu", 1)
    assert found.key == hashlib.sha256(json.dumps(found.identity, sort_keys=True).encode()).hexdigest()[:12]
