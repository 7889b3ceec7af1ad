"""How the library comes to be: what it is named by, that it is built once and whole, and each sentence where it cannot be.

The sources here are a few lines of C++ in the tree's shape, so that a build takes a second and needs no torch.
"""

from __future__ import annotations

import ctypes
import dataclasses
import os
import subprocess
import sys

import pytest

from pytest_perfq.errors import BuildError, KernelsUnavailable
from pytest_perfq.kernels import build, toolchain

TREE = {
    "csrc/schema.cpp": 'extern "C" __attribute__((visibility("default"))) int three() { return 3; }\n',
    "cpu/launchers.h": "namespace perfq { namespace PERFQ_ISA { int add(int a, int b); } }\n",
    "cpu/dispatch.cpp": """
        #define PERFQ_ISA portable
        #include "launchers.h"
        #undef PERFQ_ISA
        extern "C" __attribute__((visibility("default"))) int add(int a, int b) { return perfq::portable::add(a, b); }
        """,
    "cpu/add.cpp": '#include "launchers.h"\nnamespace perfq {\nnamespace PERFQ_ISA {\nint add(int a, int b) { return a + b; }\n}\n}\n',
}
BUILDER = """
import sys
from pathlib import Path
from pytest_perfq.kernels import build
made_from = build.recipe(Path(sys.argv[1]))
import dataclasses
made_from = dataclasses.replace(made_from, links=())
print(build.library(Path(sys.argv[2]), print, made_from))
"""
needs_compiler = pytest.mark.skipif(toolchain.unavailable() is not None, reason=str(toolchain.unavailable()))


@pytest.fixture
def tree(tmp_path):
    """A folder of sources; `tree(name=text)` changes one and gives its recipe."""
    root = tmp_path / "sources"
    for name, text in TREE.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)

    def recipe(name=None, text="", **changes):
        if name:
            (root / name).write_text(text)
        return dataclasses.replace(build.recipe(root), **{"links": (), **changes})

    return recipe


def made(tree, tmp_path, said=None):
    return build.library(tmp_path / "cache", (said if said is not None else []).append, tree())


@needs_compiler
def test_a_library_is_built_once_and_works(tree, tmp_path):
    said = []
    path = made(tree, tmp_path, said)
    files = 2 + len(tree().isas)
    assert path == tmp_path / "cache" / "kernels" / tree().key() / "perfq_kernels.so"
    assert said[0] == f"building the native kernels: {files} files" and said[1].startswith("built the native kernels, ")
    library = ctypes.CDLL(str(path))
    assert (library.three(), library.add(3, 4)) == (3, 7)
    before = path.stat().st_mtime_ns
    assert made(tree, tmp_path, said) == path and path.stat().st_mtime_ns == before and len(said) == 2
    assert sorted(os.listdir(path.parent)) == ["perfq_kernels.so", "sha256"]
    assert [name for name in os.listdir(path.parents[1]) if not name.endswith(".lock")] == [path.parent.name]


@needs_compiler
def test_sources_of_an_instruction_set_are_compiled_once_each(tree):
    isas = {"portable": (), "avx2": ("-mavx2", "-mfma"), "avxvnni": ("-mavx2", "-mfma", "-mavxvnni")}
    units = [(str(unit.source), unit.flags) for unit in tree(isas=isas).units()]
    sets = ("-DPERFQ_SETS(SET)=SET(avxvnni) SET(avx2) SET(portable)",)
    assert units == [
        ("cpu/dispatch.cpp", sets),
        ("csrc/schema.cpp", sets),
        *(("cpu/add.cpp", (f"-DPERFQ_ISA={isa}", *flags)) for isa, flags in isas.items()),
    ]
    assert len({unit.name for unit in tree(isas=isas).units()}) == len(units)


@needs_compiler
def test_the_key_is_everything_that_goes_in(tree):
    key = tree().key()
    assert tree().key() == key
    others = [
        tree(flags=(*tree().flags, "-DMORE")),
        tree(version="g++ 99"),
        tree(torch_version="2.99.0"),
        tree(compiler=("clang++",)),
        tree(links=("-lm",)),
        tree(isas={"portable": ("-O1",)}),
    ]
    keys = [other.key() for other in others]
    keys.append(tree("cpu/launchers.h", TREE["cpu/launchers.h"] + "\n").key())  # a header alone
    keys.append(tree("cpu/launchers.h", TREE["cpu/launchers.h"]).key())  # and back
    keys.append(tree("cpu/more.cpp", "").key())
    keys.append(build.recipe(tree().sources, sanitize=True).key())
    assert keys[7] == key and len({*keys}) == len(keys) and all(len(one) == 24 for one in keys)


@needs_compiler
def test_a_change_is_another_library_beside_the_first(tree, tmp_path):
    first = made(tree, tmp_path)
    tree("csrc/schema.cpp", TREE["csrc/schema.cpp"].replace("return 3", "return 4"))
    second = made(tree, tmp_path)
    assert first != second and (ctypes.CDLL(str(first)).three(), ctypes.CDLL(str(second)).three()) == (3, 4)


@needs_compiler
def test_processes_at_once_build_once(tree, tmp_path):
    command = [sys.executable, "-c", BUILDER, str(tree().sources), str(tmp_path / "cache")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], said
    lines = [out.splitlines() for out, _ in said]
    assert sum("building the native kernels: " in line for one in lines for line in one) == 1
    assert len({one[-1] for one in lines}) == 1 and lines[0][-1].endswith("perfq_kernels.so")


def _truncate(folder):
    path = folder / "perfq_kernels.so"
    path.write_bytes(path.read_bytes()[:100])


def _lose(folder):
    (folder / "perfq_kernels.so").unlink()


def _unsign(folder):
    (folder / "sha256").unlink()


def _scramble(folder):
    (folder / "sha256").write_bytes(b"\xff\xfe")


@needs_compiler
@pytest.mark.parametrize("damage", [_truncate, _lose, _unsign, _scramble])
def test_a_damaged_library_is_said_and_built_again(damage, tree, tmp_path):
    path, said = made(tree, tmp_path), []
    whole = path.read_bytes()
    damage(path.parent)
    assert made(tree, tmp_path, said) == path and path.read_bytes() == whole
    assert said[0] == f"the native kernels in {path.parent} are damaged; building them again" and len(said) == 3
    said.clear()
    made(tree, tmp_path, said)
    assert said == []


@needs_compiler
def test_what_a_killed_build_left_is_cleared(tree, tmp_path):
    left = tmp_path / "cache" / "kernels" / f".{tree().key()}.abc"
    left.mkdir(parents=True)
    (left / "half.o").write_bytes(b"x")
    assert made(tree, tmp_path).exists() and not left.exists()


@needs_compiler
def test_a_source_that_does_not_compile_is_one_sentence(tree, tmp_path):
    recipe = tree("cpu/add.cpp", TREE["cpu/add.cpp"].replace("return a + b", "return a + nothing"))
    with pytest.raises(KernelsUnavailable) as caught:
        build.library(tmp_path / "cache", print, recipe)
    line = str(caught.value)
    assert line.startswith("the native kernels cannot be built: cpu-add-portable.o: cpu/add.cpp:4:") and "\n" not in line
    assert "nothing" in line and line.endswith(f"; this was {recipe.version}, name another compiler in CXX")
    assert isinstance(caught.value, BuildError)
    assert [name for name in os.listdir(tmp_path / "cache" / "kernels") if not name.endswith(".lock")] == []
    mended = tree("cpu/add.cpp", TREE["cpu/add.cpp"])
    assert build.library(tmp_path / "cache", print, mended).exists()


@needs_compiler
def test_a_library_that_does_not_link_is_one_sentence(tree, tmp_path):
    with pytest.raises(
        KernelsUnavailable, match=r"^the native kernels cannot be built: perfq_kernels.so: .*perfq_no_such_thing.*; "
    ):
        build.library(tmp_path / "cache", print, tree(links=("-lperfq_no_such_thing",)))


FINDINGS = {
    "heap-buffer-overflow": "int* past = new int[n]; int got = past[n]; delete[] past; return got;",
    "signed integer overflow": "return 2147483647 + n;",
}


@needs_compiler
@pytest.mark.parametrize("finding", FINDINGS)
def test_a_sanitized_library_ends_on_a_finding(finding, tree, tmp_path):
    """What `make check-native` relies on: the first finding is the end of the process."""
    text = f'extern "C" __attribute__((visibility("default"))) int find(int n) {{ {FINDINGS[finding]} }}\n'
    tree("csrc/schema.cpp", text)
    runtime = subprocess.run(
        [*toolchain.compiler(), "-print-file-name=libasan.so"], capture_output=True, text=True
    ).stdout.strip()
    if not os.path.isabs(runtime):
        pytest.skip("this compiler has no libasan.so")
    recipe = dataclasses.replace(build.recipe(tree().sources, sanitize=True), links=())
    path = build.library(tmp_path / "cache", print, recipe)
    code = f"import ctypes; ctypes.CDLL({str(path)!r}).find(3); print('went on')"
    environment = {**os.environ, "LD_PRELOAD": runtime, "ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode != 0 and finding in done.stderr and "went on" not in done.stdout


@needs_compiler
def test_a_cache_that_cannot_be_written_is_one_sentence(tree, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(KernelsUnavailable) as caught:
        made(tree, tmp_path)
    folder = tmp_path / "cache" / "kernels" / tree().key()
    line = f"the native kernels cannot be kept in {folder}: Not a directory; choose another folder by PERFQ_CACHE"
    assert str(caught.value) == line


def test_no_compiler_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    line = "the native kernels need a C++20 compiler, and neither g++ nor clang++ is on the path; install one or name it in CXX"
    assert toolchain.unavailable() == line
    with pytest.raises(KernelsUnavailable) as caught:
        build.recipe()
    assert str(caught.value) == line


def test_a_named_compiler_that_is_not_there_is_one_sentence(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler -m64")
    assert toolchain.unavailable() == (
        "the native kernels need a C++20 compiler, and CXX names 'no-such-compiler', which is not there; install it or change CXX"
    )


def test_a_named_compiler_that_is_none_is_one_sentence(monkeypatch):
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(KernelsUnavailable) as caught:
        build.recipe()
    assert str(caught.value) == "'false' does not say which compiler it is (--version: exit status 1); change CXX"


@needs_compiler
def test_a_named_compiler_may_carry_arguments(monkeypatch):
    command = (*toolchain.compiler(), "-m64")
    monkeypatch.setenv("CXX", " ".join(command))
    assert build.recipe().compiler == command


@pytest.mark.parametrize("version", ["2.10.1", "2.6.0+cpu", "1.13.1"])
def test_an_old_torch_is_one_sentence(version, monkeypatch):
    monkeypatch.setattr(toolchain.importlib.metadata, "version", lambda name: version)
    monkeypatch.setenv("CXX", sys.executable)
    assert toolchain.unavailable() == f"the native kernels need torch 2.11 or newer, and this is {version}; upgrade torch"


@pytest.mark.parametrize("version", ["2.11.0", "2.13.0+cpu", "3.0.0a0+git123"])
def test_a_torch_of_the_stable_abi_will_do(version, monkeypatch):
    monkeypatch.setattr(toolchain.importlib.metadata, "version", lambda name: version)
    assert toolchain.torch_package()[0] == version


def test_windows_is_one_sentence(monkeypatch):
    monkeypatch.setattr(toolchain.sys, "platform", "win32")
    line = "the native kernels build on Linux and macOS, and this is Windows; choose another backend"
    assert toolchain.unavailable() == line


@needs_compiler
def test_objects_of_later_machines_are_linked_last(monkeypatch):
    """Of an inline function that several objects carry the linker keeps the first: never one that needs AVX2 to run, nor one
    that needs AVX512 where AVX2 will do."""
    monkeypatch.setenv("PERFQ_KERNELS_ISAS", "all")
    needing = [len(unit.flags) for unit in build.recipe().units() if unit.flags[0].startswith("-DPERFQ_ISA")]
    once = [unit.flags[0].startswith("-DPERFQ_SETS") for unit in build.recipe().units()]
    assert needing == sorted(needing) and once == sorted(once, reverse=True) and not all(once)


def test_the_module_builds_ahead(tmp_path):
    """`make kernels`: says where the library is, or why there is none."""
    environment = {**os.environ, "CXX": "no-such-compiler"}
    command = [sys.executable, "-m", "pytest_perfq.kernels.build", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1 and done.stderr.strip() == (
        "the native kernels need a C++20 compiler, and CXX names 'no-such-compiler', which is not there; install it or change CXX"
    )


def test_building_ahead_without_a_folder_names_the_command():
    done = subprocess.run([sys.executable, "-m", "pytest_perfq.kernels.build"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.strip() == (
        "building ahead takes one folder, the cache in use, and was given 0: python -m pytest_perfq.kernels.build FOLDER; "
        "perfq doctor names the folder"
    )
