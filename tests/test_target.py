from dataclasses import replace

import pytest

from pytest_perfq.core.case import Case
from pytest_perfq.core.spec import Spec
from pytest_perfq.target import resolve


@pytest.mark.parametrize(
    "asserted, present, found, gpu, accuracy, latency, timed",
    [
        ("auto", False, None, "cpu", "cpu", "cpu", False),
        ("auto", True, "h100", "h100", "cuda", "cuda", True),
        ("cpu", True, "h100", "cpu", "cpu", "cpu", False),
        ("t4", False, None, "t4", "cpu", "cuda", False),
        ("t4", True, "h100", "t4", "cuda", "cuda", False),
        ("t4", True, "t4", "t4", "cuda", "cuda", True),
    ],
)
def test_the_asserted_gpu_decides_devices_and_budgets(asserted, present, found, gpu, accuracy, latency, timed):
    target = resolve(asserted, present, found)
    assert (target.gpu, target.accuracy_device, target.latency_device) == (gpu, accuracy, latency)
    case = Case(
        task=Spec("t"), dataset="d", model="m", model_name="m", backend=Spec("eager"), device="cuda", batch_size=1, seq_len=8
    )
    reason = target.unmeasured(case)
    assert (reason is None) == (timed or asserted == "auto")
    if not timed and asserted == "t4":
        assert (
            reason == f"--perf-gpu=t4 asserts a t4, and this machine {'has a h100' if present else 'has no GPU'}; run it on one"
        )
    assert target.unmeasured(case.program()) is None  # accuracy always runs


def test_a_cold_l2_leaves_latency_on_the_cpu_unmeasured():
    target = resolve("auto", False, None, "cold")
    case = Case(task=Spec("t"), dataset="d", model="m", model_name="m", backend=Spec("eager"), batch_size=1, seq_len=8)
    assert target.unmeasured(case) == (
        "--perf-l2=cold empties the L2 of a GPU before every call, and this case runs on the CPU, whose caches are not emptied; "
        "run it with --perf-l2=warm"
    )
    assert target.unmeasured(case.program()) is resolve("auto", False, None).unmeasured(case) is None
    assert resolve("auto", True, "h100", "cold").unmeasured(replace(case, device="cuda")) is None
