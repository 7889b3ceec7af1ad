"""The kernels for processors with a byte dot product (AVX-VNNI, AVX512-VNNI), with 64-byte vectors and with tiles (AMX), on any x86
with AVX2: those instructions are played in plain C++, and the rest of the sources is what those processors run.

The tests of the ops that have such tiles are collected here again, and their own follow.
"""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess

import played
import pytest
import test_attention
import test_encoder
import test_layer
import test_layernorm
import test_linear
import test_linear_int8
import tolerance
import torch
from kept import CACHE
from operands import bounds, integers, normal, one, weight, weight_int8, zero

from pytest_perfq.kernels import build, isas, ops, toolchain
from pytest_perfq.kernels.bits import BITS

pytestmark = pytest.mark.skipif("avx2" not in isas.runnable(isas.cpu_flags()), reason="the sets are played on AVX2")
ALL_BITS = sorted(BITS)
ONLY_WIDE = (test_attention, test_encoder, test_layer, test_layernorm, test_linear)
for _module in (test_linear_int8, *ONLY_WIDE):
    # Under the module's name as well: several have tests of one name, and the last would stand for all.
    globals().update(
        (f"{name}_of_{_module.__name__.removeprefix('test_')}", test)
        for name, test in vars(_module).items()
        if name.startswith("test_") and inspect.isfunction(test) and "isa" in inspect.signature(test).parameters
    )


def pytest_generate_tests(metafunc):
    """By vectors of 32 bytes only the INT8 linear is another than AVX2's, and by tiles too as far as this module goes. Its own tests
    of INT8 run on the real sets as well, where the processor has them."""
    if "isa" not in metafunc.fixturenames:
        return
    home, names = metafunc.function.__module__, list(played.BYTES)
    if home in {module.__name__ for module in ONLY_WIDE}:
        names = ["played512"]
    elif metafunc.function.__name__.startswith("test_int8") or home == test_linear_int8.__name__:
        names.append(played.TILES)
    if home == __name__ and played.TILES in names:
        names += [name for name in isas.runnable(isas.cpu_flags()) if name not in ("portable", "avx2")]
    metafunc.parametrize("isa", names, indirect=True, scope="module")


@pytest.fixture(scope="module")
def isa(request, kernels):
    yield request.param
    kernels.select_isa("auto")


@pytest.fixture(autouse=True)
def on_its_set(request):
    """Chosen again for each test: only one set that is played can be there at a time."""
    if "isa" not in request.fixturenames:
        return
    if (name := request.getfixturevalue("isa")) in played.SETS:
        played.choose(name, CACHE)
    else:
        ops.select_isa(name)


def hold_alike(ours, theirs):
    """To the last bit; but for the sanitizers' build, in which sets differ by which multiply-adds the compiler fuses: there a
    float by a few roundings, and so a level of a quantized one by one."""
    exact = os.environ.get(ops.SANITIZE) != "1"
    atol = 0.0 if exact else 1.0 if ours.dtype == torch.uint8 else tolerance.FUSED
    torch.testing.assert_close(ours, theirs, rtol=0.0 if exact else tolerance.FUSED, atol=atol)


def on(kernels, isa, call):
    """What `call` gives on an instruction set; the one that was chosen before is chosen again."""
    kernels.select_isa(isa)
    return call()


@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("tokens", [1, 2, 4, 5, 11, 12, 13, 25, 60])
def test_int8_sums_are_those_of_the_portable_path(tokens, bits, isa, kernels):
    """To the last bit: with a scale of one and no bias an output is the int32 sum, in float."""
    for in_features, out_features in ((1, 1), (8, 33), (77, 47), (520, 96), (1100, 40)):
        x = integers(0, BITS[bits].activation, tokens, in_features, dtype=torch.uint8)
        matrix, _ = weight_int8(out_features, in_features, bits)
        packed, sums = kernels.pack_weight_int8(matrix, bits), matrix.sum(1, dtype=torch.int32)
        given = (x, packed, torch.ones(out_features), sums, None, one(1.0), zero(61), None, None, bits, "none")
        ours = on(kernels, isa, lambda given=given: kernels.linear_int8(*given))
        assert torch.equal(ours, ((x.int() - 61) @ matrix.int().T).float())
        assert torch.equal(ours, on(kernels, "portable", lambda given=given: kernels.linear_int8(*given)))


@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("activation", ["none", "gelu"])
def test_int8_outputs_are_those_of_avx2(activation, bits, isa, kernels):
    """Quantizing, scaling and activation are the same code, so the last bit is the same."""
    matrix, scales = weight_int8(75, 200, bits)
    packed, sums = kernels.pack_weight_int8(matrix, bits), matrix.sum(1, dtype=torch.int32)
    for tokens in (1, 7, 40):
        for ends in ((None, None, None, None), (one(0.03), zero(60), one(0.02), zero(50))):
            given = (normal(tokens, 200), packed, scales, sums, normal(75), *ends, bits, activation)
            ours, theirs = (on(kernels, name, lambda given=given: kernels.linear_int8(*given)) for name in (isa, "avx2"))
            hold_alike(ours, theirs)


@pytest.mark.parametrize("activation", ["none", "gelu"])
def test_floats_are_those_of_avx2(activation, isa, kernels):
    """Whatever the tile, a sum is added up in the order of the depth by the same fused multiply-adds."""
    for tokens, in_features, out_features in (
        (1, 1, 1),
        (5, 300, 16),
        (12, 129, 33),
        (13, 600, 48),
        (50, 384, 100),
        (200, 40, 31),
    ):
        given = (
            normal(tokens, in_features),
            kernels.pack_weight(weight(out_features, in_features)),
            normal(out_features),
            out_features,
            activation,
        )
        ours, theirs = (on(kernels, name, lambda given=given: kernels.linear(*given)) for name in (isa, "avx2"))
        hold_alike(ours, theirs)


@pytest.mark.parametrize("size", [8, 32, 64, 80])
def test_attention_is_that_of_avx2(size, isa, kernels):
    lengths = [1, 7, 12, 13, 40, 395, 0, 33]
    given = (normal(sum(lengths), 3 * 2 * size), bounds(lengths), 2, size**-0.5)
    ours, theirs = (on(kernels, name, lambda: kernels.varlen_attention(*given)) for name in (isa, "avx2"))
    hold_alike(ours, theirs)


# Instructions that the loops are made for.
EXPECTED = {
    "avxvnni": {"linear_int8": [r"vpdpbusd %ymm\d+,%ymm\d+,%ymm\d+", r"vpunpcklwd .*%ymm"]},
    "avx512vnni": {
        "linear_int8": [r"vpdpbusd %zmm\d+,%zmm\d+,%zmm\d+", r"vpermw .*%zmm"],
        "linear": [r"vfmadd231ps %zmm\d+,%zmm\d+,%zmm\d+", r"vfmadd231ps .*\{1to16\},%zmm"],
        "attention": [r"vfmadd231ps %zmm\d+,%zmm\d+,%zmm\d+"],
    },
    "amx": {
        "linear_int8_amx": [r"tdpbssd %tmm\d,%tmm\d,%tmm\d", r"tdpbusd %tmm\d,%tmm\d,%tmm\d", r"tilerelease"],
        "linear_bf16_amx": [r"tdpbf16ps %tmm\d,%tmm\d,%tmm\d", r"vcvtne2ps2bf16 .*%zmm"],
        "attention_amx": [r"tdpbf16ps %tmm\d,%tmm\d,%tmm\d"],
    },
}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_real_instructions_are_in_the_library(name):
    """Compiled with the product's flags, read and not run."""
    if toolchain.unavailable():
        pytest.skip(str(toolchain.unavailable()))
    if shutil.which("objdump") is None:
        pytest.skip("objdump, which reads the library, is not on the path; it comes with binutils")
    path = played.library(CACHE, name, isas.X86[name].flags, [*EXPECTED[name], "scratch"], sanitize=False)
    command = ["objdump", "--disassemble", "--no-show-raw-insn", "--demangle", str(path)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for source, patterns in EXPECTED[name].items():
        for pattern in patterns:
            assert re.search(pattern, text), f"{source} has no {pattern}"
    assert name != "avxvnni" or "%zmm" not in text
    tiles = [part for part in text.split("\n\n") if "::columns<" in part.partition("\n")[0]]
    rows = {"avxvnni": 6, "avx512vnni": 12, "amx": 0}[name]
    assert len(tiles) == 2 * 2 * rows  # in fours and in twos, that ask for what comes next and that do not
    # Each step of eight of the depth is two products a row and vector; a sum that is kept on the stack would wait for it.
    assert not any(re.search(r"[yz]mm.*\(%r[sb]p|\(%r[sb]p.*[yz]mm", part) for part in tiles)


@pytest.mark.parametrize("name", ["avx2", isas.AMX])
def test_no_function_of_a_set_could_stand_for_one_of_another(name):
    """Of functions that several objects carry under one name the linker keeps one, and all sets would run its instructions. So
    what a set's sources leave behind, inlined where it is not in the set's namespace, has the set in its name."""
    if toolchain.unavailable():
        pytest.skip(str(toolchain.unavailable()))
    if shutil.which("nm") is None:
        pytest.skip("nm, which reads the library, is not on the path; it comes with binutils")
    sources = [path.stem for path in sorted(build.SOURCES.glob("cpu/*.cpp")) if build.PER_ISA in path.read_text()]
    path = played.library(CACHE, name, isas.X86[name].flags, sources, sanitize=False)
    text = subprocess.run(["nm", "--defined-only", str(path)], capture_output=True, text=True, check=True).stdout
    names = [line.split()[-1] for line in text.splitlines() if " _Z" in line]
    assert len(names) > len(sources) and [one for one in names if f"5perfq{len(name)}{name}" not in one] == []
