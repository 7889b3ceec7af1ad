"""The emulation the CUDA kernels are tested on: what a GPU leaves undefined shows here, and its small formats are torch's."""

import ctypes
import subprocess

import emulated as building
import pytest
import torch

from pytest_perfq.kernels import toolchain

THREADS, BLOCKS = 64, 2


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    """emulation/faults.cu, compiled with the emulation as it stands."""
    if reason := toolchain.unavailable():
        pytest.skip(reason)
    into = tmp_path_factory.mktemp("faults") / "faults.so"
    sources = [building.HERE / "faults.cu", building.HERE / "emulation.cpp", building.CUDA / "errors.cu"]
    flags = ["-std=c++20", "-O1", "-fPIC", "-DPERFQ_EMULATED", f"-I{building.HERE}", f"-I{building.CUDA}"]
    command = [*toolchain.compiler(), *flags, "-shared", "-x", "c++", *map(str, sources), "-o", str(into)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(into))


def run(faults, name):
    """The sentence of the launch, empty where it went well, and what each thread wrote (-7 where it wrote nothing)."""
    out = torch.full((THREADS,), -7.0)
    call = getattr(faults, f"run_{name}")
    call.restype = ctypes.c_char_p
    return call(ctypes.c_void_p(out.data_ptr())).decode(), out


def test_a_lane_that_is_missing_from_a_shuffle_ends_the_launch(faults, order):
    said, _ = run(faults, "missing_lane")
    assert said == "only 31 lanes of warp 0 reached a warp-wide operation in block (0, 0, 0)"


def test_threads_at_two_barriers_end_the_launch(faults, order):
    said, out = run(faults, "two_barriers")
    assert said.startswith("threads wait for each other at different barriers, in lines ") and said.endswith("block (0, 0, 0)")
    assert (out == -7).all()


def test_shared_memory_nobody_wrote_is_nan(faults, order):
    said, out = run(faults, "never_written")
    assert said == "" and out.isnan().nonzero().flatten().tolist() == [7]
    assert (out.nan_to_num(1.0) == 1).all()


def test_a_missing_barrier_shows_in_one_order(faults, monkeypatch):
    right = torch.arange(-1.0, THREADS - 1)
    found = {}
    for order in ("forward", "reverse"):
        monkeypatch.setenv("PERFQ_EMULATED_ORDER", order)
        said, found[order] = run(faults, "without_barrier")
        assert said == "" and torch.equal(run(faults, "with_barrier")[1], right)
    assert torch.equal(found["forward"], right)
    assert found["reverse"][1:].isnan().all()


def test_a_copy_that_was_not_waited_for_never_happens(faults, order):
    said, out = run(faults, "without_wait")
    assert said == "" and out.isnan().all()
    said, out = run(faults, "with_wait")
    assert said == "" and (out == 2).all()  # the fourth float was not given: zero


def test_a_ballot_counts_the_warp(faults, order):
    said, out = run(faults, "votes")
    assert said == "" and (out == 11).all()  # 0, 3 ... 30


def test_a_block_of_too_many_threads_is_refused(faults):
    assert run(faults, "too_many_threads")[0] == "a launch of 1 x 1 x 1 blocks of 1025 threads"


# (name, torch's type, integers of its size)
FORMATS = [
    ("f16", torch.float16, torch.int16),
    ("bf16", torch.bfloat16, torch.int16),
    ("f8", torch.float8_e4m3fn, torch.uint8),
]


def all_codes(integers):
    return torch.arange(256).to(torch.uint8) if integers == torch.uint8 else torch.arange(65536).to(torch.int16)


def convert(function, given, dtype):
    into = torch.empty(len(given), dtype=dtype)
    function(ctypes.c_void_p(given.data_ptr()), ctypes.c_void_p(into.data_ptr()), len(given))
    return into


@pytest.mark.parametrize(("name", "dtype", "integers"), FORMATS, ids=lambda one: str(one))
def test_every_code_is_torchs_value(faults, name, dtype, integers):
    codes = all_codes(integers)
    theirs = codes.view(dtype).float()
    ours = convert(getattr(faults, f"from_{name}"), codes, torch.float32)
    assert torch.equal(ours.isnan(), theirs.isnan()) and torch.equal(ours.nan_to_num(), theirs.nan_to_num())
    back = convert(getattr(faults, f"to_{name}"), ours, integers)
    assert torch.equal(back[~theirs.isnan()], codes[~theirs.isnan()])
    assert back[theirs.isnan()].view(dtype).float().isnan().all()


@pytest.mark.parametrize(("name", "dtype", "integers"), FORMATS, ids=lambda one: str(one))
def test_floats_round_as_torchs_do(faults, name, dtype, integers):
    """The values of every format, those halfway between two of this one, and their neighbours."""
    own = all_codes(integers).view(dtype).float()
    own = own[own.isfinite()].sort().values
    halves = ((own[1:].double() + own[:-1].double()) / 2).float()
    up, down = torch.full_like(halves, float("inf")), torch.full_like(halves, -float("inf"))
    values = torch.cat(
        [halves, halves.nextafter(up), halves.nextafter(down), all_codes(torch.int16).view(torch.float16).float()]
    )
    values = values[values.isfinite()]
    theirs = values.to(dtype)
    beyond = values.abs() > 448 if name == "f8" else torch.zeros_like(values, dtype=torch.bool)
    ours = convert(getattr(faults, f"to_{name}"), values, integers)
    assert torch.equal(ours[~beyond], theirs.view(integers)[~beyond])
    # torch makes NaN of what f8 cannot hold; CUDA, and so its emulation, its largest number.
    assert torch.equal(ours[beyond].view(dtype).float(), values[beyond].sign() * 448)
