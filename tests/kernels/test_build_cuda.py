"""How the CUDA library comes to be, without a GPU: the real sources for every architecture, and each sentence where it cannot
be, on a few lines of CUDA in the tree's shape."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from kept import CACHE

from pytest_perfq.errors import KernelsUnavailable
from pytest_perfq.kernels import ahead_cuda, build_cuda, cuda_toolkit

TREE = {
    "csrc/names.h": "",
    "cuda/scale.cuh": "#define PERFQ_SCALE 2.f\n",
    "cuda/scale.cu": """
        #include "scale.cuh"
        __global__ void scale(float* x) { x[threadIdx.x] *= PERFQ_SCALE; }
        extern "C" int launch_scale(float* x, void* stream) {
          scale<<<1, 32, 0, (cudaStream_t)stream>>>(x);
          return (int)cudaGetLastError();
        }
        """,
    "cuda/bindings.cpp": 'extern "C" __attribute__((visibility("default"))) int four() { return 4; }\n',
}
# 64 values that all stand at once, in the 16 registers that -maxrregcount leaves.
SPILLING = """
    __global__ void hoard(const float* x, float* y) {
      float held[64];
      #pragma unroll
      for (int i = 0; i < 64; ++i) held[i] = x[i * 32 + threadIdx.x];
      __syncthreads();
      #pragma unroll
      for (int i = 0; i < 64; ++i) y[i * 32 + threadIdx.x] = held[63 - i] * held[(i * 7) % 64];
    }
    """
BUILDER = """
import sys
from pathlib import Path
from dataclasses import replace
from pytest_perfq.kernels import build_cuda
made_from = replace(build_cuda.recipe_cuda([(9, 0)], Path(sys.argv[1])), links=())
print(build_cuda.cuda_library(Path(sys.argv[2]), print, made_from))
"""


LOADER = """
import sys
from pathlib import Path
from pytest_perfq.kernels import ahead_cuda
print(*ahead_cuda.loaded(Path(sys.argv[1]), Path(sys.argv[2])))
"""


def lacking():
    try:
        cuda_toolkit.toolkit()
    except KernelsUnavailable as error:
        return str(error)
    return None


needs_nvcc = pytest.mark.skipif(lacking() is not None, reason=str(lacking()))


@pytest.fixture
def tree(tmp_path):
    """A folder of sources; `tree(capabilities, name, text)` changes one and gives its recipe."""
    root = tmp_path / "sources"
    for name, text in TREE.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)

    def recipe(capabilities=((9, 0),), name=None, text="", **changes):
        if name:
            (root / name).write_text(text)
        return replace(build_cuda.recipe_cuda(capabilities, root), **{"links": (), **changes})

    return recipe


def refused(tmp_path, made_from):
    with pytest.raises(KernelsUnavailable) as caught:
        build_cuda.cuda_library(tmp_path / "cache", lambda line: None, made_from)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_real_sources_compile_from_sm_75_to_sm_90_and_nothing_spills(cuda_library):
    found = build_cuda.about(cuda_library.parent).kernels
    architectures = {u.architecture for u in found}
    per_architecture = {one: sorted(u.kernel for u in found if u.architecture == one) for one in architectures}
    # A library that make kernels-cuda left has those between as well.
    assert {75, 90} <= architectures <= {*build_cuda.AHEAD} and len({str(names) for names in per_architecture.values()}) == 1
    assert per_architecture[90] and not [u for u in found if u.spills]
    assert all(0 < u.registers <= 255 and u.shared_bytes <= 48 * 1024 for u in found)  # the hardware's bounds


def test_the_real_library_loads_on_this_torch_beside_the_cpu_library(cuda_library, kernels):
    cache = str(cuda_library.parents[2])
    done = subprocess.run([sys.executable, "-c", LOADER, cache, str(cuda_library)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "perfq::add_layernorm" in done.stdout.split()


@needs_nvcc
def test_a_library_is_built_once_loads_and_is_built_again_when_damaged(tree, tmp_path):
    said = []
    path = build_cuda.cuda_library(tmp_path / "cache", said.append, tree())
    assert said[0] == "building the native CUDA kernels for sm_90: 2 files" and len(said) == 2
    assert ctypes.CDLL(str(path)).four() == 4
    assert sorted(os.listdir(path.parent)) == ["about.json", "perfq_kernels_cuda.so", "sha256"]
    assert [(u.kernel, u.architecture, u.spills) for u in build_cuda.about(path.parent).kernels] == [("_Z5scalePf", 90, False)]
    assert build_cuda.cuda_library(tmp_path / "cache", said.append, tree()) == path and len(said) == 2
    half = path.read_bytes()[:100]
    path.unlink()  # the file itself is loaded here, and stays as it is
    path.write_bytes(half)
    assert build_cuda.cuda_library(tmp_path / "cache", said.append, tree()) == path
    assert said[2] == f"the native CUDA kernels in {path.parent} are damaged; building them again"
    assert ctypes.CDLL(str(path)).four() == 4


@needs_nvcc
def test_a_library_built_ahead_serves_the_gpus_that_it_covers_with_and_without_nvcc(tree, tmp_path, monkeypatch):
    cache, ahead = tmp_path / "cache", tree([divmod(one, 10) for one in build_cuda.AHEAD])
    path = build_cuda.cuda_library(cache, print, ahead)
    for capability in ((7, 5), (8, 0), (8, 6), (8, 9), (9, 0)):
        assert build_cuda.ready(cache, tree([capability])) == path
    assert build_cuda.ready(cache, tree([(10, 0)])) is None and build_cuda.ready(cache, tree([(7, 0)])) is None
    lost = {"tools": None, "lacking": "no nvcc"}
    assert build_cuda.cuda_library(cache, print, tree([(8, 9)], **lost)) == path
    assert refused(tmp_path, tree([(10, 0)], **lost)) == "no nvcc"
    changed = tree([(8, 9)], "cuda/scale.cuh", "#define PERFQ_SCALE 3.f\n", **lost)
    assert refused(tmp_path, changed) == "no nvcc"


def test_machine_code_runs_on_later_minors_of_its_major_only():
    """NVIDIA's rule of binary compatibility, CUDA C++ Programming Guide."""
    assert build_cuda.covers([80], [80, 86, 89]) and build_cuda.covers([75, 90], [75, 90])
    assert not build_cuda.covers([86], [80]) and not build_cuda.covers([80], [90]) and not build_cuda.covers([75, 80], [80, 90])


@needs_nvcc
def test_the_key_is_everything_that_goes_in(tree):
    key = tree().key()
    assert tree().key() == key and key.startswith("cuda-")
    tools = tree().tools
    keys = [
        tree([(8, 0)]).key(),
        tree([(8, 0), (9, 0)]).key(),
        tree(torch_version="2.99.0").key(),
        tree(nvcc_flags=("-O1",)).key(),
        tree(host_flags=("-O1",)).key(),
        tree(links=("-lm",)).key(),
        tree(tools=replace(tools, version="nvcc 99")).key(),
        tree(tools=replace(tools, host_version="g++ 99")).key(),
        tree([(9, 0)], "cuda/scale.cuh", "#define PERFQ_SCALE 3.f\n").key(),  # a header alone
    ]
    assert len({key, *keys}) == len(keys) + 1
    assert tree([(9, 0)], "cuda/scale.cuh", TREE["cuda/scale.cuh"]).key() == key


@needs_nvcc
def test_processes_at_once_build_once(tree, tmp_path):
    command = [sys.executable, "-c", BUILDER, str(tree().sources), str(tmp_path / "cache")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    lines = [out.splitlines() for out, _ in said]
    assert sum(line.startswith("building the native CUDA kernels") for one in lines for line in one) == 1
    assert len({one[-1] for one in lines}) == 1 and lines[0][-1].endswith("perfq_kernels_cuda.so")


@needs_nvcc
def test_a_kernel_that_spills_is_refused_by_name_architecture_and_bytes(tree, tmp_path):
    made_from = tree([(9, 0)], "cuda/scale.cu", SPILLING, nvcc_flags=(*build_cuda.NVCC, "-maxrregcount=16"))
    line = refused(tmp_path, made_from)
    assert line.startswith("the native CUDA kernels cannot be built: cuda/scale.cu: hoard spills on sm_90, ")
    assert line.endswith(" loaded a thread; 0 bytes are allowed: hold fewer values at once or run fewer threads a block")
    assert int(line.split("sm_90, ")[1].split()[0]) > 0
    assert [name for name in os.listdir(tmp_path / "cache" / "kernels") if not name.endswith(".lock")] == []


@needs_nvcc
@pytest.mark.parametrize("name", ["cuda/scale.cu", "cuda/bindings.cpp"])
def test_a_source_that_does_not_compile_is_one_sentence(name, tree, tmp_path):
    made_from = tree([(9, 0)], name, "int broken() { return nothing; }\n")
    line = refused(tmp_path, made_from)
    assert (
        line.startswith(f"the native CUDA kernels cannot be built: {name}: {name}") and "error: " in line and "nothing" in line
    )
    assert line.endswith(f"; this was {made_from.tools.version} with {made_from.tools.host_version}")


@needs_nvcc
def test_sources_that_change_meanwhile_make_no_library(tree, tmp_path):
    made_from = tree()

    def edit(line):  # the first line is said once the build has begun
        (made_from.sources / "cuda/scale.cuh").write_text("#define PERFQ_SCALE 3.f\n")

    with pytest.raises(KernelsUnavailable) as caught:
        build_cuda.cuda_library(tmp_path / "cache", edit, made_from)
    assert str(caught.value) == "the sources of the native CUDA kernels changed while they were built; build them again"


@needs_nvcc
def test_a_library_that_does_not_link_is_one_sentence(tree, tmp_path):
    line = refused(tmp_path, tree(links=("-lperfq_no_such_thing",)))
    assert line.startswith("the native CUDA kernels cannot be built: perfq_kernels_cuda.so: ") and "perfq_no_such_thing" in line


def test_a_library_that_does_not_load_is_one_sentence(kernels, tmp_path):
    broken = tmp_path / "perfq_kernels_cuda.so"
    broken.write_bytes(b"no library")
    with pytest.raises(KernelsUnavailable, match=r"^the native CUDA kernels were built and cannot be loaded: .*; remove "):
        ahead_cuda.loaded(tmp_path, broken)


UNNAMED = """
    #include <torch/csrc/stable/library.h>
    #include <torch/csrc/stable/tensor.h>
    torch::stable::Tensor same(torch::stable::Tensor x) { return x; }
    STABLE_TORCH_LIBRARY_IMPL(perfq, CUDA, m) { m.impl("in_no_schema", TORCH_BOX(&same)); }
    """


@needs_nvcc
def test_an_implementation_of_no_schema_is_one_sentence(kernels, tree, tmp_path):
    links = build_cuda.recipe_cuda([(9, 0)]).links
    path = build_cuda.cuda_library(tmp_path / "cache", print, tree([(9, 0)], "cuda/bindings.cpp", UNNAMED, links=links))
    done = subprocess.run([sys.executable, "-c", LOADER, str(CACHE), str(path)], capture_output=True, text=True)
    assert "KernelsUnavailable: the native CUDA kernels implement what no schema names: " in done.stderr, done.stderr
    assert "perfq::in_no_schema" in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].endswith("; add it to csrc/schema.cpp")
