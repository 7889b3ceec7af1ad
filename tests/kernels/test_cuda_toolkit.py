"""Where nvcc is looked for, what it is told of the host's compiler, and each sentence where something of it is missing."""

from __future__ import annotations

import os

import pytest

from pytest_perfq.errors import KernelsUnavailable
from pytest_perfq.kernels import complaints, cuda_toolkit

TOOLS = cuda_toolkit.Toolkit("/opt/cuda/bin/nvcc", "release 13.0", ("g++",), "g++ 99")


def sentence_without_nvcc():
    with pytest.raises(KernelsUnavailable) as caught:
        cuda_toolkit.toolkit()
    return str(caught.value)


def test_no_nvcc_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(cuda_toolkit, "DEFAULT_HOME", tmp_path / "usual")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "home"))
    line = (
        f"the native CUDA kernels need nvcc, which is neither on the path nor in {tmp_path}/home/bin nor in {tmp_path}/usual/bin; "
        "install the CUDA toolkit or name its folder in CUDA_HOME"
    )
    assert sentence_without_nvcc() == line
    monkeypatch.delenv("CUDA_HOME")
    assert f"in {tmp_path}/usual/bin, and CUDA_HOME is not set; " in sentence_without_nvcc()


@pytest.mark.parametrize("place", ["path", "home", "usual"])
def test_nvcc_is_found_in_three_places(place, tmp_path, monkeypatch):
    file = tmp_path / place / "bin" / "nvcc"
    file.parent.mkdir(parents=True)
    file.write_text("#!/bin/sh\nexit 3\n")
    file.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "path" / "bin"))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(cuda_toolkit, "DEFAULT_HOME", tmp_path / "usual")
    assert cuda_toolkit.nvcc() == str(file)


def test_an_nvcc_that_is_none_is_one_sentence(tmp_path, monkeypatch):
    file = tmp_path / "nvcc"
    file.write_text("#!/bin/sh\nexit 3\n")
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(KernelsUnavailable) as caught:
        cuda_toolkit.toolkit()
    assert str(caught.value) == (
        f"'{file}' does not say which nvcc it is (--version: exit status 3); "
        "put another on the path or name the toolkit's folder in CUDA_HOME"
    )


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            "crt/host_config.h:131:2: error: #error -- unsupported GNU version! gcc versions later than 15 are not supported!",
            "release 13.0 does not take g++ 99 as its host compiler (unsupported GNU version! gcc versions later than 15 are not "
            "supported!); name an older one in CXX",
        ),
        (
            "cuda/x.cu:1:10: fatal error: cuda_fp16.h: No such file or directory",
            "the CUDA toolkit of /opt/cuda/bin/nvcc lacks cuda_fp16.h; install the whole toolkit or name another's folder in "
            "CUDA_HOME",
        ),
        (
            "sh: 1: cicc: not found",
            "the CUDA toolkit of /opt/cuda/bin/nvcc lacks cicc; install the whole toolkit or name another's folder in CUDA_HOME",
        ),
        (
            "/usr/bin/ld: cannot find -lcudart_static: No such file or directory",
            "the CUDA toolkit of /opt/cuda/bin/nvcc lacks cudart_static; install the whole toolkit or name another's folder in "
            "CUDA_HOME",
        ),
        (
            "nvcc fatal   : Unsupported gpu architecture 'compute_70'",
            "x.cu: nvcc fatal   : Unsupported gpu architecture 'compute_70'; this was release 13.0 with g++ 99",
        ),
    ],
)
def test_what_is_missing_or_unsupported_is_one_sentence(said, sentence):
    line = complaints.complaint("x.cu", ["a note", said], TOOLS, linking=False)
    assert line == f"the native CUDA kernels cannot be built: {sentence}"


@pytest.mark.parametrize(
    ("host", "told"),
    [
        (("g++",), ["-ccbin", "g++"]),
        (("ccache", "g++"), ["-ccbin", "g++"]),
        (("g++", "-m64"), ["-ccbin", "g++", "-Xcompiler", "-m64"]),
    ],
)
def test_nvcc_is_told_one_host_compiler(host, told):
    assert cuda_toolkit.host_arguments(host) == told


@pytest.mark.parametrize(("line", "version"), [("cuda: Optional[str] = None", None), ("cuda: Optional[str] = '13.0'", "13.0")])
def test_torch_says_which_cuda_it_has(line, version, tmp_path, monkeypatch):
    (tmp_path / "version.py").write_text(f"__version__ = '2.13.0'\ndebug = False\n{line}\n")
    monkeypatch.setattr(cuda_toolkit, "torch_package", lambda: ("2.13.0", tmp_path))
    assert cuda_toolkit.torch_cuda() == version
