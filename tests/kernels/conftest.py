"""The kernels, built once a session, and run on each instruction set."""

from __future__ import annotations

import played
import pytest
import torch
from emulated import load as load_emulated
from kept import CACHE
from on_gpu import OnGpu

from pytest_perfq.errors import KernelsUnavailable
from pytest_perfq.kernels import build_cuda, cuda_ops, cuda_toolkit, isas, ops, toolchain


@pytest.fixture(scope="session")
def kernels():
    """The ops, loaded. No compiler is a reason to skip; sources that do not compile are a failure."""
    if reason := toolchain.unavailable():
        pytest.skip(reason)
    ops.load(CACHE)
    return ops


@pytest.fixture(scope="session", params=isas.runnable(isas.cpu_flags())[::-1])
def isa(request, kernels):
    """Every test that asks for it runs on all instruction sets that this processor has."""
    return request.param


@pytest.fixture(
    scope="session",
    params=[played.BF16, played.TILES, *(name for name in isas.runnable(isas.cpu_flags()) if name in isas.BF16)],
)
def bf16_isa(request, kernels):
    """A set that multiplies bfloat16: the played ones and, where the processor has some, its own."""
    return request.param


@pytest.fixture(scope="session")
def bf16(bf16_isa, kernels):
    """The ops, on that set."""
    return kernels


@pytest.fixture(autouse=True)
def on_its_set(request):
    """The ops run on the set that a test asks for, or on the best, whatever ran before it."""
    if "kernels" not in request.fixturenames:
        return
    name = next((request.getfixturevalue(one) for one in ("isa", "bf16_isa") if one in request.fixturenames), "auto")
    if name in played.SETS:
        played.choose(name, CACHE)
    else:
        assert request.getfixturevalue("kernels").select_isa(name) == name or name == "auto"


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """The oracle is thousands of tiny calls, which two threads on a busy machine make ten times slower. What threads change
    for the kernels (nothing) is test_ops.py's."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def poisoned():
    """torch.empty gives NaN (255 for bytes) in these tests: an output that a kernel left unwritten cannot pass for zeros."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


def pytest_generate_tests(metafunc):
    """Where there is a GPU, tests of kernels that ask for the emulation run on it as well."""
    families = "activation attention embedding layernorm linear padding pooling quantize".split()
    if "emulated" in metafunc.fixturenames and torch.cuda.is_available():
        also = ["gpu"] if metafunc.module.__name__.removeprefix("test_cuda_") in families else []
        metafunc.parametrize("emulated", ["cpu", *also], indirect=True, scope="session")


@pytest.fixture(scope="session")
def emulated(request):
    """The ops of the CUDA kernels, emulated on the CPU, or on the GPU."""
    if reason := toolchain.unavailable():
        pytest.skip(reason)
    if getattr(request, "param", "cpu") == "gpu":
        return OnGpu(cuda_ops.load(CACHE))
    return load_emulated(CACHE)


@pytest.fixture(params=["forward", "reverse"])
def order(request, monkeypatch):
    """Threads of a block run first to last, and last to first: a missing barrier gives another result in one of them."""
    monkeypatch.setenv("PERFQ_EMULATED_ORDER", request.param)
    return request.param


@pytest.fixture(scope="session")
def cuda_library():
    """The CUDA library for the oldest and the newest architecture that are built ahead, from the cache or compiled; `make
    kernels-cuda` compiles all of them, which takes twice as long. No nvcc is a reason to skip."""
    try:
        cuda_toolkit.toolkit()
    except KernelsUnavailable as error:
        pytest.skip(str(error))
    made_from = build_cuda.recipe_cuda([divmod(one, 10) for one in (min(build_cuda.AHEAD), max(build_cuda.AHEAD))])
    return build_cuda.cuda_library(CACHE, print, made_from)
