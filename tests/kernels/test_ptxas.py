"""What ptxas said, recorded, and what is read from it."""

from __future__ import annotations

import pytest

from pytest_perfq.kernels import ptxas

RECORDED = """
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN5perfq4cuda45_GLOBAL__N__33a38046_12_layernorm_cu_67598a6c13add_layernormIfiEEvf' for 'sm_75'
ptxas info    : Function properties for _ZN5perfq4cuda45_GLOBAL__N__33a38046_12_layernorm_cu_67598a6c13add_layernormIfiEEvf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 99 registers, used 1 barriers, 488 bytes cmem[0]
ptxas info    : Compile time = 1863.397 ms
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'wide' for 'sm_90'
ptxas info    : Function properties for wide
    16520 bytes stack frame, 34940 bytes spill stores, 53292 bytes spill loads
ptxas info    : Used 64 registers, used 1 barriers, 16520 bytes cumulative stack size, 128 bytes smem
ptxas info    : Compile time = 3171.113 ms
""".splitlines()  # nvcc 13.0


def test_what_ptxas_says_is_read():
    found = ptxas.usages(RECORDED)
    assert [(u.architecture, u.registers, u.shared_bytes, u.spill_stores_bytes, u.spill_loads_bytes) for u in found] == [
        (75, 99, 0, 0, 0),
        (90, 64, 128, 34940, 53292),
    ]
    assert [u.spills for u in found] == [False, True] and found[1].kernel == "wide"
    assert ptxas.table(found)[1] == "wide: registers 64 on sm_90; 128 bytes of static shared memory; spills on 1 architectures"


def test_what_ptxas_leaves_unsaid_is_an_error():
    with pytest.raises(ValueError, match=r"^ptxas does not tell the registers and spills of a kernel; it says "):
        ptxas.usages(RECORDED[:3])
