"""The GPU: what budgets call it, which one CUDA would use, and what of it identifies a machine; all from recordings of NVML."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from making import latency
from tiny_models import make_case

from pytest_perfq import device, runner
from pytest_perfq.contracts import Lack, Resources
from pytest_perfq.core.budget import GPUS, Budget, limits_for
from pytest_perfq.core.verdict import judge
from pytest_perfq.device import gpu, visible
from pytest_perfq.errors import UnknownName
from pytest_perfq.target import resolve


# What nvidia-smi prints as the product name, and what budgets call it.
@pytest.mark.parametrize(
    ("marketing", "name"),
    [
        ("Tesla T4", "t4"),
        ("NVIDIA T4", "t4"),
        ("Tesla V100-SXM2-16GB", "v100"),
        ("Tesla V100-PCIE-32GB", "v100"),
        ("Tesla P100-PCIE-16GB", "p100"),
        ("NVIDIA A2", "a2"),
        ("NVIDIA A10", "a10"),
        ("NVIDIA A10G", "a10g"),
        ("NVIDIA A16", "a16"),
        ("NVIDIA A30", "a30"),
        ("NVIDIA A40", "a40"),
        ("NVIDIA A100-SXM4-40GB", "a100"),
        ("NVIDIA A100 80GB PCIe", "a100"),
        ("A100-PCIE-40GB", "a100"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA L40", "l40"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100"),
        ("NVIDIA H100 NVL", "h100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA B200", "b200"),
        ("NVIDIA GeForce RTX 3090", "rtx3090"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("NVIDIA GeForce RTX 5090", "rtx5090"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "a100-1g.5gb"),
        ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", "h100-3g.40gb"),
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb+me", "a100-1g.10gb+me"),
        ("NVIDIA H200 MIG 1c.3g.71gb", "h200-1c.3g.71gb"),
        ("NVIDIA A100-SXM4-80GB MIG of an unknown profile", None),
        # Other cards, whatever number they bear.
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA RTX A4000", None),
        ("NVIDIA RTX 6000 Ada Generation", None),
        ("GRID T4-8Q", None),
        ("NVIDIA A800-SXM4-80GB", None),
        ("NVIDIA H800", None),
        ("NVIDIA GH200 480GB", None),
        ("Tesla K80", None),
        ("CPU", None),
    ],
)
def test_marketing_names(marketing, name):
    assert gpu.short_name(marketing) == name
    assert name is None or name.partition("-")[0] in GPUS


class Nvml:
    """A recording of NVML on a machine with these GPUs: an object with the functions of pynvml that are used."""

    class NVMLError(Exception):
        pass

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self, *names, mig=0, clock=1980, slices=None, named=True, attributes=None):
        """slices: of the first GPU, index -> handle. named: whether a slice's name says its profile. attributes: of a slice."""
        self.names, self.mig, self.clock, self.named, self.attributes = names, mig, clock, named, attributes
        self.slices = {0: "slice"} if slices is None else slices

    def nvmlDeviceGetHandleByIndex(self, index):
        if index >= len(self.names):
            raise self.NVMLError("Invalid Argument")
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid):
        found = [one for one in (*range(len(self.names)), *self.slices.values()) if self.nvmlDeviceGetUUID(one) == uuid]
        if not found:
            raise self.NVMLError("Not Found")
        return found[0]

    def nvmlDeviceGetCount(self):
        return len(self.names)

    def nvmlDeviceGetUUID(self, handle):
        return f"MIG-{handle}-e5f6" if handle in self.slices.values() else f"GPU-{handle}-a1b2"

    def nvmlDeviceGetName(self, handle):
        if handle in self.slices.values():
            return f"{self.names[0]} MIG 1g.5gb" if self.named else self.names[0]
        return self.names[handle]

    def nvmlDeviceGetMigMode(self, handle):
        if handle in self.slices.values():
            raise self.NVMLError("Not Supported")
        return [self.mig, self.mig]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle):
        return 7 if self.mig else 0

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle, index):
        if index not in self.slices:
            raise self.NVMLError("Not Found")
        return self.slices[index]

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle):
        if handle not in self.slices.values():
            raise self.NVMLError("Invalid Argument")
        return 0

    def nvmlDeviceGetAttributes(self, handle):
        if self.attributes is None:
            raise self.NVMLError("Not Supported")
        units, parts, mib = self.attributes
        return SimpleNamespace(gpuInstanceSliceCount=units, computeInstanceSliceCount=parts, memorySizeMB=mib)

    def nvmlDeviceGetCudaComputeCapability(self, handle):
        return (9, 0)

    def nvmlDeviceGetMemoryInfo(self, handle):
        return SimpleNamespace(total=85520809984)

    def nvmlDeviceGetEnforcedPowerLimit(self, handle):
        return 700000

    def nvmlSystemGetDriverVersion(self):
        return b"580.65.06"

    def nvmlDeviceGetClockInfo(self, handle, kind):
        return self.clock

    def nvmlDeviceGetMaxClockInfo(self, handle, kind):
        return 1980

    def nvmlDeviceGetTemperature(self, handle, sensor):
        return 41

    def nvmlDeviceGetPowerUsage(self, handle):
        raise self.NVMLError("Not Supported")

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        return [SimpleNamespace(pid=os.getpid()), SimpleNamespace(pid=1)]

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle):
        return 0


@pytest.fixture(autouse=True)
def every_gpu_visible(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("visible", "name"),
    [
        (None, "h100"),
        ("0", "h100"),
        ("1", "t4"),
        ("1,0", "t4"),
        ("GPU-1-a1b2", "t4"),
        ("GPU-1", "t4"),  # the beginning of one alone
        ("GPU-", None),  # of both
        ("", None),
        ("-1", None),
        ("5", None),
        ("GPU-9", None),
    ],
)
def test_the_gpu_is_the_first_visible_one(visible, name, monkeypatch):
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    library = Nvml("NVIDIA H100 80GB HBM3", "Tesla T4")
    assert gpu.gpu_name(library) == name
    assert gpu.gpu_present(library) is (name is not None)


def test_a_gpu_without_a_known_name_is_still_present():
    library = Nvml("NVIDIA RTX A4000")
    assert (gpu.gpu_present(library), gpu.gpu_name(library)) == (True, None)
    assert gpu.gpu_marketing_name(library) == "NVIDIA RTX A4000"


def test_no_driver_is_no_gpu(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "_library", lambda: None)
    monkeypatch.setattr(gpu, "Path", lambda name: tmp_path / "gpus")
    assert (gpu.gpu_present(), gpu.gpu_name(), gpu.identity(), gpu.volatile(), gpu.driver()) == (False, None, {}, {}, None)
    (tmp_path / "gpus" / "0000:17:00.0").mkdir(parents=True)
    assert gpu.gpu_present()  # the driver shows one that NVML cannot open


def test_a_gpu_s_identity_holds_what_does_not_jitter():
    calm, hot = (device.fingerprint("cuda", 4, Nvml("NVIDIA H100 80GB HBM3", clock=clock)) for clock in (1980, 345))
    assert {name: value for name, value in calm.identity.items() if name.startswith("gpu")} == {
        "gpu": "NVIDIA H100 80GB HBM3",
        "gpu_compute_capability": "9.0",
        "gpu_memory_gib": 80,
        "gpu_mig": "disabled",
        "gpu_power_limit_w": 700,
        "gpu_l2": "warm",
    }
    assert calm.volatile["gpu_uuid"] == "GPU-0-a1b2"  # which of its kind it is: recorded, never a key
    assert calm.key == hot.key
    assert (calm.volatile["sm_clock_mhz"], hot.volatile["sm_clock_mhz"]) == (1980, 345)
    assert (calm.volatile["gpu_other_processes"], calm.volatile["gpu_power_w"]) == (1, None)
    assert calm.stack["driver"] == "580.65.06"


def test_a_mig_slice_is_another_machine():
    whole, part = (device.fingerprint("cuda", 4, Nvml("NVIDIA A100-SXM4-40GB", mig=mig)) for mig in (0, 1))
    assert (part.identity["gpu"], part.identity["gpu_mig"]) == ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "1g.5gb")
    assert (part.identity["gpu_power_limit_w"], part.volatile["gpu_uuid"]) == (700, "MIG-slice-e5f6")
    assert whole.key != part.key
    assert gpu.gpu_name(Nvml("NVIDIA A100-SXM4-40GB", mig=1)) == "a100-1g.5gb"


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ((1, 1, 4864), "a100-1g.5gb"),  # memory as nvidia-smi gives it, MiB
        ((1, 1, 9856), "a100-1g.10gb"),
        ((3, 3, 40448), "a100-3g.40gb"),
        ((3, 1, 40448), "a100-1c.3g.40gb"),
        (None, None),
    ],
)
def test_a_slice_that_bears_its_gpu_s_name_is_not_taken_for_it(attributes, name):
    library = Nvml("NVIDIA A100-SXM4-80GB", mig=1, named=False, attributes=attributes)
    assert gpu.gpu_present(library) and gpu.gpu_name(library) == name
    assert gpu.identity(library)["gpu_mig"] not in ("enabled", "disabled")


def test_the_first_slice_may_have_any_number_and_none_is_no_gpu(monkeypatch):
    late = Nvml("NVIDIA A100-SXM4-40GB", mig=1, slices={3: "late", 5: "later"})
    assert visible.handle(late) == "late"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-later")
    assert visible.handle(late) == "later"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-0-a1b2")
    assert visible.handle(late) == "late"  # CUDA sees nothing of it but its slices
    assert visible.handle(Nvml("NVIDIA A100-SXM4-40GB", mig=1, slices={})) is None


def test_cuda_and_nvml_that_mean_different_gpus():
    library = Nvml("NVIDIA H100 80GB HBM3", "Tesla T4")
    assert visible.disagreement(library, "0-a1b2") is visible.disagreement(library, "GPU-0-A1B2") is None
    assert visible.disagreement(library, "1-a1b2") == (
        "CUDA computes on the GPU 1-a1b2 and NVML's first is GPU-0-a1b2, whose name and clocks are not those of what is timed: "
        "set CUDA_DEVICE_ORDER=PCI_BUS_ID, or CUDA_VISIBLE_DEVICES to a UUID"
    )
    part = Nvml("NVIDIA A100-SXM4-40GB", mig=1)
    # Versions of CUDA give a slice its own UUID or its GPU's.
    assert visible.disagreement(part, "slice-e5f6") is visible.disagreement(part, "0-a1b2") is None


@pytest.mark.parametrize(("cuda", "refused"), [("0-a1b2", False), ("1-a1b2", True), (None, False)])
def test_what_pytorch_computes_on_is_held_against_nvml(cuda, refused, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=cuda))
    found = device.other_gpu(Nvml("NVIDIA H100 80GB HBM3", "Tesla T4"))
    assert (found is not None) is refused
    monkeypatch.setattr(gpu, "_library", lambda: Nvml("NVIDIA H100 80GB HBM3", "Tesla T4"))
    case = make_case("plain", device="cuda")
    monkeypatch.setattr(runner, "backend_of", lambda case: SimpleNamespace(refuses=lambda case: []))
    reasons = runner.Workbench(runner.Plan(), Resources(cache=Path("unused"))).refuses(case)
    assert reasons == ([found] if refused else []) and all(isinstance(one, Lack) for one in reasons)


# The products that budgets are promised for, as NVML spells them, and slices of those that MIG cuts.
PRODUCTS = {
    "t4": ["Tesla T4"],
    "v100": ["Tesla V100-SXM2-16GB", "Tesla V100-PCIE-32GB"],
    "a10": ["NVIDIA A10"],
    "a30": ["NVIDIA A30"],
    "a100": ["NVIDIA A100-SXM4-80GB", "NVIDIA A100-PCIE-40GB", "NVIDIA A100 80GB PCIe"],
    "l4": ["NVIDIA L4"],
    "l40s": ["NVIDIA L40S"],
    "h100": ["NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe", "NVIDIA H100 NVL"],
    "h200": ["NVIDIA H200", "NVIDIA H200 NVL"],
    "b200": ["NVIDIA B200"],
    "a30-1g.6gb": ["NVIDIA A30 MIG 1g.6gb"],
    "a100-1g.10gb": ["NVIDIA A100-SXM4-80GB MIG 1g.10gb"],
    "h100-3g.40gb": ["NVIDIA H100 80GB HBM3 MIG 3g.40gb"],
}
PROMISED = {name: float(number) for number, name in enumerate(PRODUCTS, 1)}


@pytest.mark.parametrize(("name", "product"), [(name, one) for name, products in PRODUCTS.items() for one in products])
def test_budgets_are_looked_up_by_what_nvml_says(name, product):
    budgets = [Budget(where={"gpu": gpu_}, p50_ms=ms) for gpu_, ms in PROMISED.items()]
    target = resolve("auto", True, gpu.gpu_name(Nvml(product)))
    case = make_case("eager", device="cuda", batch_size=1, seq_len=8)
    assert [limit.value for limit in limits_for(budgets, case, target.gpu)] == [PROMISED[name]]
    assert resolve(name, True, gpu.gpu_name(Nvml(product))).mismatch is None  # --perf-gpu=NAME asserts it


def test_what_is_promised_of_a_gpu_is_not_promised_of_its_slices():
    case = make_case("eager", device="cuda", batch_size=1, seq_len=8)
    budgets = [
        Budget(where={"gpu": "a100"}, p50_ms=1.0), Budget(where={"gpu": "a100-*"}, p90_ms=2.0),
        Budget(where={"gpu": "a100*"}, p99_ms=3.0),
    ]  # fmt: skip
    rules = {name: {one.rule for one in limits_for(budgets, case, name)} for name in ("a100", "a100-1g.10gb", "h100-1g.10gb")}
    assert rules == {"a100": {"p50_ms", "p99_ms"}, "a100-1g.10gb": {"p90_ms", "p99_ms"}, "h100-1g.10gb": set()}


@pytest.mark.parametrize("name", ["t4-1g.5gb", "a100-1g", "a100-", "h100-mig-1g.10gb", "A100-1g.10gb"])
def test_slices_that_cannot_be(name):
    with pytest.raises(UnknownName, match=f"unknown gpu '{name}'"):
        Budget(where={"gpu": name}, p50_ms=1.0)


def test_a_cold_l2_is_another_identity_and_is_never_compared_with_a_warm_one():
    library = Nvml("NVIDIA H100 80GB HBM3")
    warm, cold = (device.fingerprint("cuda", 4, library, l2=l2) for l2 in ("warm", "cold"))
    assert warm.key != cold.key and warm.differences(cold, "identity") == {"gpu_l2": ("warm", "cold")}
    assert "gpu_l2" not in device.fingerprint("cpu", 4).identity
    verdict = judge(latency(machine=cold), [], latency(machine=warm))
    (finding,) = [one for one in verdict.findings if one.rule == "slowdown"]
    assert (finding.status, finding.note) == (
        "invalid", "timed with a cold L2 here and with a warm one in the baseline; give both runs the same --perf-l2"
    )  # fmt: skip
