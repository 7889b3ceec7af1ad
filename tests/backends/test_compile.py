"""torch.compile: no compiler, a broken one, and models that it cannot take, each in one sentence. Compiles nothing itself."""

from __future__ import annotations

import pytest
import torch
from tiny_models import make_case, make_model, no_calibration

from pytest_perfq import registry
from pytest_perfq.backends import compile as compiling
from pytest_perfq.errors import BuildError, UnknownName


def build(name, model, resources):
    return registry.load("backend", name).build(make_case(name), model, resources, no_calibration)


def test_compile_without_a_compiler(monkeypatch):
    backend = registry.load("backend", "compile")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    assert backend.refuses(make_case("compile")) == [
        "torch.compile needs a C++ compiler: g++ is not on the PATH; install g++, set CXX, or use backend torchscript"
    ]


def test_compile_with_a_compiler_that_does_not_work(monkeypatch, tmp_path):
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\necho 'fatal error: omp.h: No such file' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    reasons = registry.load("backend", "compile").refuses(make_case("compile"))
    assert reasons == [
        f"torch.compile needs a C++ compiler: {broken} fails (fatal error: omp.h: No such file); "
        "install g++, set CXX, or use backend torchscript"
    ]


def test_compile_modes():
    backend = registry.load("backend", "compile")
    assert backend.refuses(make_case("compile[mode=reduce-overhead]")) == []
    with pytest.raises(UnknownName, match="unknown mode of backend compile 'max-autotun'; did you mean 'max-autotune'"):
        backend.refuses(make_case("compile[mode=max-autotun]"))


def test_compile_on_cuda_needs_triton(monkeypatch):
    monkeypatch.setattr(compiling, "find_spec", lambda name: None)
    assert compiling._compiler("cuda") == [
        "torch.compile on cuda needs triton, which is not installed: install triton or use backend torchscript"
    ]


def test_what_cannot_be_compiled_is_a_sentence(resources, monkeypatch):
    def broken(module, **options):
        assert options == {"mode": "default", "dynamic": True, "fullgraph": True}

        def call(**feed):
            raise ValueError("Unsupported: a print\nfrom user code")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(BuildError) as caught:
        build("compile", make_model("bert", "question-answering"), resources)
    assert str(caught.value) == "tiny:bert cannot be compiled: Unsupported: a print; use backend torchscript or eager"


@pytest.mark.parametrize(("mode", "without"), compiling.GRAPH_MODES.items())
def test_a_mode_that_promises_graphs_and_records_none_is_an_error(mode, without, bert, resources, monkeypatch):
    """Inductor leaves a graph out with a line in a log; the time of such a program is not that of its name."""
    skips = iter([3, 5])
    monkeypatch.setattr(compiling, "_left_out", lambda: next(skips))
    monkeypatch.setattr(torch, "compile", lambda module, **options: module)
    monkeypatch.setattr(compiling._torch, "place", lambda model, case, resources: (model.module, Cuda()))
    monkeypatch.setattr(compiling._check, "faithful", lambda *given: 0.0)
    program = type("P", (), {"predict": None, "facts": {}})()
    monkeypatch.setattr(compiling._torch, "TorchProgram", lambda *given: program)
    with pytest.raises(BuildError) as caught:
        compiling.BACKEND.build(make_case(f"compile[mode={mode}]"), bert, resources, no_calibration)
    assert str(caught.value) == (
        f"mode {mode} of backend compile promises CUDA graphs, and Inductor recorded none of 2 graphs; "
        f"use mode {without}, which promises none"
    )


class Cuda:
    type = "cuda"
