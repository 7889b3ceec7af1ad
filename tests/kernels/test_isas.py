"""The instruction sets: which of them a processor runs, what is compiled for it, and that nothing else is ever chosen.

No test here runs an instruction that the machine may lack: what a processor has is given, or asked of the compiler's runtime.
"""

from __future__ import annotations

import ctypes
import dataclasses
import platform
import shutil
import subprocess
import sys

import pytest
from kept import CACHE

from pytest_perfq.errors import KernelsUnavailable
from pytest_perfq.kernels import build, isas, ops, toolchain

needs_compiler = pytest.mark.skipif(toolchain.unavailable() is not None, reason=str(toolchain.unavailable()))
needs_x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="these are sets of x86")

PLAIN = frozenset({"sse2", "sse4_2", "avx"})
HASWELL = PLAIN | {"avx2", "fma"}
SKYLAKE = HASWELL | {"avx512f", "avx512bw", "avx512dq", "avx512vl"}
ICE_LAKE = SKYLAKE | {"avx512_vnni"}
ALDER_LAKE = HASWELL | {"avx_vnni"}
COOPER_LAKE = ICE_LAKE | {"avx512_bf16"}
SAPPHIRE_RAPIDS = COOPER_LAKE | {"avx_vnni", "amx_tile", "amx_int8", "amx_bf16"}
RUN = {
    PLAIN: ["portable"],
    HASWELL: ["portable", "avx2"],
    HASWELL - {"fma"}: ["portable"],
    SKYLAKE: ["portable", "avx2"],
    ICE_LAKE: ["portable", "avx2", "avx512vnni"],
    ICE_LAKE - {"avx512vl"}: ["portable", "avx2"],
    ALDER_LAKE: ["portable", "avx2", "avxvnni"],
    COOPER_LAKE: ["portable", "avx2", "avx512vnni", "avx512bf16"],
    SAPPHIRE_RAPIDS: ["portable", "avx2", "avxvnni", "avx512vnni", "avx512bf16", "amx"],
    SAPPHIRE_RAPIDS - {"amx_bf16"}: ["portable", "avx2", "avxvnni", "avx512vnni", "avx512bf16"],
    SAPPHIRE_RAPIDS - {"amx_tile"}: ["portable", "avx2", "avxvnni", "avx512vnni", "avx512bf16"],
    SAPPHIRE_RAPIDS - {"avx512_bf16"}: ["portable", "avx2", "avxvnni", "avx512vnni"],
}


@needs_x86
@pytest.mark.parametrize("flags", RUN)
def test_what_a_processor_runs_is_what_is_compiled_for_it(flags, monkeypatch):
    monkeypatch.delenv(isas.CHOICE, raising=False)
    assert isas.runnable(flags) == list(isas.compiled(flags)) == RUN[flags]


@pytest.mark.parametrize("gives", [True, False])
def test_tiles_count_where_the_system_gives_them(gives, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(isas, "gives_tiles", lambda: asked.append(1) or gives)
    other, sapphire = tmp_path / "other", tmp_path / "sapphire"
    other.write_text(f"processor\t: 0\nflags\t\t: {' '.join(sorted(COOPER_LAKE))}\n")
    sapphire.write_text(f"processor\t: 0\nflags\t\t: {' '.join(sorted(SAPPHIRE_RAPIDS))}\n")
    assert isas.cpu_flags(str(other)) == COOPER_LAKE and not asked  # nobody is asked for what is not there
    assert isas.cpu_flags(str(sapphire)) == SAPPHIRE_RAPIDS - (frozenset() if gives else isas.TILES)


@pytest.mark.skipif(isas.AMX not in isas.runnable(isas.cpu_flags()), reason="this processor gives no tiles")
def test_the_system_is_asked_as_the_library_asks(kernels):
    assert isas.gives_tiles() and kernels.select_isa("auto") == isas.AMX


SMALL_STACK = """
import ctypes, os, sys
from pathlib import Path
class Stack(ctypes.Structure):
    _fields_ = [("at", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]
memory = ctypes.create_string_buffer(2048)
assert ctypes.CDLL(None).sigaltstack(ctypes.byref(Stack(ctypes.addressof(memory), 0, len(memory))), None) == 0
from pytest_perfq.errors import KernelsUnavailable
from pytest_perfq.kernels import ops
try:
    ops.load(Path(sys.argv[1]))
except KernelsUnavailable as error:
    print(error)
"""


@pytest.mark.skipif(isas.AMX not in isas.runnable(isas.cpu_flags()), reason="this processor gives no tiles")
def test_tiles_that_the_system_refuses_to_a_process_are_told_of(kernels):
    """It does where a thread has a signal stack that could not hold them."""
    done = subprocess.run([sys.executable, "-c", SMALL_STACK, str(CACHE)], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == [
        "the native kernels can run on avx512bf16 in this process, and this processor has amx, which the system does not give it; "
        "set PERFQ_KERNELS_ISAS=avx512bf16 to have them run on that"
    ], done.stderr


@needs_x86
@pytest.mark.parametrize(("found", "refused"), [("portable", True), ("avx2", False), ("amx", False)])
def test_a_library_that_falls_back_is_refused(found, refused, monkeypatch):
    monkeypatch.delenv(isas.CHOICE, raising=False)
    monkeypatch.setattr(isas, "cpu_flags", lambda: HASWELL)
    monkeypatch.setattr(ops, "select_isa", lambda wanted: found)
    if not refused:
        return ops.hold_to_the_best()
    with pytest.raises(KernelsUnavailable, match=r"can run on portable in this process, and this processor has avx2, "):
        ops.hold_to_the_best()


@needs_x86
@pytest.mark.parametrize(
    ("flags", "chosen", "runs"),
    [
        (HASWELL, "", None), (HASWELL, "all", None), (HASWELL, "avx2", None), (HASWELL, "portable", "portable"),
        (HASWELL, "avx512vnni", "portable"), (SAPPHIRE_RAPIDS, "avx2,avx512vnni", "avx512vnni"), (PLAIN, "portable", None),
        (SAPPHIRE_RAPIDS, "sse9", None),
    ],
)  # fmt: skip
def test_a_processor_that_is_held_back_is_told_of(flags, chosen, runs, monkeypatch):
    monkeypatch.setenv(isas.CHOICE, chosen)
    assert isas.held_back(flags) == runs


@needs_x86
def test_a_processor_that_does_not_tell_its_flags_gets_all(monkeypatch):
    monkeypatch.delenv(isas.CHOICE, raising=False)
    assert isas.runnable(frozenset()) == list(isas.compiled(frozenset())) == list(isas.X86)


@needs_x86
def test_another_choice_is_compiled_instead(monkeypatch):
    for chosen, names in {
        "all": list(isas.X86),
        "avx512vnni": ["portable", "avx512vnni"],
        " avxvnni, avx2 ": RUN[ALDER_LAKE],
    }.items():
        monkeypatch.setenv(isas.CHOICE, chosen)
        assert list(isas.compiled(HASWELL)) == names
    monkeypatch.setenv(isas.CHOICE, "")
    assert list(isas.compiled(HASWELL)) == RUN[HASWELL]


def test_an_unknown_choice_is_one_sentence(monkeypatch):
    monkeypatch.setenv(isas.CHOICE, "avx2,sse9")
    monkeypatch.setattr(isas.platform, "machine", lambda: "x86_64")
    with pytest.raises(KernelsUnavailable) as caught:
        isas.compiled()
    assert str(caught.value) == (
        "PERFQ_KERNELS_ISAS names the instruction set 'sse9', which is none of portable, avx2, avxvnni, avx512vnni, avx512bf16, amx; "
        "correct it, or unset it to compile what this processor runs"
    )


def test_another_architecture_has_the_portable_set_alone(monkeypatch):
    monkeypatch.setattr(isas.platform, "machine", lambda: "aarch64")
    assert isas.runnable(frozenset({"asimd"})) == list(isas.known()) == ["portable"]


# A library with the real dispatch, whose sets hold a name and what they need, and nothing that could run.
ASKED = """
#include "launch.h"
#include "processor.h"
#include <cstring>
#define API extern "C" __attribute__((visibility("default")))
API const char* best() { return perfq::find_kernels("auto")->isa; }
API int found(const char* isa) { const perfq::Kernels* one = perfq::find_kernels(isa); return one && std::strcmp(one->isa, isa) == 0; }
API const char* names() { return perfq::kSetNames; }
API unsigned units(unsigned ecx1, unsigned ebx7, unsigned ecx7, unsigned edx7, unsigned eax7_1, unsigned xcr0) {
  return perfq::units_of({ecx1, ebx7, ecx7, edx7, eax7_1, xcr0});
}
API int has_avx2() { return __builtin_cpu_supports("avx2"); }
API int has_fma() { return __builtin_cpu_supports("fma"); }
API int has_avx512vnni() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}
"""
TABLE = """
#include "launch.h"
#include "processor.h"
#define QUOTE(isa) #isa
#define TEXT(isa) QUOTE(isa)
namespace perfq {
namespace PERFQ_ISA {
extern const Kernels kernels;
const Kernels kernels = {TEXT(PERFQ_ISA), kCompiledFor};
}
}
"""


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """The library of ASKED and TABLE, with every set."""
    root = tmp_path_factory.mktemp("dispatch")
    for folder in build.FOLDERS:
        (root / folder).mkdir()
    for name in ("dispatch.cpp", "launch.h", "processor.h"):
        shutil.copy(build.SOURCES / "cpu" / name, root / "cpu" / name)
    (root / "cpu" / "asked.cpp").write_text(ASKED)
    (root / "cpu" / "table.cpp").write_text(TABLE)
    sets = {name: isa.flags for name, isa in isas.X86.items()}
    recipe = dataclasses.replace(
        build.recipe(root), isas=sets, links=(), flags=(*build.COMMON, "-O1", "-Wno-missing-field-initializers")
    )
    library = ctypes.CDLL(str(build.library(root / "cache", print, recipe)))
    library.best.restype = library.names.restype = ctypes.c_char_p
    return library


@needs_compiler
@needs_x86
def test_a_library_with_every_set_runs_what_the_processor_has(asked):
    """The oracle is what Linux and the compiler's own runtime say of the processor."""
    runs = isas.runnable(isas.cpu_flags()) if isas.cpu_flags() else ["portable"] + ["avx2"] * asked.has_avx2()
    assert asked.best().decode() == runs[-1]
    assert [name for name in isas.X86 if asked.found(name.encode())] == runs
    assert asked.found(b"avx2") == bool(asked.has_avx2() and asked.has_fma())
    assert asked.found(b"avx512vnni") == asked.has_avx512vnni()
    assert not asked.found(b"sse9") and asked.names() == b"auto, amx, avx512bf16, avx512vnni, avxvnni, avx2, portable"


# Bits of cpuid as Intel's manual and Linux (arch/x86/include/asm/cpufeatures.h) number them: register, bit, and ours.
ECX1, EBX7, ECX7, EDX7, EAX7_1 = range(5)
AVX2 = {(EBX7, 5): 1, (ECX1, 12): 2, (EAX7_1, 4): 4}
AVX512 = {(EBX7, 16): 8, (EBX7, 30): 16, (EBX7, 17): 32, (EBX7, 31): 64, (ECX7, 11): 128, (EAX7_1, 5): 256}
AMX = {(EDX7, 24): 512, (EDX7, 25): 1024, (EDX7, 22): 2048}
SSE_STATE, YMM_STATE, ZMM_STATE, TMM_STATE = 0x3, 0x7, 0xE7, 0x600E7


@needs_compiler
@needs_x86
def test_a_unit_counts_where_the_system_keeps_its_registers(asked):
    every = [0, 0, 0, 0, 0]
    for register, bit in AVX2 | AVX512 | AMX:
        one = [0, 0, 0, 0, 0]
        one[register] = 1 << bit
        every[register] |= 1 << bit
        assert asked.units(*one, TMM_STATE) == (AVX2 | AVX512 | AMX)[register, bit]
        assert asked.units(*one, ZMM_STATE) == (AVX2 | AVX512).get((register, bit), 0)
        assert asked.units(*one, YMM_STATE) == AVX2.get((register, bit), 0)
        assert asked.units(*one, SSE_STATE) == 0
    assert (
        asked.units(*every, TMM_STATE) == 4095 and asked.units(*every, TMM_STATE & ~0x40000) == 511
    )  # tiles' data is not kept
    assert asked.units(*every, ZMM_STATE) == 511 and asked.units(*every, YMM_STATE) == 7 and asked.units(*every, 0) == 0
    assert asked.units(*(~one & 0xFFFFFFFF for one in every), TMM_STATE) == 0
    assert asked.units(*every, ZMM_STATE & ~0x40) == 7  # one of the three states of AVX512 is not kept
